-- Queue a turn that failed for another attempt, if it is the newest and has one left.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :max_attempts integer
-- :feed uuid
-- :content text
-- :expected bigint
-- :tools text

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions,
    conversation.agent AS agent,
    conversation.labels AS labels,
    conversation.queue_length AS queue_length,
    conversation.queue_number AS queue_number
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), requeued AS (
  UPDATE turn SET state = CASE WHEN (
    turn.state = 'FAILED'
  ) THEN 'QUEUED' ELSE turn.state END, is_started = TRUE
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND (
      turn.state = 'FAILED' OR turn.state = 'RUNNING'
    )
    AND NOT turn.is_started
    AND turn.cancel_requested_time IS NULL
    AND turn.user_sequence > 0
    AND GREATEST(
      turn.spent_attempts + CASE
        WHEN (
          turn.error_reason IN ('CALLER_LOST', 'WORKER_DRAINED')
        )
        THEN 0
        ELSE 1
      END,
      0
    ) < :max_attempts
    AND turn.user_sequence = held.last_sequence
    AND (
      held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
    )
  RETURNING turn.id, turn.attempt, turn.state, held.lease_expires_at
), noted AS (
  UPDATE conversation SET fence = (
    conversation.fence + 1
  ), queue_length = (
    conversation.queue_length + 1
  ), queue_number = (
    conversation.queue_number + 1
  )
  FROM requeued
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND requeued.id = :turn
), fed AS (
  INSERT INTO turn_feed (
    owner_id,
    xid,
    turn_id,
    tenant,
    attempt,
    error_reason,
    end_time
  )
  SELECT
    :owner,
    CAST(CAST(PG_CURRENT_XACT_ID() AS TEXT) AS BIGINT),
    requeued.id AS id,
    :feed,
    requeued.attempt AS attempt,
    'TURN_ABANDONED',
    COALESCE(requeued.lease_expires_at, CURRENT_TIMESTAMP) AS coalesce_1
  FROM requeued
  WHERE
    :feed IS NOT NULL AND requeued.state = 'RUNNING'
), queued AS (
  INSERT INTO turn_queue (
    owner_id,
    turn_id,
    conversation_id,
    position,
    message,
    expected_sequence,
    tenant,
    tools
  )
  SELECT
    :owner,
    requeued.id AS id,
    :conversation,
    0,
    :content,
    :expected,
    :feed,
    :tools
  FROM requeued
), due AS (
  INSERT INTO queue_due (
    owner_id,
    conversation_id,
    turns
  )
  SELECT
    :owner,
    :conversation,
    1
  FROM requeued
  ON CONFLICT (owner_id, conversation_id) DO UPDATE SET turns = (
    queue_due.turns + 1
  )
)
SELECT
  requeued.id
FROM requeued

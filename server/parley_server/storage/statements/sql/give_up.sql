-- End a started turn that has no attempt left, and that no worker runs.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :feed uuid

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
    conversation.queue_number AS queue_number,
    CURRENT_TIMESTAMP AS now
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), ended AS (
  UPDATE turn SET state = 'FAILED', is_started = FALSE, error_reason = COALESCE(turn.error_reason, 'TURN_ABANDONED'), error_text = COALESCE(turn.error_text, 'the worker that ran the turn went away'), end_time = COALESCE(turn.end_time, held.now)
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND turn.is_started
    AND turn.user_sequence > 0
    AND turn.state IN ('RUNNING', 'QUEUED')
    AND (
      held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
    )
    AND held.queue_length > 0
  RETURNING turn.id, turn.attempt, turn.error_reason, turn.end_time, turn.agent, turn.is_counted, held.labels AS labels
), freed AS (
  UPDATE conversation SET open_turn_id = CASE
    WHEN (
      conversation.open_turn_id = ended.id
    )
    THEN NULL
    ELSE conversation.open_turn_id
  END, lease_expires_at = CASE
    WHEN (
      conversation.open_turn_id = ended.id
    )
    THEN NULL
    ELSE conversation.lease_expires_at
  END, queue_length = (
    conversation.queue_length - 1
  ), queue_number = (
    conversation.queue_number + 1
  )
  FROM ended
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND ended.id = :turn
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
    ended.id AS id,
    :feed,
    ended.attempt AS attempt,
    ended.error_reason AS error_reason,
    ended.end_time AS end_time
  FROM ended
  WHERE
    :feed IS NOT NULL
), removed AS (
  DELETE FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND turn_queue.turn_id = (
      SELECT
        ended.id
      FROM ended
    )
), next_due AS (
  UPDATE queue_due SET due_time = CURRENT_TIMESTAMP, turns = (
    queue_due.turns - 1
  ), accept_time = COALESCE(
    (
      SELECT
        turn_queue.accept_time
      FROM turn_queue
      WHERE
        turn_queue.owner_id = :owner
        AND turn_queue.conversation_id = :conversation
        AND turn_queue.turn_id <> (
          SELECT
            ended.id
          FROM ended
        )
      ORDER BY
        turn_queue.position
      LIMIT 1
    ),
    queue_due.accept_time
  )
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND (
      SELECT
        ended.id
      FROM ended
    ) IS NOT NULL
    AND (
      SELECT
        held.queue_length
      FROM held
    ) > 1
), none_due AS (
  DELETE FROM queue_due
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND (
      SELECT
        ended.id
      FROM ended
    ) IS NOT NULL
    AND (
      SELECT
        held.queue_length
      FROM held
    ) <= 1
), counted AS (
  INSERT INTO usage_day (
    owner_id,
    day,
    agent,
    labels_digest,
    slot,
    labels,
    attempts,
    failed_attempts
  )
  SELECT
    :owner,
    CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE),
    ended.agent AS agent,
    CAST(MD5(COALESCE(ended.labels, '')) AS UUID) AS md5_1,
    GET_BYTE(UUID_SEND(:conversation), 15) & 15,
    ended.labels AS labels,
    CASE WHEN ended.is_counted THEN 0 ELSE 1 END,
    CASE WHEN ended.is_counted THEN 0 ELSE 1 END
  FROM ended
  WHERE
    ended.error_reason = 'TURN_ABANDONED'
  ON CONFLICT (owner_id, day, agent, labels_digest, slot) DO UPDATE SET attempts = (
    usage_day.attempts + excluded.attempts
  ), failed_attempts = (
    usage_day.failed_attempts + excluded.failed_attempts
  )
)
SELECT
  ended.id
FROM ended

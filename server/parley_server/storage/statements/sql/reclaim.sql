-- Take a failed or abandoned turn for a new attempt, if it is the newest and has one left.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :max_attempts integer
-- :lease interval
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
    conversation.queue_number AS queue_number
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), retaken AS (
  UPDATE turn SET state = 'RUNNING', attempt = (
    turn.attempt + 1
  ), attempt_time = CURRENT_TIMESTAMP, attempts = (
    CASE
      WHEN (
        JSONB_ARRAY_LENGTH(COALESCE(turn.attempts, CAST('[]' AS JSONB))) >= 20
      )
      THEN COALESCE(turn.attempts, CAST('[]' AS JSONB)) - 0
      ELSE COALESCE(turn.attempts, CAST('[]' AS JSONB))
    END || (
      SELECT
        JSONB_BUILD_ARRAY(
          JSONB_BUILD_OBJECT(
            'number',
            turn.attempt,
            'start_time',
            turn.attempt_time,
            'end_time',
            CASE
              WHEN (
                CASE
                  WHEN (
                    turn.state = 'RUNNING'
                  )
                  THEN 'TURN_ABANDONED'
                  ELSE turn.error_reason
                END = 'TURN_ABANDONED'
              )
              THEN NULL
              ELSE turn.end_time
            END,
            'reason',
            CASE
              WHEN (
                turn.state = 'RUNNING'
              )
              THEN 'TURN_ABANDONED'
              ELSE turn.error_reason
            END
          )
        ) AS jsonb_build_array_1
    )
  ), spent_attempts = GREATEST(
    turn.spent_attempts + CASE
      WHEN (
        turn.error_reason IN ('CALLER_LOST', 'WORKER_DRAINED')
      )
      THEN 0
      ELSE 1
    END,
    0
  ), abandoned_attempts = CASE WHEN (
    turn.state = 'RUNNING'
  ) THEN turn.abandoned_attempts + 1 ELSE 0 END, is_counted = FALSE, error_reason = NULL, error_text = NULL, end_time = NULL
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND (
      turn.state = 'RUNNING'
      OR turn.state = 'FAILED'
      OR turn.state = 'QUEUED'
      AND turn.user_sequence > 0
    )
    AND turn.cancel_requested_time IS NULL
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
  RETURNING turn.id, turn.attempt, turn.abandoned_attempts, turn.is_started, held.lease_expires_at, turn.agent, turn.is_counted, held.labels AS labels
), taken AS (
  UPDATE conversation SET fence = (
    conversation.fence + 1
  ), open_turn_id = retaken.id, lease_expires_at = (
    CURRENT_TIMESTAMP + :lease
  ), update_time = CURRENT_TIMESTAMP
  FROM retaken
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND retaken.id = :turn
  RETURNING conversation.labels
), labelled AS (
  INSERT INTO conversation_label (
    owner_id,
    conversation_id,
    key,
    value,
    update_time
  )
  SELECT
    :owner,
    :conversation,
    pairs.key AS key,
    pairs.value AS value,
    CURRENT_TIMESTAMP AS now_1
  FROM taken
  JOIN LATERAL JSON_EACH_TEXT(CAST(taken.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
), events_gone AS (
  DELETE FROM turn_event USING   retaken
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id = :turn
    AND retaken.id = turn_event.turn_id
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
    retaken.agent AS agent,
    CAST(MD5(COALESCE(retaken.labels, '')) AS UUID) AS md5_1,
    GET_BYTE(UUID_SEND(:conversation), 15) & 15,
    retaken.labels AS labels,
    CASE WHEN retaken.is_counted THEN 0 ELSE 1 END,
    CASE WHEN retaken.is_counted THEN 0 ELSE 1 END
  FROM retaken
  WHERE
    retaken.abandoned_attempts > 0
  ON CONFLICT (owner_id, day, agent, labels_digest, slot) DO UPDATE SET attempts = (
    usage_day.attempts + excluded.attempts
  ), failed_attempts = (
    usage_day.failed_attempts + excluded.failed_attempts
  )
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
    retaken.id AS id,
    :feed,
    retaken.attempt - 1,
    'TURN_ABANDONED',
    COALESCE(retaken.lease_expires_at, CURRENT_TIMESTAMP) AS coalesce_1
  FROM retaken
  WHERE
    :feed IS NOT NULL AND retaken.abandoned_attempts > 0 AND NOT retaken.is_started
)
SELECT
  retaken.attempt,
  held.fence + 1,
  held.instructions,
  retaken.is_started
FROM held, retaken

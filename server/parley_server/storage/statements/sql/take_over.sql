-- Take an abandoned turn that is to be stopped, to close it without another attempt.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :lease interval

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
), retaken AS (
  UPDATE turn SET state = 'RUNNING', attempts = (
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
  ), cancel_requested_time = COALESCE(turn.cancel_requested_time, held.now), is_counted = (
    turn.is_counted
    OR turn.state = 'FAILED'
    OR turn.state = 'QUEUED'
    AND turn.user_sequence > 0
  ), error_reason = NULL, error_text = NULL, end_time = NULL
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND (
      turn.state = 'RUNNING'
      OR turn.state = 'QUEUED'
      AND turn.user_sequence > 0
      OR turn.state = 'FAILED'
      AND (
        turn.cancel_requested_time IS NOT NULL OR turn.error_reason = 'TURN_ABANDONED'
      )
    )
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
  )
  FROM retaken
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND retaken.id = :turn
  RETURNING conversation.labels
)
SELECT
  retaken.attempt,
  held.fence + 1,
  held.instructions,
  retaken.is_started
FROM held, retaken

-- Take a turn that waits, to close it without another attempt.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :fence bigint
-- :only_if_over boolean
-- :lease interval
-- :why text

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
  UPDATE turn SET state = 'RUNNING', cancel_requested_time = COALESCE(turn.cancel_requested_time, held.now)
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND turn.state = 'WAITING'
    AND held.fence = :fence
    AND held.open_turn_id = :turn
    AND (
      NOT :only_if_over
      OR (
        SELECT
          turn_wait.end_time
        FROM turn_wait
        WHERE
          turn_wait.owner_id = :owner AND turn_wait.turn_id = :turn
      ) <= CURRENT_TIMESTAMP
    )
  RETURNING turn.id, turn.attempt, turn.is_started
), taken AS (
  UPDATE conversation SET fence = (
    conversation.fence + 1
  ), lease_expires_at = (
    CURRENT_TIMESTAMP + :lease
  )
  FROM retaken
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND retaken.id = :turn
  RETURNING conversation.labels
), noted AS (
  UPDATE turn_wait SET ended_by = :why
  FROM retaken
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id = :turn
    AND retaken.id = :turn
), due_again AS (
  UPDATE wait_due SET due_time = (
    CURRENT_TIMESTAMP + :lease
  )
  FROM retaken
  WHERE
    wait_due.owner_id = :owner
    AND wait_due.turn_id = :turn
    AND retaken.id = :turn
), queue_looked_at AS (
  UPDATE queue_due SET due_time = (
    CURRENT_TIMESTAMP + :lease
  )
  FROM retaken
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND retaken.id = :turn
)
SELECT
  retaken.attempt,
  held.fence + 1,
  held.instructions,
  retaken.is_started
FROM held
JOIN retaken
  ON TRUE

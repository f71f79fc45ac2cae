-- End the attempt as failed, unless the turn is to be stopped; return which of the two.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :reason text
-- :text text
-- :turn uuid
-- :fence bigint

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), ended AS (
  UPDATE turn SET state = 'FAILED', error_reason = :reason, error_text = :text, end_time = CURRENT_TIMESTAMP
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND held.fence = :fence
    AND held.open_turn_id = turn.id
    AND turn.cancel_requested_time IS NULL
  RETURNING turn.id, turn.response_sequence
), freed AS (
  UPDATE conversation SET open_turn_id = NULL, lease_expires_at = NULL
  FROM ended
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND ended.id = conversation.open_turn_id
)
SELECT
  ended.id IS NULL
FROM held
LEFT OUTER JOIN ended
  ON TRUE
WHERE
  held.fence = :fence AND held.open_turn_id = :turn

-- Move the lease's end, and return whether the turn is to be stopped.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :lease interval
-- :owner uuid
-- :conversation uuid
-- :fence bigint
-- :turn uuid

UPDATE conversation SET lease_expires_at = (
  CURRENT_TIMESTAMP + :lease
)
WHERE
  conversation.owner_id = :owner
  AND conversation.id = :conversation
  AND conversation.fence = :fence
  AND conversation.open_turn_id = :turn
RETURNING (
  SELECT
    turn.cancel_requested_time IS NOT NULL
  FROM turn
  WHERE
    turn.owner_id = :owner AND turn.id = :turn
)

-- Record that a turn is to be stopped.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :turn uuid

UPDATE turn SET cancel_requested_time = CURRENT_TIMESTAMP
WHERE
  turn.owner_id = :owner AND turn.id = :turn AND turn.state = 'RUNNING'
RETURNING turn.id

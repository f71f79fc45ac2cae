-- Have a turn that has ended not looked at any more.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :turn uuid

DELETE FROM wait_due
WHERE
  wait_due.owner_id = :owner
  AND wait_due.turn_id = :turn
  AND wait_due.due_time <= CURRENT_TIMESTAMP
RETURNING wait_due.turn_id

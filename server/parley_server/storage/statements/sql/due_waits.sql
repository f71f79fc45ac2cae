-- Read which turns have waited for too long, of any owner.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  wait_due.owner_id,
  wait_due.conversation_id,
  wait_due.turn_id
FROM wait_due
WHERE
  wait_due.due_time <= CURRENT_TIMESTAMP
ORDER BY
  wait_due.due_time
LIMIT :limit

-- Read which turn of a conversation's queue is the first.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

SELECT
  turn_queue.turn_id,
  turn_queue.accept_time,
  queue_due.due_time
FROM turn_queue
JOIN queue_due
  ON queue_due.owner_id = :owner
  AND queue_due.conversation_id = turn_queue.conversation_id
WHERE
  turn_queue.owner_id = :owner AND turn_queue.conversation_id = :conversation
ORDER BY
  turn_queue.position
LIMIT 1

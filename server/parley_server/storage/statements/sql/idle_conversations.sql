-- Read and lock an owner's conversations that were idle for too long.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :age interval
-- :limit integer

SELECT
  conversation.id
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND conversation.delete_time IS NULL
  AND (
    conversation.open_turn_id IS NULL
    OR conversation.lease_expires_at <= CURRENT_TIMESTAMP
  )
  AND conversation.queue_length = 0
  AND conversation.update_time > CAST('epoch' AS TIMESTAMPTZ)
  AND conversation.update_time <= CURRENT_TIMESTAMP - :age
ORDER BY
  conversation.update_time,
  conversation.id
LIMIT :limit
  FOR UPDATE SKIP LOCKED

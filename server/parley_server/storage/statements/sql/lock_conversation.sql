-- Lock a conversation, so that what follows in the transaction sees all that was done before.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

SELECT
  conversation.id
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND conversation.id = :conversation
  AND conversation.delete_time IS NULL
  FOR UPDATE

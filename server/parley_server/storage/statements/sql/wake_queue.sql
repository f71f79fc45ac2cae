-- Have a conversation's queue looked at now.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

UPDATE queue_due SET due_time = CURRENT_TIMESTAMP
WHERE
  queue_due.owner_id = :owner AND queue_due.conversation_id = :conversation
RETURNING queue_due.conversation_id

-- Read which messages a request id has added.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

SELECT
  addition.conversation_id,
  addition.fingerprint,
  addition.first_sequence,
  addition.last_sequence,
  conversation.id IS NOT NULL AS is_there
FROM addition
LEFT OUTER JOIN conversation
  ON conversation.owner_id = :owner
  AND conversation.id = addition.conversation_id
  AND conversation.delete_time IS NULL
WHERE
  addition.owner_id = :owner AND addition.request_id = :request

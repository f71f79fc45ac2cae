-- Read which deleted conversation a request id was used in.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

SELECT
  turn.conversation_id
FROM turn
JOIN conversation
  ON conversation.owner_id = :owner AND conversation.id = turn.conversation_id
WHERE
  turn.owner_id = :owner
  AND turn.request_id = :request
  AND conversation.delete_time IS NOT NULL

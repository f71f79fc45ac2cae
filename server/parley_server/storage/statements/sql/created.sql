-- Read which conversation a request id has created.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

SELECT
  creation.conversation_id,
  creation.fingerprint
FROM creation
WHERE
  creation.owner_id = :owner AND creation.request_id = :request

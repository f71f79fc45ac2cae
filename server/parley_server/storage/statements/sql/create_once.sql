-- Note that a request id creates a conversation, unless it has done so before.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text
-- :fingerprint bytea
-- :conversation uuid

INSERT INTO creation (
  owner_id,
  request_id,
  fingerprint,
  conversation_id
)
VALUES
  (:owner, :request, :fingerprint, :conversation)
  ON CONFLICT (owner_id, request_id) DO NOTHING
RETURNING creation.conversation_id

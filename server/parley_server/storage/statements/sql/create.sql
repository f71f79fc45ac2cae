-- Create a conversation under an id of the caller's, unless it is there.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :tenant text
-- :user text
-- :title text

INSERT INTO conversation (
  owner_id,
  id,
  tenant_id,
  user_id,
  title,
  last_sequence,
  preview,
  fence
)
VALUES
  (:owner, :conversation, :tenant, :user, :title, 0, '', 0)
  ON CONFLICT (owner_id, id) DO NOTHING

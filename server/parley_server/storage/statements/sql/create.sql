-- CREATE: Create a conversation under an id of the caller's, unless it is there.
-- Rendered by `make gen`. DO NOT EDIT.

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
  (%(owner)s, %(conversation)s, %(tenant)s, %(user)s, %(title)s, 0, '', 0) ON CONFLICT(owner_id, id) DO NOTHING;

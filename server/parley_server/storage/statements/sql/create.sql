-- Create a conversation under an id of the caller's, unless it is there.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :tenant text
-- :user text
-- :title text

WITH noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM (
    SELECT
      COUNT(*) AS count_1
    FROM conversation
    WHERE
      conversation.owner_id = :owner AND conversation.id = :conversation
  ) AS one_row
  ON CONFLICT (owner_id) DO NOTHING
)
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

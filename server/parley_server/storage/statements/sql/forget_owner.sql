-- Remove the note that an owner has conversations, if it has none.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid

DELETE FROM owner
WHERE
  owner.owner_id = :owner
  AND NOT (
    EXISTS(
      SELECT
        1
      FROM conversation
      WHERE
        conversation.owner_id = :owner
    )
  )

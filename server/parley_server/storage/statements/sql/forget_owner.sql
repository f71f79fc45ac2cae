-- Remove the note that an owner has conversations, if it has none.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

WITH gone AS (
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
)
SELECT
  CURRENT_TIMESTAMP AS now_1
FROM erasure
WHERE
  erasure.owner_id = :owner AND erasure.request_id = :request

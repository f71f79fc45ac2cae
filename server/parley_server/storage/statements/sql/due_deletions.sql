-- Read which deleted conversations something is due about, of any owner.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  deletion.owner_id,
  deletion.conversation_id,
  deletion.stage
FROM deletion
WHERE
  deletion.due_time <= CURRENT_TIMESTAMP
ORDER BY
  deletion.due_time
LIMIT :limit

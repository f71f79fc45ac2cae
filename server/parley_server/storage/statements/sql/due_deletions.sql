-- Read which deleted conversations something is due about, each owner's first ones first.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  oldest.owner_id,
  oldest.conversation_id,
  oldest.stage
FROM (
  SELECT
    deletion.owner_id AS owner_id,
    deletion.conversation_id AS conversation_id,
    deletion.stage AS stage,
    deletion.due_time AS due_time
  FROM deletion
  WHERE
    deletion.due_time <= CURRENT_TIMESTAMP
  ORDER BY
    deletion.due_time
  LIMIT 10000
) AS oldest
ORDER BY
  ROW_NUMBER() OVER (PARTITION BY oldest.owner_id ORDER BY oldest.due_time, oldest.conversation_id),
  oldest.due_time
LIMIT :limit

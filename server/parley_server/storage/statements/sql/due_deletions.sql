-- Read which deleted conversations something is due about, each owner's first ones first.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  due.owner_id,
  due.conversation_id,
  due.stage
FROM (
  SELECT
    deletion.owner_id AS owner_id,
    deletion.conversation_id AS conversation_id,
    deletion.stage AS stage,
    deletion.due_time AS due_time,
    ROW_NUMBER() OVER (
      PARTITION BY deletion.owner_id
      ORDER BY deletion.due_time, deletion.conversation_id
    ) AS rank
  FROM deletion
  WHERE
    deletion.due_time <= CURRENT_TIMESTAMP
) AS due
ORDER BY
  due.rank,
  due.due_time
LIMIT :limit

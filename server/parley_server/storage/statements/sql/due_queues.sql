-- Read where a started turn may begin, of any owner, each owner's first ones first.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  due.owner_id,
  due.conversation_id
FROM (
  SELECT
    queue_due.owner_id AS owner_id,
    queue_due.conversation_id AS conversation_id,
    queue_due.due_time AS due_time,
    ROW_NUMBER() OVER (
      PARTITION BY queue_due.owner_id
      ORDER BY queue_due.due_time, queue_due.conversation_id
    ) AS rank
  FROM queue_due
  WHERE
    queue_due.due_time <= CURRENT_TIMESTAMP
) AS due
ORDER BY
  due.rank,
  due.due_time
LIMIT :limit

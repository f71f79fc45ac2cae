-- Read how many started turns have not ended, of all owners, and how old the oldest is, in seconds.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  COALESCE(SUM("some".turns), 0) AS coalesce_1,
  COALESCE(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP - MIN("some".accept_time)), 0) AS coalesce_2
FROM (
  SELECT
    queue_due.turns AS turns,
    queue_due.accept_time AS accept_time
  FROM queue_due
  ORDER BY
    queue_due.due_time
  LIMIT :limit
) AS "some"

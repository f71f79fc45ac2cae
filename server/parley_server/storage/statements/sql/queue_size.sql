-- Read how many started turns of all owners have not ended, and the seconds since the oldest.
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

-- Read what is left of all owners: started turns, without those behind one that waits, seconds since the oldest, and turns that wait.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  COALESCE(SUM("some".turns), 0) AS coalesce_1,
  COALESCE(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP - MIN("some".accept_time)), 0) AS coalesce_2,
  (
    SELECT
      COUNT(*) AS count_1
    FROM (
      SELECT
        wait_due.turn_id AS turn_id
      FROM wait_due
      LIMIT :limit
    ) AS waiting
  )
FROM (
  SELECT
    queue_due.turns AS turns,
    queue_due.accept_time AS accept_time
  FROM queue_due
  WHERE
    queue_due.due_time < CAST('9999-12-31' AS TIMESTAMPTZ)
  ORDER BY
    queue_due.due_time
  LIMIT :limit
) AS "some"

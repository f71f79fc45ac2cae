-- Read which erasures are under way, of any owner.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :limit integer

SELECT
  erasure.owner_id,
  erasure.request_id,
  erasure.start_time,
  erasure.hide_time,
  erasure.end_time,
  erasure.conversations,
  erasure.messages,
  erasure.turns
FROM erasure
WHERE
  erasure.end_time IS NULL
  AND NOT (
    EXISTS(
      SELECT
        1
      FROM erasure AS before
      WHERE
        before.owner_id = erasure.owner_id
        AND before.end_time IS NULL
        AND (before.start_time, before.request_id) < (erasure.start_time, erasure.request_id)
    )
  )
ORDER BY
  erasure.start_time
LIMIT :limit

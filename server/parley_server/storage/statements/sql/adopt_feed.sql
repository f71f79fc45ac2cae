-- Begin the feed anew on another server than the one that it was written on.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :epoch uuid

UPDATE feed_state SET epoch = :epoch, system_identifier = (
  SELECT
    system_identifier
  FROM PG_CONTROL_SYSTEM()
), begin_time = CURRENT_TIMESTAMP, removed_xid = 0
WHERE
  feed_state.system_identifier IS DISTINCT FROM (
    SELECT
      system_identifier
    FROM PG_CONTROL_SYSTEM()
  )
RETURNING (
  SELECT
    before.system_identifier
  FROM feed_state AS before
)

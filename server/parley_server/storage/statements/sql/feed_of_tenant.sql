-- Read what comes next in the feed of a tenant, and how far it is safe to tell.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :feed uuid
-- :after_xid bigint
-- :after_turn uuid
-- :limit integer

SELECT
  feed_state.epoch,
  feed_state.removed_xid,
  CAST(CAST(PG_SNAPSHOT_XMIN(PG_CURRENT_SNAPSHOT()) AS TEXT) AS BIGINT) AS horizon,
  CAST(CAST(PG_SNAPSHOT_XMAX(PG_CURRENT_SNAPSHOT()) AS TEXT) AS BIGINT) AS next_xid,
  page.owner_id,
  page.xid,
  page.turn_id,
  page.attempt,
  page.error_reason,
  page.end_time,
  page.is_waiting
FROM feed_state
LEFT OUTER JOIN (
  SELECT
    turn_feed.owner_id AS owner_id,
    turn_feed.xid AS xid,
    turn_feed.turn_id AS turn_id,
    turn_feed.attempt AS attempt,
    turn_feed.error_reason AS error_reason,
    turn_feed.end_time AS end_time,
    turn_feed.is_waiting AS is_waiting
  FROM turn_feed
  WHERE
    turn_feed.tenant = :feed
    AND (turn_feed.xid, turn_feed.turn_id) > (:after_xid, :after_turn)
    AND turn_feed.create_time >= (
      SELECT
        feed_state.begin_time
      FROM feed_state
    )
  ORDER BY
    turn_feed.xid,
    turn_feed.turn_id
  LIMIT :limit
) AS page
  ON TRUE
ORDER BY
  page.xid,
  page.turn_id

-- Remove rows of the feed that are older than they are kept, of any owner.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :keep interval
-- :limit integer

WITH RECURSIVE tenants(tenant) AS (
  SELECT
    (
      SELECT
        turn_feed.tenant
      FROM turn_feed
      ORDER BY
        turn_feed.tenant
      LIMIT 1
    ) AS tenant
  UNION ALL
  SELECT
    (
      SELECT
        following.tenant
      FROM turn_feed AS following
      WHERE
        following.tenant > tenants.tenant
      ORDER BY
        following.tenant
      LIMIT 1
    )
  FROM tenants
  WHERE
    tenants.tenant IS NOT NULL
), "old" AS (
  SELECT
    oldest.owner_id AS owner_id,
    oldest.xid AS xid,
    oldest.turn_id AS turn_id
  FROM tenants
  JOIN LATERAL (
    SELECT
      fed.owner_id AS owner_id,
      fed.xid AS xid,
      fed.turn_id AS turn_id
    FROM turn_feed AS fed
    WHERE
      fed.tenant = tenants.tenant
      AND fed.create_time < CURRENT_TIMESTAMP - :keep
      AND (
        SELECT
          first.create_time
        FROM turn_feed AS first
        WHERE
          first.tenant = tenants.tenant
        ORDER BY
          first.xid
        LIMIT 1
      ) < CURRENT_TIMESTAMP - :keep
    ORDER BY
      fed.xid
    LIMIT :limit
  FOR UPDATE SKIP LOCKED
  ) AS oldest
    ON TRUE
  LIMIT :limit
), gone AS (
  DELETE FROM turn_feed
  WHERE
    (turn_feed.owner_id, turn_feed.xid, turn_feed.turn_id) IN (
      SELECT
        "old".owner_id,
        "old".xid,
        "old".turn_id
      FROM "old"
    )
  RETURNING turn_feed.xid
), noted AS (
  UPDATE feed_state SET removed_xid = CASE
    WHEN (
      INTERVAL '0' = :keep
    )
    THEN CAST(CAST(PG_SNAPSHOT_XMIN(PG_CURRENT_SNAPSHOT()) AS TEXT) AS BIGINT)
    ELSE COALESCE((
      SELECT
        MAX(gone.xid) AS max_1
      FROM gone
    ), 0)
  END
  WHERE
    feed_state.removed_xid < CASE
      WHEN (
        INTERVAL '0' = :keep
      )
      THEN CAST(CAST(PG_SNAPSHOT_XMIN(PG_CURRENT_SNAPSHOT()) AS TEXT) AS BIGINT)
      ELSE COALESCE((
        SELECT
          MAX(gone.xid) AS max_1
        FROM gone
      ), 0)
    END
)
SELECT
  COUNT(*) AS count_1
FROM gone

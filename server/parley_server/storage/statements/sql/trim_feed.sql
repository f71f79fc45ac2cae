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
    oldest.place AS place
  FROM tenants
  JOIN LATERAL (
    SELECT
      oldest_row.ctid AS place
    FROM turn_feed AS oldest_row
    WHERE
      oldest_row.tenant = tenants.tenant
      AND (
        SELECT
          oldest_first.create_time
        FROM turn_feed AS oldest_first
        WHERE
          oldest_first.tenant = tenants.tenant
        ORDER BY
          oldest_first.xid
        LIMIT 1
      ) < CURRENT_TIMESTAMP - :keep
      AND oldest_row.xid <= (
        SELECT
          MAX(oldest_some.xid) AS max_2
        FROM (
          SELECT
            oldest_looked_at.xid AS xid
          FROM turn_feed AS oldest_looked_at
          WHERE
            oldest_looked_at.tenant = tenants.tenant
          ORDER BY
            oldest_looked_at.xid
          LIMIT :limit
        ) AS oldest_some
      )
      AND oldest_row.create_time < CURRENT_TIMESTAMP - :keep
    ORDER BY
      oldest_row.xid
    LIMIT :limit
  FOR UPDATE SKIP LOCKED
  ) AS oldest
    ON TRUE
  UNION ALL
  SELECT
    strange.place AS place
  FROM tenants
  JOIN LATERAL (
    SELECT
      strange_row.ctid AS place
    FROM turn_feed AS strange_row
    WHERE
      strange_row.tenant = tenants.tenant
      AND (
        SELECT
          strange_first.create_time
        FROM turn_feed AS strange_first
        WHERE
          strange_first.tenant = tenants.tenant
        ORDER BY
          strange_first.xid DESC
        LIMIT 1
      ) < (
        SELECT
          feed_state.begin_time
        FROM feed_state
      )
      AND strange_row.xid >= (
        SELECT
          MIN(strange_some.xid) AS min_1
        FROM (
          SELECT
            strange_looked_at.xid AS xid
          FROM turn_feed AS strange_looked_at
          WHERE
            strange_looked_at.tenant = tenants.tenant
          ORDER BY
            strange_looked_at.xid DESC
          LIMIT :limit
        ) AS strange_some
      )
      AND strange_row.create_time < (
        SELECT
          feed_state.begin_time
        FROM feed_state
      )
    ORDER BY
      strange_row.xid DESC
    LIMIT :limit
  FOR UPDATE SKIP LOCKED
  ) AS strange
    ON TRUE
  LIMIT :limit
), gone AS (
  DELETE FROM turn_feed
  WHERE
    turn_feed.ctid = ANY(
      ARRAY((
        SELECT
          "old".place
        FROM "old"
      ))
    )
  RETURNING turn_feed.xid, turn_feed.create_time
), noted AS (
  UPDATE feed_state SET removed_xid = CASE
    WHEN (
      INTERVAL '0' = :keep
    )
    THEN CAST(CAST(PG_SNAPSHOT_XMIN(PG_CURRENT_SNAPSHOT()) AS TEXT) AS BIGINT)
    ELSE COALESCE(
      (
        SELECT
          MAX(gone.xid) AS max_1
        FROM gone
        WHERE
          gone.create_time >= (
            SELECT
              feed_state.begin_time
            FROM feed_state
          )
      ),
      0
    )
  END
  WHERE
    feed_state.removed_xid < CASE
      WHEN (
        INTERVAL '0' = :keep
      )
      THEN CAST(CAST(PG_SNAPSHOT_XMIN(PG_CURRENT_SNAPSHOT()) AS TEXT) AS BIGINT)
      ELSE COALESCE(
        (
          SELECT
            MAX(gone.xid) AS max_1
          FROM gone
          WHERE
            gone.create_time >= (
              SELECT
                feed_state.begin_time
              FROM feed_state
            )
        ),
        0
      )
    END
)
SELECT
  COUNT(*) AS count_1
FROM gone

-- Read whether all transactions of workers that were open at a time have ended.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :until timestamp with time zone

SELECT
  NOT (
    EXISTS(
      SELECT
        1
      FROM pg_stat_activity
      WHERE
        pg_stat_activity.datname = CURRENT_DATABASE()
        AND pg_stat_activity.usename = CURRENT_USER
        AND pg_stat_activity.application_name LIKE 'parley-%'
        AND pg_stat_activity.xact_start <= CAST(:until AS TIMESTAMPTZ)
    )
  )

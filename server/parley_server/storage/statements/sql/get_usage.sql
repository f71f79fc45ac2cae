-- Read what an owner's turns used, by day and, if asked for, by agent and label.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :by_agent boolean
-- :by_label text
-- :owner uuid
-- :first_day date
-- :last_day date
-- :labels text
-- :limit integer

SELECT
  usage_day.day,
  CASE WHEN :by_agent THEN usage_day.agent ELSE '' END AS agent,
  COALESCE(CAST(usage_day.labels AS JSON) ->> :by_label, '') AS label_value,
  CAST(SUM(usage_day.input_tokens) AS BIGINT) AS sum_1,
  CAST(SUM(usage_day.output_tokens) AS BIGINT) AS sum_2,
  CAST(SUM(usage_day.cached_input_tokens) AS BIGINT) AS sum_3,
  LEAST(CAST(SUM(usage_day.model_requests) AS BIGINT), 2147483647) AS least_1,
  CAST(SUM(usage_day.turns) AS BIGINT) AS sum_4,
  CAST(SUM(usage_day.attempts) AS BIGINT) AS sum_5,
  CAST(SUM(usage_day.failed_attempts) AS BIGINT) AS sum_6
FROM usage_day
WHERE
  usage_day.owner_id = :owner
  AND usage_day.day >= COALESCE(
    CAST(:first_day AS DATE),
    COALESCE(
      CAST(:last_day AS DATE),
      CAST((
        CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
      ) AS DATE)
    ) - 30
  )
  AND usage_day.day <= COALESCE(
    CAST(:last_day AS DATE),
    CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE)
  )
  AND NOT (
    EXISTS(
      SELECT
        *
      FROM JSON_EACH_TEXT(CAST(:labels AS JSON)) AS wanted
      WHERE
        (
          CAST(usage_day.labels AS JSON) ->> wanted.key
        ) IS DISTINCT FROM wanted.value
    )
  )
GROUP BY
  usage_day.day,
  2,
  3
ORDER BY
  usage_day.day,
  2,
  3
LIMIT :limit

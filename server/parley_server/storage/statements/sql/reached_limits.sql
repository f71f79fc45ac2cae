-- Read whether an owner has reached its turns of a minute or its tokens of a day, or an agent's.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :max_turns integer
-- :max_tokens bigint
-- :agent text
-- :conversation uuid
-- :default_agent text
-- :agent_budgets text

WITH crowd AS (
  SELECT
    turn.create_time + INTERVAL '1 MINUTE' AS until
  FROM turn
  WHERE
    turn.owner_id = :owner
    AND turn.id >= CAST(RPAD(
      LPAD(
        TO_HEX(
          CAST((
            EXTRACT(EPOCH FROM CURRENT_TIMESTAMP - INTERVAL '2 MINUTES') * 1000
          ) AS BIGINT)
        ),
        12,
        '0'
      ),
      32,
      '0'
    ) AS UUID)
    AND turn.create_time > CURRENT_TIMESTAMP - INTERVAL '1 MINUTE'
    AND :max_turns IS NOT NULL
  ORDER BY
    turn.id DESC
  LIMIT 1
  OFFSET :max_turns - 1
), budget AS (
  SELECT
    CAST(SUM(usage_day.input_tokens + usage_day.output_tokens) AS BIGINT) AS used,
    TIMEZONE(
      'UTC',
      CAST(CAST((
        CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
      ) AS DATE) + 1 AS TIMESTAMP)
    ) AS until
  FROM usage_day
  WHERE
    usage_day.owner_id = :owner
    AND usage_day.day = CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE)
    AND :max_tokens IS NOT NULL
  HAVING
    CAST(SUM(usage_day.input_tokens + usage_day.output_tokens) AS BIGINT) >= :max_tokens
), chosen AS (
  SELECT
    :agent AS agent
  FROM (
    SELECT
      COUNT(*) AS count_1
    FROM conversation
    WHERE
      conversation.owner_id = :owner AND conversation.id = :conversation
  ) AS one_row
), allowed AS (
  SELECT
    COALESCE(NULLIF(chosen.agent, ''), :default_agent) AS agent,
    CAST(CAST(:agent_budgets AS JSON) ->> COALESCE(NULLIF(chosen.agent, ''), :default_agent) AS BIGINT) AS most
  FROM chosen
), agent_budget AS (
  SELECT
    CAST(SUM(usage_day.input_tokens + usage_day.output_tokens) AS BIGINT) AS used,
    (
      SELECT
        allowed.most
      FROM allowed
    ) AS most,
    (
      SELECT
        allowed.agent
      FROM allowed
    ) AS agent,
    TIMEZONE(
      'UTC',
      CAST(CAST((
        CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
      ) AS DATE) + 1 AS TIMESTAMP)
    ) AS until
  FROM usage_day
  WHERE
    usage_day.owner_id = :owner
    AND usage_day.day = CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE)
    AND :agent_budgets IS NOT NULL
    AND COALESCE(NULLIF(usage_day.agent, ''), :default_agent) = (
      SELECT
        allowed.agent
      FROM allowed
    )
  HAVING
    (
      SELECT
        allowed.most
      FROM allowed
    ) <= CAST(SUM(usage_day.input_tokens + usage_day.output_tokens) AS BIGINT)
)
SELECT
  (
    SELECT
      crowd.until
    FROM crowd
  ) - CURRENT_TIMESTAMP AS wait,
  (
    SELECT
      budget.used
    FROM budget
  ) AS used_tokens,
  COALESCE(
    (
      SELECT
        budget.until
      FROM budget
    ),
    (
      SELECT
        agent_budget.until
      FROM agent_budget
    )
  ) - CURRENT_TIMESTAMP AS day_left,
  (
    SELECT
      agent_budget.used
    FROM agent_budget
  ) AS agent_used_tokens,
  (
    SELECT
      agent_budget.most
    FROM agent_budget
  ) AS agent_max_tokens,
  (
    SELECT
      agent_budget.agent
    FROM agent_budget
  ) AS agent
FROM (
  SELECT
    COUNT(*) AS count_2
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id = :conversation
) AS one_row

-- The same, if the owner has not reached a limit.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :max_queued integer
-- :max_turns integer
-- :max_tokens bigint
-- :agent text
-- :conversation uuid
-- :default_agent text
-- :agent_budgets text
-- :turn uuid
-- :request text
-- :fingerprint bytea
-- :tenant text
-- :user text
-- :content text
-- :expected bigint
-- :feed uuid
-- :tools text

WITH queued_turns AS (
  SELECT
    SUM(queue_due.turns) AS length
  FROM queue_due
  WHERE
    queue_due.owner_id = :owner AND :max_queued IS NOT NULL
), crowd AS (
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
), opened AS (
  INSERT INTO turn (
    owner_id,
    id,
    conversation_id,
    request_id,
    fingerprint,
    agent,
    state,
    attempt,
    user_sequence,
    is_started
  )
  SELECT
    :owner,
    :turn,
    :conversation,
    :request,
    :fingerprint,
    :agent,
    'QUEUED',
    0,
    0,
    TRUE
  FROM (
    SELECT
      COUNT(*) AS count_1
    FROM conversation
    WHERE
      conversation.owner_id = :owner AND conversation.id = :conversation
  ) AS one_row
  WHERE
    COALESCE((
      SELECT
        queued_turns.length
      FROM queued_turns
    ) < :max_queued, TRUE)
    AND (
      SELECT
        crowd.until
      FROM crowd
    ) IS NULL
    AND (
      SELECT
        budget.used
      FROM budget
    ) IS NULL
    AND (
      SELECT
        agent_budget.used
      FROM agent_budget
    ) IS NULL ON CONFLICT DO NOTHING
  RETURNING turn.id
), created AS (
  INSERT INTO conversation (
    owner_id,
    id,
    tenant_id,
    user_id,
    title,
    last_sequence,
    preview,
    fence,
    queue_length,
    queue_number
  )
  SELECT
    :owner,
    :conversation,
    :tenant,
    :user,
    '',
    0,
    '',
    0,
    1,
    1
  FROM opened
), noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM opened
  ON CONFLICT (owner_id) DO NOTHING
), queued AS (
  INSERT INTO turn_queue (
    owner_id,
    turn_id,
    conversation_id,
    position,
    message,
    expected_sequence,
    tenant,
    tools
  )
  SELECT
    :owner,
    opened.id AS id,
    :conversation,
    1,
    :content,
    :expected,
    :feed,
    :tools
  FROM opened
), due AS (
  INSERT INTO queue_due (
    owner_id,
    conversation_id,
    turns
  )
  SELECT
    :owner,
    :conversation,
    1
  FROM opened
  ON CONFLICT (owner_id, conversation_id) DO UPDATE SET turns = (
    queue_due.turns + 1
  )
)
SELECT
  (
    SELECT
      opened.id
    FROM opened
  ) AS id,
  (
    SELECT
      queued_turns.length
    FROM queued_turns
  ) AS queued,
  CURRENT_TIMESTAMP AS create_time,
  0 AS last_sequence,
  0 AS fence,
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
    COUNT(*) AS count_1
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id = :conversation
) AS one_row

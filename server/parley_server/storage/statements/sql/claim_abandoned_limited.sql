-- The same, unless the owner has reached its turns of a minute or its tokens of a day.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :max_turns integer
-- :max_tokens bigint
-- :agent text
-- :default_agent text
-- :agent_budgets text
-- :turn uuid
-- :request text
-- :fingerprint bytea
-- :expected bigint
-- :feed uuid
-- :content text
-- :title text
-- :preview text
-- :lease interval

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions,
    conversation.agent AS agent,
    conversation.labels AS labels,
    conversation.queue_length AS queue_length,
    conversation.queue_number AS queue_number
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
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
    COALESCE(NULLIF(:agent, ''), held.agent, '') AS agent
  FROM held
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
    attempt_time
  )
  SELECT
    :owner,
    :turn,
    :conversation,
    :request,
    :fingerprint,
    COALESCE(NULLIF(:agent, ''), held.agent, '') AS agent,
    'RUNNING',
    1,
    held.last_sequence + 1,
    CURRENT_TIMESTAMP AS now_1
  FROM held
  WHERE
    (
      held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
    )
    AND held.queue_length = 0
    AND (
      :expected IS NULL OR held.last_sequence = :expected
    )
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
    ) IS NULL
  ON CONFLICT (owner_id, request_id) DO NOTHING
  RETURNING turn.id, turn.user_sequence, turn.agent
), overrun AS (
  UPDATE turn SET state = 'FAILED', error_reason = 'TURN_ABANDONED', error_text = 'the worker that ran the turn went away', end_time = held.lease_expires_at
  FROM opened, held
  WHERE
    turn.owner_id = :owner
    AND turn.id = (
      SELECT
        held.open_turn_id
      FROM held
    )
    AND opened.id <> turn.id
  RETURNING turn.id, turn.attempt, turn.end_time, turn.agent, turn.is_counted, held.labels AS labels
), counted AS (
  INSERT INTO usage_day (
    owner_id,
    day,
    agent,
    labels_digest,
    slot,
    labels,
    attempts,
    failed_attempts
  )
  SELECT
    :owner,
    CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE),
    overrun.agent AS agent,
    CAST(MD5(COALESCE(overrun.labels, '')) AS UUID) AS md5_1,
    GET_BYTE(UUID_SEND(:conversation), 15) & 15,
    overrun.labels AS labels,
    CASE WHEN overrun.is_counted THEN 0 ELSE 1 END,
    CASE WHEN overrun.is_counted THEN 0 ELSE 1 END
  FROM overrun
  ON CONFLICT (owner_id, day, agent, labels_digest, slot) DO UPDATE SET attempts = (
    usage_day.attempts + excluded.attempts
  ), failed_attempts = (
    usage_day.failed_attempts + excluded.failed_attempts
  )
), fed AS (
  INSERT INTO turn_feed (
    owner_id,
    xid,
    turn_id,
    tenant,
    attempt,
    error_reason,
    end_time
  )
  SELECT
    :owner,
    CAST(CAST(PG_CURRENT_XACT_ID() AS TEXT) AS BIGINT),
    overrun.id AS id,
    :feed,
    overrun.attempt AS attempt,
    'TURN_ABANDONED',
    overrun.end_time AS end_time
  FROM overrun
  WHERE
    :feed IS NOT NULL
), said AS (
  INSERT INTO message (
    owner_id,
    conversation_id,
    sequence,
    turn_id,
    role,
    content
  )
  SELECT
    :owner,
    :conversation,
    opened.user_sequence AS user_sequence,
    opened.id AS id,
    'USER',
    :content
  FROM opened
), taken AS (
  UPDATE conversation SET title = CASE
    WHEN (
      conversation.last_sequence = 0 AND conversation.title = ''
    )
    THEN :title
    ELSE conversation.title
  END, last_sequence = opened.user_sequence, preview = :preview, fence = (
    conversation.fence + 1
  ), open_turn_id = opened.id, lease_expires_at = (
    CURRENT_TIMESTAMP + :lease
  ), update_time = CURRENT_TIMESTAMP
  FROM opened
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND opened.id = :turn
  RETURNING conversation.labels
), labelled AS (
  INSERT INTO conversation_label (
    owner_id,
    conversation_id,
    key,
    value,
    update_time
  )
  SELECT
    :owner,
    :conversation,
    pairs.key AS key,
    pairs.value AS value,
    CURRENT_TIMESTAMP AS now_2
  FROM taken
  JOIN LATERAL JSON_EACH_TEXT(CAST(taken.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
)
SELECT
  opened.user_sequence,
  held.last_sequence,
  held.fence,
  held.open_turn_id,
  held.lease_expires_at,
  held.update_time,
  (
    held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
  )
  AND held.queue_length = 0 AS is_free,
  held.queue_length,
  held.instructions,
  opened.agent,
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
FROM held
LEFT OUTER JOIN opened
  ON TRUE

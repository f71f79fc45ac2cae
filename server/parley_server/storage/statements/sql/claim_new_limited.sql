-- CLAIM_NEW_LIMITED: The same, unless the owner has opened as many turns within a minute as it may.
-- Rendered by `make gen`. DO NOT EDIT.

WITH crowd AS (
  SELECT
    turn.create_time + INTERVAL '1 MINUTE' AS until
  FROM turn
  WHERE
    turn.owner_id = %(owner)s
    AND turn.id >= CAST(RPAD(
      LPAD(
        HEX(
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
  ORDER BY
    turn.id DESC
  LIMIT 1
  OFFSET %(max_turns)s - 1
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
    user_sequence
  )
  SELECT
    %(owner)s AS anon_1,
    %(turn)s AS anon_8,
    %(conversation)s AS anon_2,
    %(request)s AS anon_9,
    CAST(%(fingerprint)s AS BYTEA) AS anon_10,
    %(agent)s AS anon_11,
    'RUNNING',
    1,
    1
  WHERE
    (
      SELECT
        crowd.until
      FROM crowd
    ) IS NULL ON CONFLICT(owner_id, request_id) DO NOTHING
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
    open_turn_id,
    lease_expires_at
  )
  SELECT
    %(owner)s AS anon_1,
    %(conversation)s AS anon_2,
    %(tenant)s AS anon_3,
    %(user)s AS anon_4,
    %(title)s AS anon_5,
    1,
    %(preview)s AS anon_6,
    1,
    opened.id AS id,
    CURRENT_TIMESTAMP + CAST(%(lease)s AS INTERVAL) AS anon_7
  FROM opened
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
    %(owner)s AS anon_1,
    %(conversation)s AS anon_2,
    1,
    opened.id AS id,
    'USER',
    %(content)s AS anon_12
  FROM opened
)
SELECT
  (
    SELECT
      opened.id
    FROM opened
  ) AS anon_13,
  (
    SELECT
      crowd.until - CURRENT_TIMESTAMP AS anon_15
    FROM crowd
  ) AS anon_14;

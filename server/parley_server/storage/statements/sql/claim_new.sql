-- Open the first turn of a conversation that this statement creates.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :turn uuid
-- :conversation uuid
-- :request text
-- :fingerprint bytea
-- :agent text
-- :tenant text
-- :user text
-- :title text
-- :preview text
-- :lease interval
-- :content text

WITH opened AS (
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
    :agent,
    'RUNNING',
    1,
    1,
    CURRENT_TIMESTAMP AS now_1
  FROM (
    SELECT
      COUNT(*) AS count_1
    FROM conversation
    WHERE
      conversation.owner_id = :owner AND conversation.id = :conversation
  ) AS one_row
  ON CONFLICT (owner_id, request_id) DO NOTHING
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
    :owner,
    :conversation,
    :tenant,
    :user,
    :title,
    1,
    :preview,
    1,
    opened.id AS id,
    CURRENT_TIMESTAMP + :lease
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
    :owner,
    :conversation,
    1,
    opened.id AS id,
    'USER',
    :content
  FROM opened
), noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM opened
  ON CONFLICT (owner_id) DO NOTHING
)
SELECT
  opened.id
FROM opened

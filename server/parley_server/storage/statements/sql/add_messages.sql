-- Add messages to a conversation without an open turn, once for each request id.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :messages text
-- :count bigint
-- :expected bigint
-- :latest timestamp with time zone
-- :request text
-- :fingerprint bytea
-- :feed uuid
-- :title text
-- :preview text

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
), given AS (
  SELECT
    given.number AS number,
    given.turn_id AS turn_id,
    given.role AS role,
    given.content AS content,
    given.tool_calls AS tool_calls,
    given.usage AS usage,
    given.model AS model,
    given.finish_reason AS finish_reason,
    given.create_time AS create_time
  FROM held
  JOIN JSON_TO_RECORDSET(CAST(:messages AS JSON)) AS given(number INT, turn_id UUID, role TEXT, content TEXT, tool_calls TEXT, usage TEXT, model TEXT, finish_reason TEXT, create_time TIMESTAMPTZ)
    ON TRUE
), place AS (
  SELECT
    held.last_sequence + 1 AS first,
    held.last_sequence + :count AS last
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
        MIN(given.number) AS min_1
      FROM given
      JOIN turn
        ON turn.id = given.turn_id
      WHERE
        turn.owner_id = :owner AND turn.conversation_id = :conversation
    ) IS NULL
    AND (
      :latest IS NULL OR :latest <= CURRENT_TIMESTAMP + INTERVAL '60 SECONDS'
    )
), noted AS (
  INSERT INTO addition (
    owner_id,
    request_id,
    fingerprint,
    conversation_id,
    first_sequence,
    last_sequence
  )
  SELECT
    :owner,
    :request,
    :fingerprint,
    :conversation,
    place.first AS first,
    place.last AS last
  FROM place
  WHERE
    :request IS NOT NULL
  ON CONFLICT (owner_id, request_id) DO NOTHING
  RETURNING addition.first_sequence
), added AS (
  SELECT
    place.first AS first,
    place.last AS last
  FROM place
  WHERE
    :request IS NULL
    OR (
      EXISTS(
        SELECT
          noted.first_sequence
        FROM noted
      )
    )
), written AS (
  INSERT INTO message (
    owner_id,
    conversation_id,
    sequence,
    turn_id,
    role,
    content,
    tool_calls,
    usage,
    model,
    finish_reason,
    create_time
  )
  SELECT
    :owner,
    :conversation,
    added.first + given.number,
    given.turn_id AS turn_id,
    given.role AS role,
    given.content AS content,
    given.tool_calls AS tool_calls,
    given.usage AS usage,
    given.model AS model,
    given.finish_reason AS finish_reason,
    COALESCE(given.create_time, CURRENT_TIMESTAMP) AS coalesce_1
  FROM added
  JOIN given
    ON TRUE
), overrun AS (
  UPDATE turn SET state = 'FAILED', error_reason = 'TURN_ABANDONED', error_text = 'the worker that ran the turn went away', end_time = held.lease_expires_at
  FROM added, held
  WHERE
    turn.owner_id = :owner
    AND turn.id = (
      SELECT
        held.open_turn_id
      FROM held
    )
    AND added.last > 0
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
), turn_event_gone AS (
  DELETE FROM turn_event
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id IN (
      SELECT
        turn.id
      FROM turn
      WHERE
        turn.owner_id = :owner
        AND turn.conversation_id = :conversation
        AND turn.user_sequence = (
          SELECT
            held.last_sequence
          FROM held
        )
        AND turn.response_sequence IS NULL
    )
    AND (
      EXISTS(
        SELECT
          added.last
        FROM added
      )
    )
), turn_step_gone AS (
  DELETE FROM turn_step
  WHERE
    turn_step.owner_id = :owner
    AND turn_step.turn_id IN (
      SELECT
        turn.id
      FROM turn
      WHERE
        turn.owner_id = :owner
        AND turn.conversation_id = :conversation
        AND turn.user_sequence = (
          SELECT
            held.last_sequence
          FROM held
        )
        AND turn.response_sequence IS NULL
    )
    AND (
      EXISTS(
        SELECT
          added.last
        FROM added
      )
    )
), wait_gone AS (
  UPDATE turn_wait SET calls = NULL, content = NULL, tool_calls = NULL, usage = NULL, model = NULL, tools = NULL
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id IN (
      SELECT
        turn.id
      FROM turn
      WHERE
        turn.owner_id = :owner
        AND turn.conversation_id = :conversation
        AND turn.user_sequence = (
          SELECT
            held.last_sequence
          FROM held
        )
        AND turn.response_sequence IS NULL
    )
    AND (
      EXISTS(
        SELECT
          added.last
        FROM added
      )
    )
), taken AS (
  UPDATE conversation SET title = CASE
    WHEN (
      conversation.last_sequence = 0 AND conversation.title = ''
    )
    THEN :title
    ELSE conversation.title
  END, last_sequence = added.last, preview = :preview, fence = (
    conversation.fence + 1
  ), open_turn_id = NULL, lease_expires_at = NULL, update_time = CURRENT_TIMESTAMP, appended_sequence = added.last
  FROM added
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND added.last > 0
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
    CURRENT_TIMESTAMP AS now_1
  FROM taken
  JOIN LATERAL JSON_EACH_TEXT(CAST(taken.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
)
SELECT
  added.first,
  added.last,
  held.last_sequence,
  held.open_turn_id,
  held.lease_expires_at,
  held.update_time,
  (
    held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
  )
  AND held.queue_length = 0 AS is_free,
  (
    SELECT
      MIN(given.number) AS min_1
    FROM given
    JOIN turn
      ON turn.id = given.turn_id
    WHERE
      turn.owner_id = :owner AND turn.conversation_id = :conversation
  ) AS clash,
  CURRENT_TIMESTAMP AS now
FROM held
LEFT OUTER JOIN added
  ON TRUE

-- End an attempt whose turn waits for its caller from now on, unless the turn is to be stopped.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :fence bigint
-- :waiting interval
-- :calls text
-- :content text
-- :tool_calls text
-- :usage text
-- :model text
-- :tools text
-- :input_tokens bigint
-- :output_tokens bigint
-- :cached_input_tokens bigint
-- :model_requests bigint
-- :feed uuid

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
), ended AS (
  UPDATE turn SET state = 'WAITING', attempts = (
    CASE
      WHEN (
        JSONB_ARRAY_LENGTH(COALESCE(turn.attempts, CAST('[]' AS JSONB))) >= 20
      )
      THEN COALESCE(turn.attempts, CAST('[]' AS JSONB)) - 0
      ELSE COALESCE(turn.attempts, CAST('[]' AS JSONB))
    END || (
      SELECT
        JSONB_BUILD_ARRAY(
          JSONB_BUILD_OBJECT(
            'number',
            turn.attempt,
            'start_time',
            turn.attempt_time,
            'end_time',
            CURRENT_TIMESTAMP,
            'reason',
            NULL
          )
        ) AS jsonb_build_array_1
    )
  ), spent_attempts = -1, abandoned_attempts = 0, is_counted = TRUE
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND held.fence = :fence
    AND held.open_turn_id = :turn
    AND turn.cancel_requested_time IS NULL
  RETURNING turn.id, turn.attempt, turn.agent, FALSE AS is_counted, held.labels AS labels
), let_go AS (
  UPDATE conversation SET fence = (
    conversation.fence + 1
  ), lease_expires_at = NULL
  FROM ended
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND ended.id = :turn
), waits AS (
  INSERT INTO turn_wait (
    owner_id,
    turn_id,
    digests,
    end_time,
    calls,
    content,
    tool_calls,
    usage,
    model,
    tools
  )
  SELECT
    :owner,
    ended.id AS id,
    '{}',
    CURRENT_TIMESTAMP + :waiting,
    :calls,
    :content,
    :tool_calls,
    :usage,
    :model,
    :tools
  FROM ended
  ON CONFLICT (owner_id, turn_id) DO UPDATE SET end_time = excluded.end_time, ended_by = NULL, calls = excluded.calls, content = excluded.content, tool_calls = excluded.tool_calls, usage = excluded.usage, model = excluded.model, tools = excluded.tools
), is_due AS (
  INSERT INTO wait_due (
    owner_id,
    turn_id,
    conversation_id,
    due_time
  )
  SELECT
    :owner,
    ended.id AS id,
    :conversation,
    CURRENT_TIMESTAMP + :waiting
  FROM ended
  ON CONFLICT (owner_id, turn_id) DO UPDATE SET due_time = excluded.due_time
), queue_looked_at AS (
  UPDATE queue_due SET due_time = CAST('9999-12-31' AS TIMESTAMPTZ)
  FROM ended
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND ended.id = :turn
), counted AS (
  INSERT INTO usage_day (
    owner_id,
    day,
    agent,
    labels_digest,
    slot,
    labels,
    attempts,
    input_tokens,
    output_tokens,
    cached_input_tokens,
    model_requests
  )
  SELECT
    :owner,
    CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE),
    ended.agent AS agent,
    CAST(MD5(COALESCE(ended.labels, '')) AS UUID) AS md5_1,
    GET_BYTE(UUID_SEND(:conversation), 15) & 15,
    ended.labels AS labels,
    CASE WHEN ended.is_counted THEN 0 ELSE 1 END,
    :input_tokens,
    :output_tokens,
    :cached_input_tokens,
    :model_requests
  FROM ended
  ON CONFLICT (owner_id, day, agent, labels_digest, slot) DO UPDATE SET input_tokens = (
    usage_day.input_tokens + excluded.input_tokens
  ), output_tokens = (
    usage_day.output_tokens + excluded.output_tokens
  ), cached_input_tokens = (
    usage_day.cached_input_tokens + excluded.cached_input_tokens
  ), model_requests = (
    usage_day.model_requests + excluded.model_requests
  ), attempts = (
    usage_day.attempts + excluded.attempts
  )
), fed AS (
  INSERT INTO turn_feed (
    owner_id,
    xid,
    turn_id,
    tenant,
    attempt,
    error_reason,
    end_time,
    is_waiting
  )
  SELECT
    :owner,
    CAST(CAST(PG_CURRENT_XACT_ID() AS TEXT) AS BIGINT),
    ended.id AS id,
    :feed,
    ended.attempt AS attempt,
    NULL,
    CURRENT_TIMESTAMP AS now_1,
    TRUE
  FROM ended
  WHERE
    :feed IS NOT NULL
)
SELECT
  ended.id IS NULL
FROM held
LEFT OUTER JOIN ended
  ON TRUE
WHERE
  held.fence = :fence AND held.open_turn_id = :turn

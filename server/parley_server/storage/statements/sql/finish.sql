-- Write the answer, end the turn, and free the conversation, under the fence.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :preview text
-- :owner uuid
-- :conversation uuid
-- :fence bigint
-- :turn uuid
-- :state text
-- :context_first bigint
-- :context_count integer
-- :context_omitted bigint
-- :instructions_digest bytea
-- :content text
-- :tool_calls text
-- :usage text
-- :model text
-- :finish_reason text
-- :opaque_state bytea
-- :input_tokens bigint
-- :output_tokens bigint
-- :cached_input_tokens bigint
-- :model_requests bigint
-- :feed uuid

WITH freed AS (
  UPDATE conversation SET last_sequence = (
    conversation.last_sequence + 1
  ), preview = :preview, open_turn_id = NULL, lease_expires_at = NULL
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
    AND conversation.fence = :fence
    AND conversation.open_turn_id = :turn
  RETURNING conversation.last_sequence, conversation.labels, conversation.queue_length AS queue_length
), ended AS (
  UPDATE turn SET state = :state, response_sequence = freed.last_sequence, context_first_sequence = :context_first, context_message_count = :context_count, context_omitted_count = :context_omitted, instructions_digest = :instructions_digest, end_time = CURRENT_TIMESTAMP
  FROM freed
  WHERE
    turn.owner_id = :owner AND turn.id = :turn
  RETURNING turn.id, turn.response_sequence, turn.attempt, turn.agent, turn.is_counted, freed.labels AS labels
), answered AS (
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
    opaque_state
  )
  SELECT
    :owner,
    :conversation,
    ended.response_sequence AS response_sequence,
    ended.id AS id,
    'ASSISTANT',
    :content,
    :tool_calls,
    :usage,
    :model,
    :finish_reason,
    :opaque_state
  FROM ended
), counted AS (
  INSERT INTO usage_day (
    owner_id,
    day,
    agent,
    labels_digest,
    slot,
    labels,
    attempts,
    turns,
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
    1,
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
  ), turns = (
    usage_day.turns + excluded.turns
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
    end_time
  )
  SELECT
    :owner,
    CAST(CAST(PG_CURRENT_XACT_ID() AS TEXT) AS BIGINT),
    ended.id AS id,
    :feed,
    ended.attempt AS attempt,
    NULL,
    CURRENT_TIMESTAMP AS now_1
  FROM ended
  WHERE
    :feed IS NOT NULL
)
SELECT
  ended.response_sequence,
  freed.queue_length
FROM ended
JOIN freed
  ON TRUE

-- Write the answer, end the turn, and free the conversation, under the fence.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :state text
-- :context_first bigint
-- :context_count integer
-- :context_omitted bigint
-- :turn uuid
-- :fence bigint
-- :content text
-- :tool_calls text
-- :usage text
-- :model text
-- :finish_reason text
-- :opaque_state bytea
-- :preview text

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), ended AS (
  UPDATE turn SET state = :state, response_sequence = (
    held.last_sequence + 1
  ), context_first_sequence = :context_first, context_message_count = :context_count, context_omitted_count = :context_omitted, end_time = CURRENT_TIMESTAMP
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND held.fence = :fence
    AND held.open_turn_id = turn.id
  RETURNING turn.id, turn.response_sequence
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
), freed AS (
  UPDATE conversation SET last_sequence = ended.response_sequence, preview = :preview, open_turn_id = NULL, lease_expires_at = NULL
  FROM ended
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND ended.id = conversation.open_turn_id
)
SELECT
  ended.response_sequence
FROM ended

-- FINISH: Write the answer, end the turn, and free the conversation, under the fence.
-- Rendered by `make gen`. DO NOT EDIT.

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time
  FROM conversation
  WHERE
    conversation.owner_id = %(owner)s AND conversation.id = %(conversation)s   FOR NO KEY UPDATE
), ended AS (
  UPDATE turn SET state = %(state)s, response_sequence = (
    held.last_sequence + 1
  ), context_first_sequence = %(context_first)s, context_message_count = %(context_count)s, context_omitted_count = %(context_omitted)s, end_time = CURRENT_TIMESTAMP
  FROM held
  WHERE
    turn.owner_id = %(owner)s
    AND turn.id = %(turn)s
    AND held.fence = %(fence)s
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
    %(owner)s AS anon_1,
    %(conversation)s AS anon_2,
    ended.response_sequence AS response_sequence,
    ended.id AS id,
    'ASSISTANT',
    %(content)s AS anon_3,
    %(tool_calls)s AS anon_4,
    %(usage)s AS anon_5,
    %(model)s AS anon_6,
    %(finish_reason)s AS anon_7,
    CAST(%(opaque_state)s AS BYTEA) AS anon_8
  FROM ended
), freed AS (
  UPDATE conversation SET last_sequence = ended.response_sequence, preview = %(preview)s, open_turn_id = NULL, lease_expires_at = NULL
  FROM ended
  WHERE
    conversation.owner_id = %(owner)s
    AND conversation.id = %(conversation)s
    AND ended.id = conversation.open_turn_id
)
SELECT
  ended.response_sequence
FROM ended;

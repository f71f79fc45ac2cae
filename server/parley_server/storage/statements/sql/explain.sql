-- Read a turn, its message, its attempts, and what its agent was told.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid

SELECT
  turn.id,
  turn.conversation_id,
  turn.request_id,
  turn.fingerprint,
  turn.agent,
  turn.state,
  turn.attempt,
  turn.user_sequence,
  turn.response_sequence,
  turn.error_reason,
  turn.error_text,
  turn.create_time,
  turn.end_time,
  turn.context_first_sequence,
  turn.context_message_count,
  turn.context_omitted_count,
  turn.cancel_requested_time IS NOT NULL AS is_cancel_requested,
  turn.spent_attempts,
  turn.abandoned_attempts,
  turn.is_started,
  conversation.last_sequence,
  conversation.fence,
  conversation.lease_expires_at,
  (
    conversation.open_turn_id = turn.id
    AND conversation.lease_expires_at > CURRENT_TIMESTAMP
  ) IS TRUE AS is_leased,
  CASE
    WHEN (
      conversation.open_turn_id = turn.id
    )
    THEN conversation.instructions
  END AS instructions,
  message.content,
  message.tool_calls,
  message.usage,
  message.model,
  message.finish_reason,
  turn_wait.digests,
  turn_wait.end_time AS wait_end_time,
  turn_wait.ended_by,
  turn_wait.calls,
  turn_wait.content AS wait_content,
  turn_wait.tool_calls AS wait_tool_calls,
  turn_wait.usage AS wait_usage,
  turn_wait.model AS wait_model,
  asked.content AS asked_content,
  turn_wait.tools,
  conversation.instructions AS told,
  turn.instructions_digest,
  turn.attempt_time,
  turn.attempts
FROM turn
JOIN conversation
  ON conversation.owner_id = :owner
  AND conversation.id = turn.conversation_id
  AND conversation.delete_time IS NULL
LEFT OUTER JOIN message
  ON message.owner_id = :owner
  AND message.conversation_id = turn.conversation_id
  AND message.sequence = turn.response_sequence
LEFT OUTER JOIN turn_wait
  ON turn_wait.owner_id = :owner AND turn_wait.turn_id = turn.id
LEFT OUTER JOIN message AS asked
  ON asked.owner_id = :owner
  AND asked.conversation_id = :conversation
  AND asked.sequence = turn.user_sequence
WHERE
  turn.owner_id = :owner
  AND turn.id = :turn
  AND turn.conversation_id = :conversation

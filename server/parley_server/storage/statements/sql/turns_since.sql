-- Read the newest turn that had begun by a sequence, and those behind it.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :since bigint
-- :limit integer

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
  '' AS content,
  NULL AS tool_calls,
  message.usage,
  message.model,
  message.finish_reason,
  turn_wait.digests,
  turn_wait.end_time AS wait_end_time,
  turn_wait.ended_by,
  turn_wait.calls,
  '' AS wait_content,
  NULL AS wait_tool_calls,
  turn_wait.usage AS wait_usage,
  turn_wait.model AS wait_model
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
WHERE
  turn.owner_id = :owner
  AND turn.conversation_id = :conversation
  AND turn.user_sequence >= COALESCE(
    (
      SELECT
        MAX(begun.user_sequence) AS max_1
      FROM turn AS begun
      WHERE
        begun.owner_id = :owner
        AND begun.conversation_id = :conversation
        AND begun.user_sequence <= :since
        AND begun.user_sequence > 0
    ),
    :since
  )
  AND turn.user_sequence > 0
ORDER BY
  turn.user_sequence
LIMIT :limit

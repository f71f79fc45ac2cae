-- Read turns that the feed has told of, as they stand now.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :turns text
-- :tenant text
-- :labels text

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
  turn_wait.model AS wait_model,
  conversation.user_id
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
  AND turn.id IN (
    SELECT
      CAST(ids.id AS UUID) AS id
    FROM JSON_ARRAY_ELEMENTS_TEXT(CAST(:turns AS JSON)) AS ids(id)
  )
  AND conversation.tenant_id = :tenant
  AND NOT (
    EXISTS(
      SELECT
        *
      FROM JSON_EACH_TEXT(CAST(:labels AS JSON)) AS wanted(key, value)
      WHERE
        (
          CAST(conversation.labels AS JSON) ->> wanted.key
        ) IS DISTINCT FROM wanted.value
    )
  )

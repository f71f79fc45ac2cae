-- Read the newest messages that fit what the agent is shown, but for unanswered ones.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :max_bytes_with_states bigint
-- :owner uuid
-- :conversation uuid
-- :before bigint
-- :lookback integer
-- :max_bytes bigint
-- :limit integer

SELECT
  sized.sequence,
  sized.role,
  sized.content,
  sized.tool_calls,
  sized.finish_reason,
  CASE
    WHEN (
      sized.total + sized.total_of_states <= :max_bytes_with_states
    )
    THEN sized.opaque_state
  END,
  sized.has_turn,
  NULL AS state_size
FROM (
  SELECT
    tail.sequence AS sequence,
    tail.role AS role,
    tail.content AS content,
    tail.tool_calls AS tool_calls,
    tail.finish_reason AS finish_reason,
    tail.opaque_state AS opaque_state,
    tail.has_turn AS has_turn,
    tail.role <> 'USER' OR NOT tail.has_turn OR tail.turn_id = tail.turn_answered_next AS is_shown,
    SUM(
      CASE
        WHEN (
          tail.role <> 'USER' OR NOT tail.has_turn OR tail.turn_id = tail.turn_answered_next
        )
        THEN OCTET_LENGTH(tail.content) + COALESCE(OCTET_LENGTH(tail.tool_calls), 0)
        ELSE 0
      END
    ) OVER (ORDER BY tail.sequence DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total,
    SUM(COALESCE(OCTET_LENGTH(tail.opaque_state), 0)) OVER (ORDER BY tail.sequence DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_of_states
  FROM (
    SELECT
      message.sequence AS sequence,
      message.role AS role,
      message.content AS content,
      message.tool_calls AS tool_calls,
      message.finish_reason AS finish_reason,
      message.opaque_state AS opaque_state,
      message.turn_id <> CAST('00000000-0000-0000-0000-000000000000' AS UUID) AS has_turn,
      message.turn_id AS turn_id,
      LAG(CASE WHEN (
        message.role = 'ASSISTANT'
      ) THEN message.turn_id END) OVER (ORDER BY message.sequence DESC) AS turn_answered_next
    FROM message
    WHERE
      message.owner_id = :owner
      AND message.conversation_id = :conversation
      AND message.sequence < :before
    ORDER BY
      message.sequence DESC
    LIMIT :lookback
  ) AS tail
  ORDER BY
    tail.sequence DESC
) AS sized
WHERE
  sized.is_shown AND sized.total <= :max_bytes
ORDER BY
  sized.sequence DESC
LIMIT :limit

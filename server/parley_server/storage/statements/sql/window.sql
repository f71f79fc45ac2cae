-- Read the newest messages that fit what the agent is shown, answered or not.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :max_bytes bigint
-- :owner uuid
-- :conversation uuid
-- :before bigint
-- :limit integer

SELECT
  tail.sequence,
  tail.role,
  CASE WHEN (
    tail.total <= :max_bytes
  ) THEN tail.content END AS content,
  CASE WHEN (
    tail.total <= :max_bytes
  ) THEN tail.tool_calls END AS tool_calls,
  tail.finish_reason,
  CASE
    WHEN (
      tail.total + tail.total_of_states <= :max_bytes
    )
    THEN tail.opaque_state
  END AS opaque_state,
  tail.has_turn,
  tail.state_size
FROM (
  SELECT
    message.sequence AS sequence,
    message.role AS role,
    message.content AS content,
    message.tool_calls AS tool_calls,
    message.finish_reason AS finish_reason,
    message.opaque_state AS opaque_state,
    message.turn_id <> CAST('00000000-0000-0000-0000-000000000000' AS UUID) AS has_turn,
    OCTET_LENGTH(message.opaque_state) AS state_size,
    OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0) AS size,
    SUM(OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0)) OVER (ORDER BY message.sequence DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total,
    SUM(COALESCE(OCTET_LENGTH(message.opaque_state), 0)) OVER (ORDER BY message.sequence DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_of_states
  FROM message
  WHERE
    message.owner_id = :owner
    AND message.conversation_id = :conversation
    AND message.sequence < :before
  ORDER BY
    message.sequence DESC
  LIMIT :limit
) AS tail
WHERE
  tail.total - tail.size <= :max_bytes
ORDER BY
  tail.sequence DESC

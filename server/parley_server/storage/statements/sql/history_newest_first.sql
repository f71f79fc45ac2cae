-- Read a page of messages, newest first, with the conversation's length.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :above bigint
-- :below bigint
-- :limit integer
-- :max_bytes bigint

SELECT
  conversation.last_sequence,
  part.sequence,
  part.role,
  part.content,
  part.tool_calls,
  part.turn_id,
  part.create_time,
  part.usage,
  part.model,
  part.finish_reason
FROM conversation
LEFT OUTER JOIN (
  SELECT
    message.sequence AS sequence,
    message.role AS role,
    message.content AS content,
    message.tool_calls AS tool_calls,
    message.turn_id AS turn_id,
    message.create_time AS create_time,
    message.usage AS usage,
    message.model AS model,
    message.finish_reason AS finish_reason,
    SUM(OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0)) OVER (ORDER BY message.sequence DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total,
    OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0) AS size
  FROM message
  WHERE
    message.owner_id = :owner
    AND message.conversation_id = :conversation
    AND message.sequence > :above
    AND message.sequence < :below
  ORDER BY
    message.sequence DESC
  LIMIT :limit
) AS part
  ON part.total <= :max_bytes OR part.total = part.size
WHERE
  conversation.owner_id = :owner
  AND conversation.id = :conversation
  AND conversation.delete_time IS NULL
ORDER BY
  part.sequence DESC

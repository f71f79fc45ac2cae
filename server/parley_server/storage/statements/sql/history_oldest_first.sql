-- HISTORY_OLDEST_FIRST: Read a page of messages, oldest first, with the conversation's length.
-- Rendered by `make gen`. DO NOT EDIT.

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
    SUM(OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0)) OVER (ORDER BY message.sequence ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total,
    OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0) AS size
  FROM message
  WHERE
    message.owner_id = %(owner)s
    AND message.conversation_id = %(conversation)s
    AND message.sequence > %(above)s
    AND message.sequence < %(below)s
  ORDER BY
    message.sequence ASC
  LIMIT %(limit)s
) AS part
  ON part.total <= %(max_bytes)s OR part.total = part.size
WHERE
  conversation.owner_id = %(owner)s AND conversation.id = %(conversation)s
ORDER BY
  part.sequence ASC;

-- Read the stored pieces of an attempt behind an index.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :turn uuid
-- :attempt integer
-- :after_index bigint
-- :limit integer
-- :max_bytes bigint

SELECT
  part.index,
  part.text,
  part.tool_call
FROM (
  SELECT
    turn_event.index AS index,
    turn_event.text AS text,
    turn_event.tool_call AS tool_call,
    SUM(
      COALESCE(OCTET_LENGTH(turn_event.text), 0) + COALESCE(OCTET_LENGTH(turn_event.tool_call), 0)
    ) OVER (ORDER BY turn_event.index ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - (
      COALESCE(OCTET_LENGTH(turn_event.text), 0) + COALESCE(OCTET_LENGTH(turn_event.tool_call), 0)
    ) AS before
  FROM turn_event
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id = :turn
    AND turn_event.attempt = :attempt
    AND turn_event.index > :after_index
  ORDER BY
    turn_event.index
  LIMIT :limit
) AS part
WHERE
  part.before < :max_bytes
ORDER BY
  part.index

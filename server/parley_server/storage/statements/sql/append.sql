-- APPEND: Store pieces of an answer under way, under the fence.
-- Rendered by `make gen`. DO NOT EDIT.

WITH ours AS (
  SELECT
    conversation.fence AS fence
  FROM conversation
  WHERE
    conversation.owner_id = %(owner)s
    AND conversation.id = %(conversation)s
    AND conversation.fence = %(fence)s
    AND conversation.open_turn_id = %(turn)s
), stored AS (
  INSERT INTO turn_event (
    owner_id,
    turn_id,
    attempt,
    index,
    text,
    tool_call
  )
  SELECT
    %(owner)s AS anon_1,
    %(turn)s AS anon_2,
    %(attempt)s AS anon_3,
    given.index AS index,
    given.text AS text,
    given.tool_call AS tool_call
  FROM JSON_TO_RECORDSET(CAST(%(events)s AS JSON)) AS given(index INT, text TEXT, tool_call TEXT), ours
  WHERE
    ours.fence = %(fence)s ON CONFLICT(owner_id, turn_id, attempt, index) DO NOTHING
)
SELECT
  ours.fence
FROM ours;

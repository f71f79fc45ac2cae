-- Store pieces of an answer under way, under the fence.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :fence bigint
-- :turn uuid
-- :attempt integer
-- :events text

WITH ours AS (
  SELECT
    conversation.fence AS fence
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.fence = :fence
    AND conversation.open_turn_id = :turn
  FOR KEY SHARE
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
    :owner,
    :turn,
    :attempt,
    given.index AS index,
    given.text AS text,
    given.tool_call AS tool_call
  FROM JSON_TO_RECORDSET(CAST(:events AS JSON)) AS given(index INT, text TEXT, tool_call TEXT), ours
  WHERE
    ours.fence = :fence
  ON CONFLICT (owner_id, turn_id, attempt, index) DO NOTHING
)
SELECT
  ours.fence
FROM ours

-- Remove what is stored beside turns that can no longer be followed or run again.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :began_at bigint

WITH steps_gone AS (
  DELETE FROM turn_step USING   turn
  WHERE
    turn_step.owner_id = :owner
    AND turn_step.turn_id = turn.id
    AND turn.owner_id = :owner
    AND turn.conversation_id = :conversation
    AND turn.user_sequence = :began_at
    AND turn.response_sequence IS NULL
), wait_gone AS (
  UPDATE turn_wait SET calls = NULL, content = NULL, tool_calls = NULL, usage = NULL, model = NULL, tools = NULL
  FROM turn
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id = turn.id
    AND turn.owner_id = :owner
    AND turn.conversation_id = :conversation
    AND turn.user_sequence = :began_at
    AND turn.response_sequence IS NULL
)
DELETE FROM turn_event USING   turn
WHERE
  turn_event.owner_id = :owner
  AND turn_event.turn_id = turn.id
  AND turn.owner_id = :owner
  AND turn.conversation_id = :conversation
  AND turn.user_sequence = :began_at
  AND turn.response_sequence IS NULL
RETURNING turn_event.index

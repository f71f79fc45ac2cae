-- Remove the stored pieces of turns that can no longer be followed.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :began_at bigint

DELETE FROM turn_event USING   turn
WHERE
  turn_event.owner_id = :owner
  AND turn_event.turn_id = turn.id
  AND turn.owner_id = :owner
  AND turn.conversation_id = :conversation
  AND turn.user_sequence = :began_at
  AND turn.response_sequence IS NULL
RETURNING turn_event.index

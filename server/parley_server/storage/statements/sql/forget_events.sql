-- FORGET_EVENTS: Remove the stored pieces of turns that nobody can follow any more.
-- Rendered by `make gen`. DO NOT EDIT.

DELETE FROM turn_event USING   turn
WHERE
  turn_event.owner_id = %(owner)s
  AND turn_event.turn_id = turn.id
  AND turn.owner_id = %(owner)s
  AND turn.conversation_id = %(conversation)s
  AND turn.user_sequence = %(began_at)s
  AND turn.response_sequence IS NULL
RETURNING turn_event.index;

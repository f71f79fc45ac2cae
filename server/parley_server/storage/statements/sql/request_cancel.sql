-- REQUEST_CANCEL: Record that a turn is to be stopped.
-- Rendered by `make gen`. DO NOT EDIT.

UPDATE turn SET cancel_requested_time = CURRENT_TIMESTAMP
WHERE
  turn.owner_id = %(owner)s AND turn.id = %(turn)s AND turn.state = 'RUNNING'
RETURNING turn.id;

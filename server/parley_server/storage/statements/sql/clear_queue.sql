-- Remove what started turns of a deleted conversation would have said, a part of very much.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

WITH held AS (
  SELECT
    deletion.conversation_id AS conversation_id
  FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = :conversation
    AND deletion.stage = 'TRASHED'
    AND deletion.due_time > CURRENT_TIMESTAMP
  FOR NO KEY UPDATE
)
DELETE FROM turn_queue
WHERE
  turn_queue.owner_id = :owner
  AND turn_queue.turn_id = ANY(
    ARRAY((
      SELECT
        turn_queue.turn_id
      FROM turn_queue
      JOIN held
        ON TRUE
      WHERE
        turn_queue.owner_id = :owner AND turn_queue.conversation_id = :conversation
      LIMIT 500
    ))
  )
RETURNING turn_queue.turn_id

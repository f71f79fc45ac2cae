-- Store a step of an attempt under way, under the fence; the attempt does not count then.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :turn uuid
-- :number integer
-- :kind text
-- :body text
-- :fence bigint

WITH held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions,
    conversation.agent AS agent,
    conversation.labels AS labels,
    conversation.queue_length AS queue_length,
    conversation.queue_number AS queue_number
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE
), stored AS (
  INSERT INTO turn_step (
    owner_id,
    turn_id,
    number,
    kind,
    body
  )
  SELECT
    :owner,
    :turn,
    :number,
    :kind,
    :body
  FROM held
  WHERE
    held.fence = :fence AND held.open_turn_id = :turn
  ON CONFLICT (owner_id, turn_id, number) DO NOTHING
), got_on AS (
  UPDATE turn SET spent_attempts = -1, abandoned_attempts = 0
  FROM held
  WHERE
    turn.owner_id = :owner
    AND turn.id = :turn
    AND held.fence = :fence
    AND held.open_turn_id = :turn
    AND (
      turn.spent_attempts <> -1 OR turn.abandoned_attempts <> 0
    )
)
SELECT
  held.fence
FROM held
WHERE
  held.fence = :fence AND held.open_turn_id = :turn

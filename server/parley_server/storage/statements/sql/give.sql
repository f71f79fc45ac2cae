-- Store what a caller gave for some of the calls that a turn waits for.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :digests text
-- :turn uuid
-- :known_digests text
-- :fence bigint
-- :bodies text

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
), given AS (
  UPDATE turn_wait SET digests = :digests
  FROM held
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id = :turn
    AND turn_wait.digests = :known_digests
    AND held.fence = :fence
    AND held.open_turn_id = :turn
  RETURNING turn_wait.turn_id AS id
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
    (
      SELECT
        COALESCE(MAX(turn_step.number), 0) AS coalesce_1
      FROM turn_step
      WHERE
        turn_step.owner_id = :owner AND turn_step.turn_id = :turn
    ) + bodies.place,
    'GIVEN',
    bodies.body AS body
  FROM given
  JOIN JSON_ARRAY_ELEMENTS_TEXT(CAST(:bodies AS JSON)) WITH ORDINALITY AS bodies(body, place)
    ON TRUE
)
SELECT
  given.id
FROM given

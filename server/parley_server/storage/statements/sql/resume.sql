-- Store what a caller gave for the last of them, and take the lease for a new attempt.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :digests text
-- :turn uuid
-- :known_digests text
-- :fence bigint
-- :bodies text
-- :lease interval

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
), retaken AS (
  UPDATE turn SET state = 'RUNNING', attempt = (
    turn.attempt + 1
  ), attempt_time = CURRENT_TIMESTAMP, spent_attempts = 0, abandoned_attempts = 0, is_counted = FALSE
  FROM given
  WHERE
    turn.owner_id = :owner AND turn.id = :turn AND turn.id = given.id
  RETURNING turn.id, turn.attempt, turn.is_started
), taken AS (
  UPDATE conversation SET fence = (
    conversation.fence + 1
  ), lease_expires_at = (
    CURRENT_TIMESTAMP + :lease
  ), update_time = CURRENT_TIMESTAMP
  FROM retaken
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND retaken.id = :turn
  RETURNING conversation.labels
), labelled AS (
  INSERT INTO conversation_label (
    owner_id,
    conversation_id,
    key,
    value,
    update_time
  )
  SELECT
    :owner,
    :conversation,
    pairs.key AS key,
    pairs.value AS value,
    CURRENT_TIMESTAMP AS now_1
  FROM taken
  JOIN LATERAL JSON_EACH_TEXT(CAST(taken.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
), none_due AS (
  DELETE FROM wait_due USING   retaken
  WHERE
    wait_due.owner_id = :owner
    AND wait_due.turn_id = :turn
    AND retaken.id = :turn
), events_gone AS (
  DELETE FROM turn_event USING   retaken
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id = :turn
    AND retaken.id = turn_event.turn_id
), queue_looked_at AS (
  UPDATE queue_due SET due_time = (
    CURRENT_TIMESTAMP + :lease
  )
  FROM retaken
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND retaken.id = :turn
)
SELECT
  retaken.attempt,
  held.fence + 1,
  held.instructions,
  retaken.is_started
FROM held
JOIN retaken
  ON TRUE

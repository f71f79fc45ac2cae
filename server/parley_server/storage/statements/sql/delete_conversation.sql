-- Hide a conversation from every call, and end its open turn.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :trash interval

WITH held AS (
  SELECT
    conversation.id AS id,
    conversation.open_turn_id AS open_turn_id,
    conversation.update_time AS update_time,
    conversation.labels AS labels,
    CURRENT_TIMESTAMP AS now
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.delete_time IS NULL
    AND conversation.owner_id = :owner
    AND conversation.id = :conversation
), gone AS (
  UPDATE conversation SET fence = (
    conversation.fence + 1
  ), open_turn_id = NULL, lease_expires_at = NULL, update_time = CAST('epoch' AS TIMESTAMPTZ), delete_time = CURRENT_TIMESTAMP, queue_length = 0, queue_number = (
    conversation.queue_number + 1
  )
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = ANY(
      ARRAY((
        SELECT
          held.id
        FROM held
      ))
    )
), closed AS (
  UPDATE turn SET state = 'FAILED', is_started = FALSE, error_reason = 'TURN_ABANDONED', error_text = 'the worker that ran the turn went away', end_time = CURRENT_TIMESTAMP
  WHERE
    turn.owner_id = :owner
    AND turn.id = ANY(
      ARRAY((
        SELECT
          held.open_turn_id
        FROM held
      ))
    )
  RETURNING turn.agent, turn.is_counted, turn.conversation_id
), counted AS (
  INSERT INTO usage_day (
    owner_id,
    day,
    agent,
    labels_digest,
    slot,
    labels,
    attempts,
    failed_attempts
  )
  SELECT
    :owner,
    CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE),
    closed.agent AS agent,
    CAST(MD5(COALESCE(held.labels, '')) AS UUID) AS md5_1,
    GET_BYTE(UUID_SEND(closed.conversation_id), 15) & 15,
    held.labels AS labels,
    SUM(CASE WHEN closed.is_counted THEN 0 ELSE 1 END) AS sum_1,
    SUM(CASE WHEN closed.is_counted THEN 0 ELSE 1 END) AS sum__1
  FROM closed
  JOIN held
    ON held.id = closed.conversation_id
  GROUP BY
    closed.agent,
    CAST(MD5(COALESCE(held.labels, '')) AS UUID),
    GET_BYTE(UUID_SEND(closed.conversation_id), 15) & 15,
    held.labels
  ORDER BY
    closed.agent,
    CAST(MD5(COALESCE(held.labels, '')) AS UUID),
    GET_BYTE(UUID_SEND(closed.conversation_id), 15) & 15
  ON CONFLICT (owner_id, day, agent, labels_digest, slot) DO UPDATE SET attempts = (
    usage_day.attempts + excluded.attempts
  ), failed_attempts = (
    usage_day.failed_attempts + excluded.failed_attempts
  )
), events_gone AS (
  DELETE FROM turn_event
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id = ANY(
      ARRAY((
        SELECT
          held.open_turn_id
        FROM held
      ))
    )
), none_waits AS (
  DELETE FROM wait_due
  WHERE
    wait_due.owner_id = :owner
    AND wait_due.turn_id = ANY(
      ARRAY((
        SELECT
          held.open_turn_id
        FROM held
      ))
    )
), unlisted AS (
  DELETE FROM conversation_label
  WHERE
    conversation_label.owner_id = :owner
    AND conversation_label.conversation_id = ANY(
      ARRAY((
        SELECT
          held.id
        FROM held
      ))
    )
), waiting AS (
  SELECT
    turn_queue.turn_id AS turn_id
  FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND turn_queue.conversation_id = ANY(
      ARRAY((
        SELECT
          held.id
        FROM held
      ))
    )
), some_gone AS (
  DELETE FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND turn_queue.turn_id = ANY(
      ARRAY((
        SELECT
          waiting.turn_id
        FROM waiting
        LIMIT 500
      ))
    )
), none_due AS (
  DELETE FROM queue_due
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = ANY(
      ARRAY((
        SELECT
          held.id
        FROM held
      ))
    )
), never_run AS (
  UPDATE turn SET state = CASE WHEN (
    turn.user_sequence = 0
  ) THEN 'CANCELLED' ELSE 'FAILED' END, is_started = FALSE, end_time = COALESCE(turn.end_time, (
    SELECT
      held.now
    FROM held
    LIMIT 1
  ))
  WHERE
    turn.owner_id = :owner
    AND turn.state = 'QUEUED'
    AND turn.id = ANY(
      ARRAY((
        SELECT
          waiting.turn_id
        FROM waiting
      ))
    )
), due AS (
  INSERT INTO deletion (
    owner_id,
    conversation_id,
    stage,
    due_time,
    update_time
  )
  SELECT
    :owner,
    held.id AS id,
    'TRASHED',
    CURRENT_TIMESTAMP + :trash,
    held.update_time AS update_time
  FROM held
  RETURNING deletion.conversation_id, deletion.due_time
)
SELECT
  held.id,
  held.open_turn_id,
  due.due_time
FROM held
JOIN due
  ON held.id = due.conversation_id

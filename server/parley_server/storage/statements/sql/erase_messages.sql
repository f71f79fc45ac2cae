-- Remove the next messages that an erasure has hidden, and the turns that they began.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text
-- :up_to uuid
-- :max_conversations integer
-- :limit integer
-- :max_bytes bigint

WITH job AS (
  SELECT
    erasure.hide_time AS hide_time
  FROM erasure
  WHERE
    erasure.owner_id = :owner
    AND erasure.request_id = :request
    AND erasure.end_time IS NULL
    AND erasure.hide_time IS NOT NULL
  FOR UPDATE SKIP LOCKED
), looked AS (
  SELECT
    deletion.conversation_id AS conversation_id
  FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.stage = 'ERASING'
    AND deletion.conversation_id <= :up_to
  ORDER BY
    deletion.conversation_id DESC
  LIMIT :max_conversations
), chosen AS (
  SELECT
    conversation.id AS conversation_id
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.create_time <= (
      SELECT
        job.hide_time
      FROM job
    )
    AND conversation.id = ANY(
      ARRAY((
        SELECT
          looked.conversation_id
        FROM looked
      ))
    )
), part AS (
  SELECT
    sized.conversation_id AS conversation_id,
    sized.turn_id AS turn_id,
    sized.role AS role,
    sized.place AS place
  FROM (
    SELECT
      ordered.conversation_id AS conversation_id,
      newest.turn_id AS turn_id,
      newest.role AS role,
      newest.place AS place,
      newest.size AS size,
      SUM(newest.size) OVER (
        ORDER BY ordered.conversation_id DESC, newest.sequence DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ) AS total
    FROM (
      SELECT
        chosen.conversation_id AS conversation_id
      FROM chosen
      ORDER BY
        chosen.conversation_id DESC
    ) AS ordered
    JOIN LATERAL (
      SELECT
        message.sequence AS sequence,
        message.turn_id AS turn_id,
        message.role AS role,
        message.ctid AS place,
        OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0) + COALESCE(OCTET_LENGTH(message.opaque_state), 0) AS size
      FROM message
      WHERE
        message.owner_id = :owner
        AND message.conversation_id = ordered.conversation_id
      ORDER BY
        message.sequence DESC
      LIMIT :limit
    ) AS newest
      ON TRUE
    ORDER BY
      ordered.conversation_id DESC,
      newest.sequence DESC
    LIMIT :limit
  ) AS sized
  WHERE
    sized.total <= :max_bytes OR sized.total = sized.size
), turn_event_gone AS (
  DELETE FROM turn_event
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id = ANY(
      ARRAY((
        SELECT
          part.turn_id
        FROM part
        WHERE
          part.role = 'USER'
      ))
    )
), turn_step_gone AS (
  DELETE FROM turn_step
  WHERE
    turn_step.owner_id = :owner
    AND turn_step.turn_id = ANY(
      ARRAY((
        SELECT
          part.turn_id
        FROM part
        WHERE
          part.role = 'USER'
      ))
    )
), turn_wait_gone AS (
  DELETE FROM turn_wait
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id = ANY(
      ARRAY((
        SELECT
          part.turn_id
        FROM part
        WHERE
          part.role = 'USER'
      ))
    )
), wait_due_gone AS (
  DELETE FROM wait_due
  WHERE
    wait_due.owner_id = :owner
    AND wait_due.turn_id = ANY(
      ARRAY((
        SELECT
          part.turn_id
        FROM part
        WHERE
          part.role = 'USER'
      ))
    )
), messages_gone AS (
  DELETE FROM message
  WHERE
    message.owner_id = :owner
    AND message.ctid = ANY(
      ARRAY((
        SELECT
          part.place
        FROM part
      ))
    )
  RETURNING message.sequence
), turns_gone AS (
  DELETE FROM turn
  WHERE
    turn.owner_id = :owner
    AND turn.id = ANY(
      ARRAY((
        SELECT
          part.turn_id
        FROM part
        WHERE
          part.role = 'USER'
      ))
    )
    AND turn.conversation_id = ANY(
      ARRAY((
        SELECT
          part.conversation_id
        FROM part
      ))
    )
  RETURNING turn.id
), counted AS (
  UPDATE erasure SET messages = (
    erasure.messages + (
      SELECT
        COUNT(*) AS count_1
      FROM messages_gone
    )
  ), turns = (
    erasure.turns + (
      SELECT
        COUNT(*) AS count_2
      FROM turns_gone
    )
  )
  WHERE
    erasure.owner_id = :owner
    AND erasure.request_id = :request
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM job
    ) = 1
)
SELECT
  (
    SELECT
      COUNT(*) AS count_4
    FROM messages_gone
  ),
  (
    SELECT
      part.conversation_id
    FROM part
    ORDER BY
      part.conversation_id
    LIMIT 1
  ),
  (
    SELECT
      looked.conversation_id
    FROM looked
    ORDER BY
      looked.conversation_id
    LIMIT 1
  ),
  (
    SELECT
      COUNT(*) AS count_5
    FROM looked
  )
FROM job

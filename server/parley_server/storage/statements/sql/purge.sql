-- Remove the next messages of a deleted conversation.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :tombstone interval
-- :owner uuid
-- :conversation uuid
-- :limit integer
-- :max_bytes bigint

WITH job AS (
  SELECT
    deletion.stage AS stage,
    deletion.reached AS reached,
    CURRENT_TIMESTAMP + :tombstone AS tombstone_end
  FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = :conversation
    AND deletion.stage IN ('TRASHED', 'PURGING')
    AND deletion.due_time <= CURRENT_TIMESTAMP
  FOR UPDATE SKIP LOCKED
), part AS (
  SELECT
    MAX(sized.sequence) AS up_to
  FROM (
    SELECT
      message.sequence AS sequence,
      SUM(
        OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0) + COALESCE(OCTET_LENGTH(message.opaque_state), 0)
      ) OVER (ORDER BY message.sequence ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total,
      OCTET_LENGTH(message.content) + COALESCE(OCTET_LENGTH(message.tool_calls), 0) + COALESCE(OCTET_LENGTH(message.opaque_state), 0) AS size
    FROM message
    WHERE
      message.owner_id = :owner
      AND message.conversation_id = :conversation
      AND message.sequence > (
        SELECT
          job.reached
        FROM job
      )
    ORDER BY
      message.sequence
    LIMIT :limit
  ) AS sized
  WHERE
    sized.total <= :max_bytes OR sized.total = sized.size
), turn_event_gone AS (
  DELETE FROM turn_event
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id IN (
      SELECT
        turn.id
      FROM turn
      WHERE
        turn.owner_id = :owner
        AND turn.conversation_id = :conversation
        AND turn.user_sequence > (
          SELECT
            job.reached
          FROM job
        )
        AND turn.user_sequence <= (
          SELECT
            part.up_to
          FROM part
        )
    )
), turn_step_gone AS (
  DELETE FROM turn_step
  WHERE
    turn_step.owner_id = :owner
    AND turn_step.turn_id IN (
      SELECT
        turn.id
      FROM turn
      WHERE
        turn.owner_id = :owner
        AND turn.conversation_id = :conversation
        AND turn.user_sequence > (
          SELECT
            job.reached
          FROM job
        )
        AND turn.user_sequence <= (
          SELECT
            part.up_to
          FROM part
        )
    )
), turn_wait_gone AS (
  DELETE FROM turn_wait
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id IN (
      SELECT
        turn.id
      FROM turn
      WHERE
        turn.owner_id = :owner
        AND turn.conversation_id = :conversation
        AND turn.user_sequence > (
          SELECT
            job.reached
          FROM job
        )
        AND turn.user_sequence <= (
          SELECT
            part.up_to
          FROM part
        )
    )
), turns_gone AS (
  DELETE FROM turn
  WHERE
    turn.owner_id = :owner
    AND turn.conversation_id = :conversation
    AND (
      turn.user_sequence > (
        SELECT
          job.reached
        FROM job
      )
      AND turn.user_sequence <= (
        SELECT
          part.up_to
        FROM part
      )
      OR turn.user_sequence = 0
      AND (
        SELECT
          job.stage
        FROM job
      ) = 'TRASHED'
    )
    AND NOT (
      turn.request_id IS NOT NULL
      OR turn.create_time > CURRENT_TIMESTAMP - INTERVAL '2 MINUTES'
    )
), turns_blanked AS (
  UPDATE turn SET fingerprint = CAST('' AS BYTEA), instructions_digest = NULL, error_text = NULL
  WHERE
    turn.owner_id = :owner
    AND turn.conversation_id = :conversation
    AND (
      turn.user_sequence > (
        SELECT
          job.reached
        FROM job
      )
      AND turn.user_sequence <= (
        SELECT
          part.up_to
        FROM part
      )
      OR turn.user_sequence = 0
      AND (
        SELECT
          job.stage
        FROM job
      ) = 'TRASHED'
    )
    AND (
      turn.request_id IS NOT NULL
      OR turn.create_time > CURRENT_TIMESTAMP - INTERVAL '2 MINUTES'
    )
), creations_blanked AS (
  UPDATE creation SET fingerprint = CAST('' AS BYTEA)
  WHERE
    creation.owner_id = :owner
    AND creation.conversation_id = :conversation
    AND (
      SELECT
        job.stage
      FROM job
    ) = 'TRASHED'
), some_additions AS (
  SELECT
    addition.request_id AS request_id
  FROM addition
  WHERE
    addition.owner_id = :owner
    AND addition.conversation_id = :conversation
    AND addition.fingerprint <> CAST('' AS BYTEA)
  LIMIT :limit
), additions_blanked AS (
  UPDATE addition SET fingerprint = CAST('' AS BYTEA)
  WHERE
    addition.owner_id = :owner
    AND addition.request_id = ANY(
      ARRAY((
        SELECT
          some_additions.request_id
        FROM some_additions
      ))
    )
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
), some_queued AS (
  SELECT
    turn_queue.turn_id AS turn_id
  FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner AND turn_queue.conversation_id = :conversation
  LIMIT :limit
), queue_gone AS (
  DELETE FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND turn_queue.turn_id = ANY(
      ARRAY((
        SELECT
          some_queued.turn_id
        FROM some_queued
      ))
    )
), blanked AS (
  UPDATE conversation SET tenant_id = '', user_id = '', title = '', preview = '', labels = NULL, instructions = NULL, agent = NULL
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND (
      SELECT
        job.stage
      FROM job
    ) = 'TRASHED'
), messages_gone AS (
  DELETE FROM message
  WHERE
    message.owner_id = :owner
    AND message.conversation_id = :conversation
    AND message.sequence > (
      SELECT
        job.reached
      FROM job
    )
    AND message.sequence <= (
      SELECT
        part.up_to
      FROM part
    )
  RETURNING message.sequence
), progressed AS (
  UPDATE deletion SET stage = CASE
    WHEN (
      (
        SELECT
          part.up_to
        FROM part
      ) IS NULL
      AND (
        SELECT
          COUNT(*) AS count_2
        FROM some_additions
      ) < :limit
      AND (
        SELECT
          COUNT(*) AS count_3
        FROM some_queued
      ) < :limit
    )
    THEN 'TOMBSTONE'
    ELSE 'PURGING'
  END, due_time = CASE
    WHEN (
      (
        SELECT
          part.up_to
        FROM part
      ) IS NULL
      AND (
        SELECT
          COUNT(*) AS count_2
        FROM some_additions
      ) < :limit
      AND (
        SELECT
          COUNT(*) AS count_3
        FROM some_queued
      ) < :limit
    )
    THEN (
      SELECT
        job.tombstone_end
      FROM job
    )
    ELSE deletion.due_time
  END, reached = COALESCE((
    SELECT
      part.up_to
    FROM part
  ), deletion.reached)
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
  RETURNING deletion.stage
)
SELECT
  progressed.stage,
  (
    SELECT
      COUNT(*) AS count_1
    FROM messages_gone
  )
FROM progressed

-- Remove the next conversations that an erasure has emptied.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text
-- :up_to uuid
-- :max_conversations integer
-- :limit integer

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
), some_turn AS (
  SELECT
    its_turn.id AS id
  FROM chosen
  JOIN LATERAL (
    SELECT
      turn.id AS id
    FROM turn
    WHERE
      turn.owner_id = :owner AND turn.conversation_id = chosen.conversation_id
    LIMIT :limit
  ) AS its_turn
    ON TRUE
  LIMIT :limit
), some_addition AS (
  SELECT
    its_addition.request_id AS request_id
  FROM chosen
  JOIN LATERAL (
    SELECT
      addition.request_id AS request_id
    FROM addition
    WHERE
      addition.owner_id = :owner
      AND addition.conversation_id = chosen.conversation_id
    LIMIT :limit
  ) AS its_addition
    ON TRUE
  LIMIT :limit
), some_turn_queue AS (
  SELECT
    its_turn_queue.turn_id AS turn_id
  FROM chosen
  JOIN LATERAL (
    SELECT
      turn_queue.turn_id AS turn_id
    FROM turn_queue
    WHERE
      turn_queue.owner_id = :owner
      AND turn_queue.conversation_id = chosen.conversation_id
    LIMIT :limit
  ) AS its_turn_queue
    ON TRUE
  LIMIT :limit
), conversation_label_gone AS (
  DELETE FROM conversation_label
  WHERE
    conversation_label.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turn
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_addition
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM some_turn_queue
    ) < :limit
    AND conversation_label.conversation_id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING conversation_label.conversation_id
), creation_gone AS (
  DELETE FROM creation
  WHERE
    creation.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turn
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_addition
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM some_turn_queue
    ) < :limit
    AND creation.conversation_id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING creation.conversation_id
), queue_due_gone AS (
  DELETE FROM queue_due
  WHERE
    queue_due.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turn
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_addition
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM some_turn_queue
    ) < :limit
    AND queue_due.conversation_id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING queue_due.conversation_id
), message_gone AS (
  DELETE FROM message
  WHERE
    message.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turn
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_addition
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM some_turn_queue
    ) < :limit
    AND message.conversation_id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING message.conversation_id
), conversation_gone AS (
  DELETE FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turn
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_addition
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM some_turn_queue
    ) < :limit
    AND conversation.id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING conversation.id
), deletion_gone AS (
  DELETE FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turn
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_addition
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_3
      FROM some_turn_queue
    ) < :limit
    AND deletion.conversation_id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING deletion.conversation_id
), turn_event_gone AS (
  DELETE FROM turn_event
  WHERE
    turn_event.owner_id = :owner
    AND turn_event.turn_id = ANY(
      ARRAY((
        SELECT
          some_turn.id
        FROM some_turn
      ))
    )
), turn_step_gone AS (
  DELETE FROM turn_step
  WHERE
    turn_step.owner_id = :owner
    AND turn_step.turn_id = ANY(
      ARRAY((
        SELECT
          some_turn.id
        FROM some_turn
      ))
    )
), turn_wait_gone AS (
  DELETE FROM turn_wait
  WHERE
    turn_wait.owner_id = :owner
    AND turn_wait.turn_id = ANY(
      ARRAY((
        SELECT
          some_turn.id
        FROM some_turn
      ))
    )
), wait_due_gone AS (
  DELETE FROM wait_due
  WHERE
    wait_due.owner_id = :owner
    AND wait_due.turn_id = ANY(
      ARRAY((
        SELECT
          some_turn.id
        FROM some_turn
      ))
    )
), some_addition_gone AS (
  DELETE FROM addition
  WHERE
    addition.owner_id = :owner
    AND addition.request_id = ANY(
      ARRAY((
        SELECT
          some_addition.request_id
        FROM some_addition
      ))
    )
), some_turn_queue_gone AS (
  DELETE FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND turn_queue.turn_id = ANY(
      ARRAY((
        SELECT
          some_turn_queue.turn_id
        FROM some_turn_queue
      ))
    )
), turns_gone AS (
  DELETE FROM turn
  WHERE
    turn.owner_id = :owner
    AND turn.id = ANY(
      ARRAY((
        SELECT
          some_turn.id
        FROM some_turn
      ))
    )
    AND turn.conversation_id = ANY(
      ARRAY((
        SELECT
          chosen.conversation_id
        FROM chosen
      ))
    )
  RETURNING turn.id
), counted AS (
  UPDATE erasure SET conversations = (
    erasure.conversations + (
      SELECT
        COUNT(*) AS count_4
      FROM conversation_gone
    )
  ), messages = (
    erasure.messages + (
      SELECT
        COUNT(*) AS count_5
      FROM message_gone
    )
  ), turns = (
    erasure.turns + (
      SELECT
        COUNT(*) AS count_6
      FROM turns_gone
    )
  )
  WHERE
    erasure.owner_id = :owner
    AND erasure.request_id = :request
    AND (
      SELECT
        COUNT(*) AS count_7
      FROM job
    ) = 1
)
SELECT
  (
    SELECT
      COUNT(*) AS count_1
    FROM some_turn
  ) < :limit
  AND (
    SELECT
      COUNT(*) AS count_2
    FROM some_addition
  ) < :limit
  AND (
    SELECT
      COUNT(*) AS count_3
    FROM some_turn_queue
  ) < :limit,
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
      COUNT(*) AS count_8
    FROM looked
  )
FROM job

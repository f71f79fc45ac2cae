-- Remove what a deleted conversation had left behind: its ids.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :limit integer

WITH some_turns AS (
  SELECT
    turn.id AS id
  FROM turn
  WHERE
    turn.owner_id = :owner AND turn.conversation_id = :conversation
  ORDER BY
    turn.user_sequence
  LIMIT :limit
), job AS (
  SELECT
    deletion.stage AS stage,
    deletion.reached AS reached
  FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = :conversation
    AND deletion.stage IN ('TOMBSTONE')
    AND deletion.due_time <= CURRENT_TIMESTAMP
  FOR UPDATE SKIP LOCKED
), turns_gone AS (
  DELETE FROM turn
  WHERE
    turn.owner_id = :owner
    AND turn.id IN (
      SELECT
        some_turns.id
      FROM some_turns
    )
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
), some_additions AS (
  SELECT
    addition.request_id AS request_id
  FROM addition
  WHERE
    addition.owner_id = :owner AND addition.conversation_id = :conversation
  LIMIT :limit
), additions_gone AS (
  DELETE FROM addition
  WHERE
    addition.owner_id = :owner
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND addition.request_id = ANY(
      ARRAY((
        SELECT
          some_additions.request_id
        FROM some_additions
      ))
    )
), conversation_gone AS (
  DELETE FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
), message_gone AS (
  DELETE FROM message
  WHERE
    message.owner_id = :owner
    AND message.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
), conversation_label_gone AS (
  DELETE FROM conversation_label
  WHERE
    conversation_label.owner_id = :owner
    AND conversation_label.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
), creation_gone AS (
  DELETE FROM creation
  WHERE
    creation.owner_id = :owner
    AND creation.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
), turn_queue_gone AS (
  DELETE FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND turn_queue.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
), queue_due_gone AS (
  DELETE FROM queue_due
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
), deletion_gone AS (
  DELETE FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = :conversation
    AND (
      SELECT
        job.reached
      FROM job
    ) IS NOT NULL
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM some_turns
    ) < :limit
    AND (
      SELECT
        COUNT(*) AS count_2
      FROM some_additions
    ) < :limit
)
SELECT
  (
    SELECT
      job.reached
    FROM job
  ) IS NOT NULL
  AND (
    SELECT
      COUNT(*) AS count_1
    FROM some_turns
  ) < :limit
  AND (
    SELECT
      COUNT(*) AS count_2
    FROM some_additions
  ) < :limit AS is_last
FROM job

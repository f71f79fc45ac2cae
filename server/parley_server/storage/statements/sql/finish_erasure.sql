-- Close an erasure that has removed everything.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

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
), noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND (
      SELECT
        COUNT(*) AS count_1
      FROM job
    ) = 1
  LIMIT 1
  ON CONFLICT (owner_id) DO NOTHING
)
UPDATE erasure SET end_time = CURRENT_TIMESTAMP
WHERE
  erasure.owner_id = :owner
  AND erasure.request_id = :request
  AND (
    SELECT
      COUNT(*) AS count_2
    FROM job
  ) = 1
RETURNING erasure.owner_id, erasure.request_id, erasure.start_time, erasure.hide_time, erasure.end_time, erasure.conversations, erasure.messages, erasure.turns

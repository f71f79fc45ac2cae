-- Read which of an owner's next conversations were created too long ago, and lock them.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :from_id uuid
-- :limit integer
-- :age interval

WITH part AS (
  SELECT
    conversation.id AS id,
    conversation.create_time AS create_time
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id >= :from_id
  ORDER BY
    conversation.id
  LIMIT :limit
), locked AS (
  SELECT
    conversation.id AS id
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.delete_time IS NULL
    AND (
      conversation.open_turn_id IS NULL
      OR conversation.lease_expires_at <= CURRENT_TIMESTAMP
    )
    AND conversation.queue_length = 0
    AND conversation.id = ANY(
      ARRAY((
        SELECT
          part.id
        FROM part
        WHERE
          part.create_time <= CURRENT_TIMESTAMP - :age
      ))
    )
  FOR UPDATE SKIP LOCKED
)
SELECT
  part.id,
  locked.id IS NOT NULL AS is_old
FROM part
LEFT OUTER JOIN locked
  ON part.id = locked.id
ORDER BY
  part.id

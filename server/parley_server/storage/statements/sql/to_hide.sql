-- Read which of an owner's next conversations an erasure has to hide.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :from_id uuid
-- :limit integer
-- :start timestamp with time zone

WITH part AS (
  SELECT
    conversation.id AS id,
    conversation.create_time AS create_time,
    conversation.forked_from_id AS forked_from_id
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id >= :from_id
  ORDER BY
    conversation.id
  LIMIT :limit
)
SELECT
  part.id,
  (
    part.create_time <= CAST(:start AS TIMESTAMPTZ)
    OR (
      SELECT
        deletion.stage
      FROM deletion
      WHERE
        deletion.owner_id = :owner AND deletion.conversation_id = part.forked_from_id
    ) IS NOT DISTINCT FROM 'ERASING'
  )
  AND (
    SELECT
      deletion.stage
    FROM deletion
    WHERE
      deletion.owner_id = :owner AND deletion.conversation_id = part.id
  ) IS DISTINCT FROM 'ERASING' AS is_due
FROM part
ORDER BY
  part.id

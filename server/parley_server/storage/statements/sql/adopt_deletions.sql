-- Have an erasure remove conversations that were deleted before.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :ids text

WITH due AS (
  SELECT
    deletion.conversation_id AS conversation_id
  FROM deletion
  WHERE
    deletion.owner_id = :owner
    AND deletion.conversation_id = ANY(
      ARRAY((
        SELECT
          CAST(named AS UUID) AS named
        FROM JSON_ARRAY_ELEMENTS_TEXT(CAST(:ids AS JSON)) AS named
      ))
    )
  ORDER BY
    deletion.conversation_id
  FOR NO KEY UPDATE
)
UPDATE deletion SET stage = 'ERASING', due_time = CAST('9999-12-31' AS TIMESTAMPTZ)
WHERE
  deletion.owner_id = :owner
  AND deletion.conversation_id = ANY(
    ARRAY((
      SELECT
        due.conversation_id
      FROM due
    ))
  )
RETURNING deletion.conversation_id

-- Lock conversations, so that what follows in the transaction sees all that was done before.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :ids text

SELECT
  conversation.id
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND conversation.id = ANY(
    ARRAY((
      SELECT
        CAST(named AS UUID) AS named
      FROM JSON_ARRAY_ELEMENTS_TEXT(CAST(:ids AS JSON)) AS named
    ))
  )
  AND conversation.delete_time IS NULL
ORDER BY
  conversation.id
  FOR UPDATE

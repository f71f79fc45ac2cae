-- Read a page of those of an owner's conversations that have all of some labels.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :labels text
-- :owner uuid
-- :updated_after timestamp with time zone
-- :after_time timestamp with time zone
-- :after_id uuid
-- :limit integer

WITH rarest AS (
  SELECT
    wanted.key AS key,
    wanted.value AS value
  FROM JSON_EACH_TEXT(CAST(:labels AS JSON)) AS wanted(key, value)
  ORDER BY
    (
      SELECT
        1
      FROM conversation_label AS "some"
      WHERE
        "some".owner_id = :owner
        AND "some".key = wanted.key
        AND "some".value = wanted.value
      LIMIT 1
      OFFSET 1000
    ) NULLS FIRST
  LIMIT 1
)
SELECT
  conversation.id,
  conversation.title,
  conversation.create_time,
  conversation.update_time,
  conversation.last_sequence,
  conversation.preview,
  CASE
    WHEN (
      conversation.open_turn_id IS NOT NULL
      AND (
        conversation.lease_expires_at IS NULL
        OR conversation.lease_expires_at > CURRENT_TIMESTAMP
      )
    )
    THEN conversation.open_turn_id
  END AS open_turn_id,
  conversation.labels,
  NULL AS instructions,
  conversation.revision,
  conversation.forked_from_id,
  conversation.forked_from_sequence
FROM (
  SELECT
    walked.conversation_id AS conversation_id,
    walked.update_time AS update_time
  FROM conversation_label AS walked
  WHERE
    walked.owner_id = :owner
    AND walked.key = (
      SELECT
        rarest.key
      FROM rarest
    )
    AND walked.value = (
      SELECT
        rarest.value
      FROM rarest
    )
    AND walked.update_time > COALESCE(:updated_after, CAST('epoch' AS TIMESTAMPTZ))
    AND (walked.update_time, walked.conversation_id) < (
      COALESCE(:after_time, CAST('infinity' AS TIMESTAMPTZ)),
      COALESCE(:after_id, CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS UUID))
    )
    AND NOT (
      EXISTS(
        SELECT
          1
        FROM JSON_EACH_TEXT(CAST(:labels AS JSON)) AS wanted(key, value)
        LEFT OUTER JOIN conversation_label AS other
          ON other.owner_id = :owner
          AND other.conversation_id = walked.conversation_id
          AND other.key = wanted.key
          AND other.value = wanted.value
        WHERE
          other.key IS NULL
      )
    )
  ORDER BY
    walked.update_time DESC,
    walked.conversation_id DESC
  LIMIT :limit
) AS page
JOIN conversation
  ON conversation.owner_id = :owner
  AND conversation.id = page.conversation_id
  AND conversation.delete_time IS NULL
ORDER BY
  page.update_time DESC,
  page.conversation_id DESC

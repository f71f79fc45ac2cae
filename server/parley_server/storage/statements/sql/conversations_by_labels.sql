-- Read a page of an owner's conversations that have all of some labels, and where it ends.
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
  LEFT OUTER JOIN LATERAL (
    SELECT
      1 AS one
    FROM conversation_label AS "some"
    WHERE
      "some".owner_id = :owner
      AND "some".key = wanted.key
      AND "some".value = wanted.value
    LIMIT 1
    OFFSET 1000
  ) AS common
    ON TRUE
  ORDER BY
    common.one NULLS FIRST
  LIMIT 1
)
SELECT
  walked.update_time,
  walked.conversation_id,
  walked.number = 1001 AS is_last,
  found.id,
  found.title,
  found.create_time,
  found.update_time AS update_time_1,
  found.last_sequence,
  found.preview,
  found.open_turn_id,
  found.labels,
  found.instructions,
  found.revision,
  found.forked_from_id,
  found.forked_from_sequence,
  found.agent
FROM (
  SELECT
    listed.update_time AS update_time,
    listed.conversation_id AS conversation_id,
    ROW_NUMBER() OVER (
      ORDER BY listed.update_time DESC, listed.conversation_id DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS number
  FROM conversation_label AS listed
  WHERE
    listed.owner_id = :owner
    AND listed.key = (
      SELECT
        rarest.key
      FROM rarest
    )
    AND listed.value = (
      SELECT
        rarest.value
      FROM rarest
    )
    AND listed.update_time > COALESCE(:updated_after, CAST('epoch' AS TIMESTAMPTZ))
    AND (listed.update_time, listed.conversation_id) < (
      COALESCE(:after_time, CAST('infinity' AS TIMESTAMPTZ)),
      COALESCE(:after_id, CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS UUID))
    )
  ORDER BY
    listed.update_time DESC,
    listed.conversation_id DESC
  LIMIT 1001
) AS walked
LEFT OUTER JOIN LATERAL (
  SELECT
    conversation.id AS id,
    conversation.title AS title,
    conversation.create_time AS create_time,
    conversation.update_time AS update_time,
    conversation.last_sequence AS last_sequence,
    conversation.preview AS preview,
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
    conversation.labels AS labels,
    NULL AS instructions,
    conversation.revision AS revision,
    conversation.forked_from_id AS forked_from_id,
    conversation.forked_from_sequence AS forked_from_sequence,
    conversation.agent AS agent
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = walked.conversation_id
    AND conversation.delete_time IS NULL
    AND CAST(conversation.labels AS JSONB) @> CAST(:labels AS JSONB)
  LIMIT 1
) AS found
  ON TRUE
WHERE
  found.id IS NOT NULL OR walked.number = 1001
ORDER BY
  walked.update_time DESC,
  walked.conversation_id DESC
LIMIT :limit

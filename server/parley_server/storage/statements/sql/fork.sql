-- Create a conversation with the messages of another one, up to the end of a turn.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :source uuid
-- :up_to bigint
-- :conversation uuid
-- :tenant text
-- :user text

WITH source AS (
  SELECT
    conversation.title AS title,
    conversation.labels AS labels,
    conversation.instructions AS instructions,
    conversation.agent AS agent,
    conversation.last_sequence AS last_sequence,
    conversation.open_turn_id IS NOT NULL
    AND (
      conversation.lease_expires_at IS NULL
      OR conversation.lease_expires_at > CURRENT_TIMESTAMP
    )
    OR (
      EXISTS(
        SELECT
          turn.id
        FROM turn
        WHERE
          turn.owner_id = :owner
          AND turn.conversation_id = :source
          AND turn.is_started
          AND turn.user_sequence = conversation.last_sequence
          AND turn.user_sequence > 0
      )
    ) AS is_open,
    CASE
      WHEN (
        :up_to > 0
      )
      THEN :up_to
      WHEN (
        conversation.open_turn_id IS NOT NULL
        AND (
          conversation.lease_expires_at IS NULL
          OR conversation.lease_expires_at > CURRENT_TIMESTAMP
        )
        OR (
          EXISTS(
            SELECT
              turn.id
            FROM turn
            WHERE
              turn.owner_id = :owner
              AND turn.conversation_id = :source
              AND turn.is_started
              AND turn.user_sequence = conversation.last_sequence
              AND turn.user_sequence > 0
          )
        )
      )
      THEN conversation.last_sequence - 1
      ELSE conversation.last_sequence
    END AS up_to
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :source
    AND conversation.delete_time IS NULL
), judged AS (
  SELECT
    source.title AS title,
    source.labels AS labels,
    source.instructions AS instructions,
    source.agent AS agent,
    source.last_sequence AS last_sequence,
    source.is_open AS is_open,
    source.up_to AS up_to,
    source.last_sequence >= source.up_to
    AND NOT (
      EXISTS(
        SELECT
          asked.sequence
        FROM message AS asked
        JOIN message AS answer
          ON answer.owner_id = :owner
          AND answer.conversation_id = :source
          AND answer.sequence = asked.sequence + 1
          AND answer.turn_id = asked.turn_id
        WHERE
          asked.owner_id = :owner
          AND asked.conversation_id = :source
          AND asked.sequence = source.up_to
          AND asked.turn_id <> CAST('00000000-0000-0000-0000-000000000000' AS UUID)
          AND asked.role = 'USER'
          AND answer.role = 'ASSISTANT'
      )
    )
    AND NOT (
      source.is_open AND source.last_sequence = source.up_to
    ) AS is_whole
  FROM source
), made AS (
  INSERT INTO conversation (
    owner_id,
    id,
    tenant_id,
    user_id,
    title,
    last_sequence,
    preview,
    fence,
    labels,
    instructions,
    agent,
    forked_from_id,
    forked_from_sequence
  )
  SELECT
    :owner,
    :conversation,
    :tenant,
    :user,
    judged.title AS title,
    judged.up_to AS up_to,
    COALESCE(
      (
        SELECT
          LEFT(message.content, 200) AS left_1
        FROM message
        WHERE
          message.owner_id = :owner
          AND message.conversation_id = :source
          AND message.sequence = judged.up_to
      ),
      ''
    ) AS coalesce_1,
    0,
    judged.labels AS labels,
    judged.instructions AS instructions,
    judged.agent AS agent,
    :source,
    judged.up_to AS up_to__1
  FROM judged
  WHERE
    judged.is_whole
  ON CONFLICT (owner_id, id) DO NOTHING
  RETURNING conversation.id, conversation.title, conversation.create_time, conversation.update_time, conversation.last_sequence, conversation.preview, conversation.open_turn_id, conversation.lease_expires_at, conversation.labels, conversation.instructions, conversation.revision, conversation.forked_from_id, conversation.forked_from_sequence, conversation.agent
), written AS (
  INSERT INTO message (
    owner_id,
    conversation_id,
    sequence,
    turn_id,
    role,
    content,
    tool_calls,
    usage,
    model,
    finish_reason,
    opaque_state,
    create_time
  )
  SELECT
    :owner,
    :conversation,
    message.sequence AS sequence,
    message.turn_id AS turn_id,
    message.role AS role,
    message.content AS content,
    message.tool_calls AS tool_calls,
    message.usage AS usage,
    message.model AS model,
    message.finish_reason AS finish_reason,
    message.opaque_state AS opaque_state,
    message.create_time AS create_time
  FROM message
  JOIN made
    ON message.sequence <= made.last_sequence
  WHERE
    message.owner_id = :owner AND message.conversation_id = :source
), labelled AS (
  INSERT INTO conversation_label (
    owner_id,
    conversation_id,
    key,
    value,
    update_time
  )
  SELECT
    :owner,
    :conversation,
    pairs.key AS key,
    pairs.value AS value,
    made.update_time AS update_time
  FROM made
  JOIN LATERAL JSON_EACH_TEXT(CAST(made.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
), noted AS (
  INSERT INTO owner (
    owner_id
  )
  SELECT
    :owner
  FROM made
  ON CONFLICT (owner_id) DO NOTHING
)
SELECT
  judged.last_sequence AS source_last_sequence,
  judged.up_to,
  judged.is_whole,
  made.id,
  made.title,
  made.create_time,
  made.update_time,
  made.last_sequence,
  made.preview,
  CASE
    WHEN (
      made.open_turn_id IS NOT NULL
      AND (
        made.lease_expires_at IS NULL OR made.lease_expires_at > CURRENT_TIMESTAMP
      )
    )
    THEN made.open_turn_id
  END AS open_turn_id,
  made.labels,
  made.instructions AS instructions,
  made.revision,
  made.forked_from_id,
  made.forked_from_sequence,
  made.agent
FROM judged
LEFT OUTER JOIN made
  ON TRUE

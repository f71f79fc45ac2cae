-- Change a conversation that has the expected revision.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :sets_title boolean
-- :title text
-- :sets_labels boolean
-- :labels text
-- :sets_instructions boolean
-- :instructions text
-- :sets_agent boolean
-- :agent text
-- :owner uuid
-- :conversation uuid
-- :expected bigint

WITH written AS (
  UPDATE conversation SET title = CASE WHEN :sets_title THEN :title ELSE conversation.title END, revision = (
    conversation.revision + 1
  ), labels = CASE WHEN :sets_labels THEN :labels ELSE conversation.labels END, instructions = CASE
    WHEN :sets_instructions
    THEN :instructions
    ELSE conversation.instructions
  END, agent = CASE WHEN :sets_agent THEN :agent ELSE conversation.agent END
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
    AND conversation.revision = COALESCE(:expected, conversation.revision)
  RETURNING conversation.id, conversation.title, conversation.create_time, conversation.update_time, conversation.last_sequence, conversation.preview, conversation.open_turn_id, conversation.lease_expires_at, conversation.labels, conversation.instructions, conversation.revision, conversation.forked_from_id, conversation.forked_from_sequence, conversation.agent
)
SELECT
  written.id,
  written.title,
  written.create_time,
  written.update_time,
  written.last_sequence,
  written.preview,
  CASE
    WHEN (
      written.open_turn_id IS NOT NULL
      AND (
        written.lease_expires_at IS NULL OR written.lease_expires_at > CURRENT_TIMESTAMP
      )
    )
    THEN written.open_turn_id
  END AS open_turn_id,
  written.labels,
  written.instructions AS instructions,
  written.revision,
  written.forked_from_id,
  written.forked_from_sequence,
  written.agent
FROM written

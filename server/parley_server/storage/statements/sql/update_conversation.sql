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
RETURNING conversation.id, conversation.title, conversation.create_time, conversation.update_time, conversation.last_sequence, conversation.preview, CASE
  WHEN (
    conversation.open_turn_id IS NOT NULL
    AND (
      conversation.lease_expires_at IS NULL
      OR conversation.lease_expires_at > CURRENT_TIMESTAMP
    )
  )
  THEN conversation.open_turn_id
END AS open_turn_id, conversation.labels, conversation.instructions AS instructions, conversation.revision, conversation.forked_from_id, conversation.forked_from_sequence, conversation.agent

-- Read an owner's next conversations in the order of their ids.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :from_id uuid
-- :limit integer

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
  conversation.instructions AS instructions,
  conversation.revision,
  conversation.forked_from_id,
  conversation.forked_from_sequence,
  conversation.agent
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND conversation.delete_time IS NULL
  AND conversation.id >= :from_id
ORDER BY
  conversation.id
LIMIT :limit

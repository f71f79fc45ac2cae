-- Read how a conversation stands: its length, its open turn, its fence.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid

SELECT
  conversation.last_sequence,
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
  conversation.update_time,
  conversation.lease_expires_at
FROM conversation
WHERE
  conversation.owner_id = :owner
  AND conversation.id = :conversation
  AND conversation.delete_time IS NULL

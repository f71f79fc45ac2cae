-- STANDING: Read how a conversation stands: its length, its open turn, its fence.
-- Rendered by `make gen`. DO NOT EDIT.

SELECT
  conversation.last_sequence,
  CASE
    WHEN (
      conversation.open_turn_id IS NOT NULL
      AND conversation.lease_expires_at > CURRENT_TIMESTAMP
    )
    THEN conversation.open_turn_id
  END AS anon_1,
  conversation.update_time,
  conversation.lease_expires_at
FROM conversation
WHERE
  conversation.owner_id = %(owner)s AND conversation.id = %(conversation)s;

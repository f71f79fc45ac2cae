-- RENEW: Move the lease's end, and return whether the turn is to be stopped.
-- Rendered by `make gen`. DO NOT EDIT.

UPDATE conversation SET lease_expires_at = (
  CURRENT_TIMESTAMP + CAST(%(lease)s AS INTERVAL)
)
WHERE
  conversation.owner_id = %(owner)s
  AND conversation.id = %(conversation)s
  AND conversation.fence = %(fence)s
  AND conversation.open_turn_id = %(turn)s
RETURNING (
  SELECT
    turn.cancel_requested_time IS NOT NULL AS anon_2
  FROM turn
  WHERE
    turn.owner_id = %(owner)s AND turn.id = %(turn)s
) AS anon_1;

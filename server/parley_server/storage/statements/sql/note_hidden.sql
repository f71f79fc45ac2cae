-- Note that no call finds anything any more of what an erasure removes.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

UPDATE erasure SET hide_time = COALESCE(erasure.hide_time, CURRENT_TIMESTAMP)
WHERE
  erasure.owner_id = :owner AND erasure.request_id = :request
RETURNING erasure.owner_id, erasure.request_id, erasure.start_time, erasure.hide_time, erasure.end_time, erasure.conversations, erasure.messages, erasure.turns

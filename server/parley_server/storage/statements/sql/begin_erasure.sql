-- Note that an erasure begins, unless its request id is known.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

INSERT INTO erasure (
  owner_id,
  request_id
)
VALUES
  (:owner, :request)
  ON CONFLICT (owner_id, request_id) DO NOTHING
RETURNING erasure.owner_id, erasure.request_id, erasure.start_time, erasure.hide_time, erasure.end_time, erasure.conversations, erasure.messages, erasure.turns

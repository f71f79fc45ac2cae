-- Read the receipt of an erasure.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

SELECT
  erasure.owner_id,
  erasure.request_id,
  erasure.start_time,
  erasure.hide_time,
  erasure.end_time,
  erasure.conversations,
  erasure.messages,
  erasure.turns
FROM erasure
WHERE
  erasure.owner_id = :owner AND erasure.request_id = :request

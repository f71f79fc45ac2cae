-- Read which owners retention has to look at, of all.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :every interval
-- :limit integer

SELECT
  owner.owner_id
FROM owner
WHERE
  owner.look_time <= CURRENT_TIMESTAMP - :every
ORDER BY
  owner.look_time
LIMIT :limit

-- Note that retention looks at an owner now, unless another worker has done so.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :every interval

UPDATE owner SET look_time = CURRENT_TIMESTAMP
WHERE
  owner.owner_id = :owner AND owner.look_time <= CURRENT_TIMESTAMP - :every
RETURNING owner.owner_id

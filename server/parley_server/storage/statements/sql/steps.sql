-- Read what a turn's attempts have done so far, for a new one to go on from.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :turn uuid

SELECT
  turn_step.number,
  turn_step.kind,
  turn_step.body
FROM turn_step
WHERE
  turn_step.owner_id = :owner AND turn_step.turn_id = :turn
ORDER BY
  turn_step.number

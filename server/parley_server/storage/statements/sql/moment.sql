-- Read the time, on the clock by which transactions begin.
-- Rendered by `make gen`. DO NOT EDIT.
--


SELECT
  CURRENT_TIMESTAMP AS now_1

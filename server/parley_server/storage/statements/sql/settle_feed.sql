-- Have what was read of the feed outlive a crash of the database.
-- Rendered by `make gen`. DO NOT EDIT.
--


UPDATE feed_state SET removed_xid = feed_state.removed_xid

"""The life of a conversation: created, changed, deleted, and removed."""

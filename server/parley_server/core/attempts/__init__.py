"""One run of an agent for a turn, from its window to its end."""

"""Starting, serving and ending: the commands, the worker and what supervises it."""

"""A soak: every kind of use at once, for minutes, and what it leaves behind."""

"""What is wrong with an agent before it can answer anything."""


class BadAgent(ValueError):
    """An agent cannot be created. The message is one sentence that says what to set or install."""

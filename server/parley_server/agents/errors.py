"""What is wrong with an agent before it can answer anything, and what an agent refuses."""

from parley_server.core.errors import AgentRefused, ParleyError


class BadAgent(ValueError):
    """An agent cannot be created. The message is one sentence that says what to set or install."""

    def __init__(self, message: str, at: tuple[str, ...] = ("model",)) -> None:
        """Say what is wrong.

        Args:
            at: the key of the agent's table, in an agents file, that it is about.
        """
        super().__init__(message)
        self.at = at


class ToolRefused(AgentRefused):
    """A tool of the caller cannot be used with this agent."""

    def __init__(self, name: str, complaint: str) -> None:
        ParleyError.__init__(self, complaint)
        self.name = name

    def metadata(self) -> dict[str, str]:
        return {"tool": self.name}


class ToolNameTaken(ToolRefused):
    """A tool of the caller has the name of one of the agent's own."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name, f"the agent has a tool {name!r} itself: give the caller's tool another name"
        )


class ToolSchemaRefused(ToolRefused):
    """The model cannot be told of a tool of the caller."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name,
            f"the schema of the caller's tool {name!r} is not valid for the agent's model: "
            "correct its parameters_schema",
        )

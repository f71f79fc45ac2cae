"""What is wrong with an agent before it can answer anything, and what an agent refuses."""

from parley_server.core.errors import AgentRefused, ParleyError


class BadAgent(ValueError):
    """An agent cannot be created. The message is one sentence that says what to set or install."""


class ToolNameTaken(AgentRefused):
    """A tool of the caller has the name of one of the agent's own."""

    def __init__(self, name: str) -> None:
        ParleyError.__init__(
            self, f"the agent has a tool {name!r} itself: give the caller's tool another name"
        )
        self.name = name

    def metadata(self) -> dict[str, str]:
        return {"tool": self.name}

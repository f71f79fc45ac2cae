"""What a tool of a server returned: text or JSON within bounds, without the server's secrets."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic_ai.messages import BinaryContent, ToolReturnPart

from parley_server.core.attempts.transcript import MAX_RESULT_BYTES, cut, storable

HIDDEN = "[secret]"
_SECRET_NAME = re.compile(r"(?i)auth|cert|cookie|cred|dsn|key|pass|private|secret|session|token")
_SHORTEST = 6
"""What is shorter is in too many words, also if its name says that it is a secret."""
_SHORTEST_UNNAMED = 16
_LOOKS_SECRET = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])(?![/.~])(?!.*://)\S+")
"""What is hidden whatever its name is; a path, a region or a mode in a result stays."""


class Secrets:
    """Values that a server was given and that none of its words may repeat."""

    def __init__(self, headers: Mapping[str, str], env: Mapping[str, str]) -> None:
        values = [*headers.values(), *(v for name, v in env.items() if _is_secret(name, v))]
        parts = {part for value in values for part in (value, *value.split())}
        fitting = [part for part in parts if len(part) >= _SHORTEST and part != "Bearer"]
        self._values = sorted(fitting, key=len, reverse=True)

    def hidden(self, text: str) -> str:
        """Return a text without them."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return text

    def hidden_in(self, value: Any) -> Any:
        """Return what JSON has read without them, and binary content as a sentence."""
        match value:
            case str():
                return self.hidden(value)
            case BinaryContent():
                kind = cut(self.hidden(storable(value.media_type)), 100)
                return f"[{kind}, {len(value.data)} bytes, left out: only text is passed on]"
            case dict():
                return {self.hidden_in(key): self.hidden_in(part) for key, part in value.items()}
            case list() | tuple():
                return [self.hidden_in(part) for part in value]
            case _:
                return value


def _is_secret(name: str, value: str) -> bool:
    if _SECRET_NAME.search(name):
        return True
    return len(value) >= _SHORTEST_UNNAMED and _LOOKS_SECRET.fullmatch(value) is not None


def told(value: Any, secrets: Secrets) -> Any:
    """Return a result as the model is told of it: JSON or text, MAX_RESULT_BYTES at most.

    Images, sounds and files become a sentence that says what they were.
    """
    plain = secrets.hidden_in(value)
    text = ToolReturnPart("", plain, tool_call_id="").model_response_str()
    fitting = cut(storable(text), MAX_RESULT_BYTES)
    return plain if fitting == text else fitting

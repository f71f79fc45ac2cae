"""What Messages and Responses have in common: events that name their type, and end in one event."""

import json
import re

from parley_server.agents.boundary.errors import (
    BrokenStreamError,
    Json,
    ProviderError,
    told_error,
)
from parley_server.agents.boundary.sse import Event
from parley_server.agents.boundary.values import parsed, unwrapped, whole_characters

MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of what is kept to the end of one response: by the library, or here until its calls may run."""
PIECE_COST = 64
"""What a piece of a call's arguments takes beside its text."""
_KIND = re.compile(r"[\w.]+", re.ASCII)


def data_of(event: Event) -> Json:
    """Return an event's object, with its type.

    Raises: ProviderError: it tells of an error; BrokenStreamError: it is no object.
    """
    try:
        data = unwrapped(parsed(event.data))
    except BrokenStreamError:
        data = event.data
    error = told_error(event.name, data)
    if error is not None:
        raise ProviderError(error)
    if data is not None and not isinstance(data, dict):
        raise BrokenStreamError("no object")
    return {**({"type": event.name} if event.name else {}), **(data or {})}


def kind_of(data: Json) -> str:
    """Return the type of an event; empty: it has none that could be one."""
    kind = data.get("type")
    return kind if isinstance(kind, str) and _KIND.fullmatch(kind) else ""


def written(data: Json) -> bytes:
    """Return an event as the library reads it."""
    name = str(data["type"]).encode()
    told = json.dumps(whole_characters(data)).encode()
    return b"event: " + name + b"\ndata: " + told + b"\n\n"


class Kept:
    """Counts what is kept to the end of one response."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count more. Raises: BrokenStreamError: it is too much."""
        self._bytes += size
        if self._bytes > MAX_KEPT_BYTES:
            raise BrokenStreamError("a response is too long")

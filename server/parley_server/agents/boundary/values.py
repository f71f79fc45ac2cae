"""JSON values of a provider, as far as they can be believed."""

import json
from typing import Any

from parley_server.agents.boundary.errors import BrokenStreamError, Json
from parley_server.core.attempts.transcript import MAX_MODEL_BYTES, MAX_TOKENS, cut, storable

_MAX_DIGITS = 30
"""Longer numbers are none: Python refuses to read the longest ones."""
_KEEP_ALIVES = frozenset({"ping", "pong", "keepalive", "keep-alive", "keep_alive", "heartbeat"})


def is_keep_alive(name: str, data: str) -> bool:
    """Return whether an event is only a keep-alive."""
    word = data.strip().strip('"').lower()
    return not word or word in _KEEP_ALIVES or name.lower() in _KEEP_ALIVES


def parsed(text: str) -> Any:
    """Return the JSON of a text.

    Raises: BrokenStreamError: it has none.
    """
    try:
        return json.loads(text, parse_int=_int)
    except (ValueError, RecursionError):
        raise BrokenStreamError("no JSON") from None


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def count_of(value: object) -> int | None:
    """Return a number of tokens; None: it is none, or more than there can be."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_TOKENS else None


def model_of(value: object) -> str:
    """Return a model's name, cut to its bound; empty: there is none."""
    return cut(storable(value), MAX_MODEL_BYTES, mark="") if isinstance(value, str) else ""


def text_of(content: object) -> str:
    """Return the text of a content: a string, a part, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        if content.get("type", "text") not in ("text", "output_text"):
            return ""
        text = content.get("text")
        return text_of(text.get("value") if isinstance(text, dict) else text)
    if isinstance(content, list):
        return "".join(text_of(part) for part in content)
    return ""


def thought_of(content: object) -> str:
    """Return the thoughts among the parts of a content."""
    if not isinstance(content, list):
        return ""
    thoughts = [
        part.get("thinking")
        for part in content
        if isinstance(part, dict) and part.get("type") == "thinking"
    ]
    return "".join(text_of(thought) for thought in thoughts)


def dict_of(value: object) -> Json:
    """Return an object, or an empty one."""
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    """Return a list, or an empty one."""
    return value if isinstance(value, list) else []

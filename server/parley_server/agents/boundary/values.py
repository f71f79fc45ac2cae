"""JSON values of a provider, as far as they can be believed."""

import json
import math
import re
from typing import Any

from parley_server.agents.boundary.errors import BrokenStreamError, Json
from parley_server.core.attempts.transcript import MAX_MODEL_BYTES, MAX_TOKENS, cut, storable

_MAX_DIGITS = 30
"""Longer numbers are none: Python refuses to read the longest ones."""
_KEEP_ALIVES = frozenset(
    {"", "ping", "pong", "keepalive", "heartbeat", "noop", "processing", "openrouterprocessing"}
)
_LONGEST_KEEP_ALIVE = 64
_NO_ANSWER = re.compile("reasoning|thinking|thought|summary")
"""How the kinds of parts begin that hold text which is no part of the answer."""
_MAX_DEPTH = 8
"""How deep the parts of a content are read: they are lists of objects, not trees."""
_BETWEEN = re.compile(r"\s*(data:\s*)?")
"""What may stand between two objects of one line."""
_MAX_OBJECTS = 1000
_UNUSABLE_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH_SURROGATE = re.compile("[\ud800-\udbff]$")
_NOT_LETTERS = re.compile("[^a-z0-9]+")
_MAY_BE_BEYOND = re.compile("NaN|Infinity|[eE][+]?[0-9]{3}|[0-9]{300}")


def is_keep_alive(name: str, data: str) -> bool:
    """Return whether an event is only a keep-alive: a word for it, however it is written."""
    if data.lstrip().startswith(":"):  # a comment within the data
        return True
    if name and _word(name) in _KEEP_ALIVES:
        return True
    is_json = data.lstrip()[:1] in ("{", "[") and len(data) > len("[PING]")
    return len(data) <= _LONGEST_KEEP_ALIVE and not is_json and _word(data) in _KEEP_ALIVES


def _word(text: str) -> str:
    return _NOT_LETTERS.sub("", text.lower())


def parsed(text: str) -> Any:
    """Return the JSON of a text; its strings may hold control characters as they are.

    Raises: BrokenStreamError: it has none.
    """
    try:
        return json.loads(text, parse_int=_int, strict=False)
    except (ValueError, RecursionError):
        raise BrokenStreamError("no JSON") from None


def objects_in(text: str) -> list[Json]:
    """Return objects that are written one behind the other; none: there is something else, too."""
    decoder = json.JSONDecoder(strict=False)
    found: list[Json] = []
    place = 0
    while (between := _BETWEEN.match(text, place)) and between.end() < len(text):
        try:
            value, place = decoder.raw_decode(text, between.end())
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict) or len(found) == _MAX_OBJECTS:
            return []
        found.append(value)
    return found


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


class _Beyond(Exception):
    """A number is none that JSON has, or that a float can be."""


def has_numbers_beyond_json(text: str) -> bool:
    """Return whether JSON text has a number that cannot be sent back: NaN, Infinity or 1e999.

    Readers make something of it, but no writer writes it: the next request would fail.
    """
    if not _MAY_BE_BEYOND.search(text):
        return False
    try:
        json.loads(text, parse_float=_float, parse_constant=_float)
    except _Beyond:
        return True
    except (ValueError, RecursionError):
        pass
    return False


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise _Beyond
    return number


def sendable(arguments: str) -> str:
    """Return a call's arguments; such as cannot be sent back become a text, so that they are wrong.

    The model is told that they are no object.
    """
    return json.dumps(arguments) if has_numbers_beyond_json(arguments) else arguments


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


def plain_name(name: str) -> str:
    """Return a tool's name in the characters and the length that every provider takes."""
    return _UNUSABLE_IN_NAMES.sub("_", name)[:_MAX_NAME] or "_"


def text_of(content: object, depth: int = _MAX_DEPTH) -> str:
    """Return the text of a content: a string, a number, a part, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, int | float) and not isinstance(content, bool):
        return str(content)
    if depth and isinstance(content, dict):
        kind = content.get("type", "text")
        if not isinstance(kind, str) or "text" not in kind or _NO_ANSWER.match(kind):
            return ""
        if content.get("thought") is True:
            return ""
        text = content.get("text", content.get("content"))
        return text_of(text.get("value") if isinstance(text, dict) else text, depth - 1)
    if depth and isinstance(content, list):
        return "".join(text_of(part, depth - 1) for part in content)
    return ""


def refusal_of(content: object) -> str:
    """Return the refusals among the parts of a content."""
    parts = content if isinstance(content, list) else [content]
    refusals = [dict_of(part) for part in parts if dict_of(part).get("type") == "refusal"]
    return "".join(text_of(part.get("refusal")) for part in refusals)


def whole_characters(value: Any) -> Any:
    """Return a JSON value in which halves of characters are joined, or replaced by U+FFFD.

    Such a half cannot be sent back: the next request would fail.
    """
    if isinstance(value, str):
        if not _SURROGATE.search(value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_characters(each) for each in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(each) for key, each in value.items()}
    return value


class Halves:
    """Joins characters that are cut in two, over the pieces of a text."""

    def __init__(self) -> None:
        self.left = ""
        """The first half of a character, whose second half has not come yet."""

    def joined(self, text: str) -> str:
        """Return a text with the half of a character before it, without the half behind it."""
        text, self.left = self.left + text, ""
        if _HIGH_SURROGATE.search(text):
            text, self.left = text[:-1], text[-1]
        told: str = whole_characters(text)
        return told


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


def unwrapped(value: Any) -> Any:
    """Return the one object of a list that has nothing else, or the value itself."""
    is_one = isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
    return value[0] if is_one else value


def objects_of(value: object) -> list[Json]:
    """Return the objects in a list, in lists within it, or in place of it."""
    if isinstance(value, dict):
        return [value]
    found = [each for one in list_of(value) for each in (one if isinstance(one, list) else [one])]
    return [each for each in found if isinstance(each, dict)]

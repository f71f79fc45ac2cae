"""A scenario's values: variables, paths, and comparisons with results."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class Variables:
    """What `${…}` stands for in one scenario."""

    def __init__(self, texts: Mapping[str, Any]) -> None:
        """Set the first variables.

        Args:
            texts: the scenario's `let`.
        """
        self._values: dict[str, Any] = {name: _text(given) for name, given in texts.items()}
        self._values["id"] = {}

    def set(self, name: str, value: Any) -> None:
        self._values[name] = value

    def resolve(self, given: Any) -> Any:
        """Return a value with its variables replaced."""
        if isinstance(given, dict):
            return {name: self.resolve(value) for name, value in given.items()}
        if isinstance(given, list):
            return [self.resolve(value) for value in given]
        if not isinstance(given, str):
            return given
        if whole := _VARIABLE.fullmatch(given):
            return self._value(whole[1])
        return _VARIABLE.sub(lambda found: str(self._value(found[1])), given)

    def _value(self, path: str) -> Any:
        name, _, rest = path.partition(".")
        if name == "id":
            return self._values["id"].setdefault(rest, str(uuid.uuid4()))
        if name not in self._values:
            raise KeyError(f"there is no ${{{name}}} yet")
        return find(self._values[name], rest)


def _text(given: Any) -> str:
    return given if isinstance(given, str) else given["repeat"] * given["times"]


def find(value: Any, path: str) -> Any:
    """Return the value at a path; None: there is none."""
    if not path:
        return value
    step, _, rest = path.partition(".")
    if isinstance(value, dict):
        return find(value.get(step), rest)
    if not isinstance(value, list):
        return None
    if step == "*":
        return [find(item, rest) for item in value]
    place = int(step)
    return find(value[place], rest) if -len(value) <= place < len(value) else None


def mismatch(result: Any, expectations: Mapping[str, Any]) -> str:
    """Return how a result differs from what is expected; empty: it does not."""
    for path, expected in expectations.items():
        found = find(result, path)
        if not _fits(found, expected):
            return f"{path}: expected {_short(expected)}, found {_short(found)}"
    return ""


def _fits(found: Any, expected: Any) -> bool:
    if not isinstance(expected, dict) or len(expected) != 1:
        return _equal(found, expected)
    [(name, wanted)] = expected.items()
    matcher = _MATCHERS.get(name)
    return matcher(found, wanted) if matcher else _equal(found, expected)


def _is_nothing(value: Any) -> bool:
    is_unset = isinstance(value, str) and value.endswith("_UNSPECIFIED")
    return is_unset or (not value and not isinstance(value, dict))


def _equal(one: Any, other: Any) -> bool:
    if (_is_digits(one) and _is_number(other)) or (_is_digits(other) and _is_number(one)):
        return str(one) == str(other)  # JSON has 64-bit numbers as text
    if _is_nothing(one) or _is_nothing(other):
        return _is_nothing(one) and _is_nothing(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_equal(one.get(name), other.get(name)) for name in one | other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and bool(one == other)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.removeprefix("-").isdecimal()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_same_items(found: Any, wanted: Sequence[Any]) -> bool:
    return isinstance(found, list) and sorted(map(str, found)) == sorted(map(str, wanted))


def _counts_from(found: Any, first: int) -> bool:
    numbers = [int(number) for number in found or []]
    return numbers == list(range(first, first + len(numbers)))


_MATCHERS: dict[str, Callable[[Any, Any], bool]] = {
    "not": lambda found, wanted: not _equal(found, wanted),
    "one_of": lambda found, wanted: any(_equal(found, each) for each in wanted),
    "present": lambda found, wanted: _is_nothing(found) is not wanted,
    "matches": lambda found, wanted: bool(re.search(wanted, str(found or ""))),
    "length": lambda found, wanted: len(found or []) == wanted,
    "same_items": _has_same_items,
    "counts_from": _counts_from,
    "prefix_of": lambda found, wanted: str(wanted).startswith(str(found or "")),
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"

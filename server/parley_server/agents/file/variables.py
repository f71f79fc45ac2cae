"""`$VARIABLE` and `${VARIABLE}` in a value become what the environment says; `$$` is a dollar."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_DOLLAR = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))?")


class Filled(NamedTuple):
    """A value with its variables filled in."""

    value: str
    names: tuple[str, ...]
    """The variables that it names."""
    complaints: tuple[str, ...]
    """What is wrong with it. It is of no use then."""


def filled(text: str, environment: Mapping[str, str], *, has_lines: bool = False) -> Filled:
    """Fill the variables in. An empty variable counts as one that is not set.

    Args:
        has_lines: whether a value may have any characters, such as those of a key in PEM.
    """
    names: list[str] = []
    complaints: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        if name is None:
            if match[1] is None:
                complaints.append("has a $ without a name: write $VARIABLE, or $$ for a dollar")
            return "$"
        names.append(name)
        found = environment.get(name, "")
        complaints.extend(_complaints(name, found, has_lines=has_lines))
        return found

    return Filled(_DOLLAR.sub(value, text), tuple(names), tuple(dict.fromkeys(complaints)))


def _complaints(name: str, value: str, *, has_lines: bool) -> Iterator[str]:
    if not value:
        yield f"names the variable {name}, which is not set: set it in the server's environment"
    elif not has_lines and (not value.isprintable() or value != value.strip()):
        yield (
            f"names the variable {name}, whose value has a line break, a control character or a "
            "space at an end: set it without"
        )

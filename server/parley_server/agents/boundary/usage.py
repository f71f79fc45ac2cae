"""Usage as a provider tells it: once, as a running total, or never; and sometimes wrong."""

from dataclasses import dataclass, field

from parley_server.agents.boundary.errors import Json
from parley_server.agents.boundary.values import count_of

_NEEDED = ("prompt_tokens", "completion_tokens")


@dataclass(slots=True)
class RunningUsage:
    """Gathers what a stream tells of its usage.

    Of each number the greatest counts: totals only grow, and some servers end with zeros.
    """

    _counts: Json = field(default_factory=dict)
    _is_wrong: bool = False

    def add(self, usage: object) -> None:
        """Take a usage, if it is one."""
        if usage is None:
            return
        found = clean_usage(usage, _NEEDED)
        if found is None:
            self._is_wrong = self._is_wrong or _is_wrong(usage)
        else:
            self._counts = _greatest(self._counts, found)

    @property
    def total(self) -> Json | None:
        """What was used; None: it was not told, or what was told cannot be true."""
        if self._is_wrong or not self._counts:
            return None
        total = self._counts["prompt_tokens"] + self._counts["completion_tokens"]
        return {**self._counts, "total_tokens": total}


def _is_wrong(usage: object) -> bool:
    """Return whether a usage tells what cannot be true; what it does not tell may come yet."""
    if not isinstance(usage, dict):
        return bool(usage)
    told = [usage[key] for key in _NEEDED if usage.get(key) is not None]
    return any(count_of(value) is None for value in told)


def clean_usage(usage: object, needed: tuple[str, ...]) -> Json | None:
    """Return the counts of a usage that can be true; None: a needed one is missing or wrong.

    Other counts that are wrong are left out, and so is what is no count.
    """
    if not isinstance(usage, dict) or any(count_of(usage.get(key)) is None for key in needed):
        return None
    return _counts(usage)


def _counts(usage: Json) -> Json:
    found: Json = {}
    for key, value in usage.items():
        count = count_of(value)
        if count is not None:
            found[key] = count
        elif isinstance(value, dict):
            details = {name: count_of(each) for name, each in value.items()}
            found[key] = {name: count for name, count in details.items() if count is not None}
    return found


def _greatest(one: Json, two: Json) -> Json:
    merged = dict(one)
    for key, value in two.items():
        before = merged.get(key)
        if isinstance(value, dict):
            merged[key] = _greatest(before if isinstance(before, dict) else {}, value)
        else:
            merged[key] = max(before, value) if isinstance(before, int) else value
    return merged

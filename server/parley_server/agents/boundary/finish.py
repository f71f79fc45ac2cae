"""Why a response ended, in the one spelling that the libraries know."""

import re

from parley_server.agents.boundary.errors import ProviderError

STOP = "stop"
LENGTH = "length"
FILTER = "content_filter"
CALLS = "tool_calls"

_NONE = frozenset({"", "null", "none", "unspecified"})
_KNOWN = {
    LENGTH: r"(.*_)?length(_.*)?|max(imum)?_.*|(.*_)?truncated|incomplete"
    r"|(.*_)?context_window(_.*)?|(.*_)?(tokens?|output|context)_limit(_.*)?",
    FILTER: r".*(filter|safety|refus|block|moderat|guardrail).*|prohibited_content"
    r"|recitation|spii|sensitive",
    CALLS: r"(tool|function)_(calls?|use)",
}
_FAILURE = re.compile(
    r".*(error|abort|cancel|fail|time_?out|timed_out|interrupt|overload|malformed|exception|crash"
    r"|disconnect|unavailable|evict|preempt|kill|insufficient|unexpected|rate_limit|quota).*"
)
_PREFIX = re.compile(r"^(finish|stop)_?reason[_.]")


def settled(reason: object) -> str | None:
    """Return a finish reason as one of four; None: it is not over yet.

    A reason that is not known is STOP: it is a provider's own word for being done.

    Raises: ProviderError: the reason says that the response failed.
    """
    if not isinstance(reason, str):
        return STOP if reason else None
    word = _PREFIX.sub("", re.sub(r"[\s-]+", "_", reason.strip().lower()))
    if word in _NONE:
        return None
    for known, pattern in _KNOWN.items():
        if re.fullmatch(pattern, word):
            return known
    if _FAILURE.fullmatch(word):
        raise ProviderError({"message": "", "code": None, "type": None})
    return STOP

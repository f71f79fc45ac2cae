"""Why a response ended, in the one spelling that the libraries know."""

import re

from parley_server.agents.boundary.errors import ProviderError

STOP = "stop"
LENGTH = "length"
FILTER = "content_filter"
CALLS = "tool_calls"

_NONE = frozenset({"", "null", "none", "unspecified"})
_KNOWN = {
    LENGTH: r".*length.*|max(imum)?(?!.*(retr|attempt|time|error)).*|.*truncat.*|incomplete|limit"
    r"|.*contextwindow.*|.*(tokens?|output|context)limit.*|context(full|exceeded)"
    r"|outoftokens|budgetexhausted",
    FILTER: r".*(filter|safety|refus|block|moderat|guardrail|polic|violat|prohibit|sensitive).*"
    r"|recitation|spii",
    CALLS: r"(tool|function)(calls?|use)",
}
"""Words are compared in lower case and without what stands between their parts."""
_FAILURE = re.compile(
    r".*(error|abort|cancel|fail|timeout|timedout|interrupt|overload|malformed|exception|crash"
    r"|disconnect|unavailable|evict|preempt|kill|insufficient|unexpected|ratelimit|quota|shutdown"
    r"|terminated|outofmemory|retries).*|oom"
)
_PREFIX = re.compile(r"^(finish|stop)reason")


def settled(reason: object) -> str | None:
    """Return a finish reason as one of four; None: it is not over yet.

    A reason that is not known is STOP: it is a provider's own word for being done.

    Raises: ProviderError: the reason says that the response failed.
    """
    if isinstance(reason, dict):
        reason = reason.get("type") or reason.get("reason") or STOP
    if isinstance(reason, list):
        reason = next((each for each in reason if isinstance(each, str)), STOP)
    if not isinstance(reason, str):
        return STOP if reason else None
    word = _PREFIX.sub("", re.sub(r"[\W_]+", "", reason.lower()))
    if word in _NONE:
        return None
    for known, pattern in _KNOWN.items():
        if "error" not in word and re.fullmatch(pattern, word):
            return known
    if _FAILURE.fullmatch(word):
        raise ProviderError({"message": "", "code": None, "type": None})
    return STOP

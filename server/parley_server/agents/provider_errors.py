"""THE table: what goes wrong with a provider becomes an error of Parley's.

The texts and bodies of these exceptions are the provider's words and may repeat what was said. They
end here: neither an error nor the log has more than type, status and the provider's own error code.
"""

import logging
import re
import traceback
from collections.abc import Sequence
from uuid import UUID

from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    RunTimedOut,
)

from parley_server.core.errors import AgentError, AgentRefused, AgentTimeout, AgentUnavailable

log = logging.getLogger("parley.agents")

_TABLE: list[tuple[type[AgentRunError], type[AgentError]]] = [
    # The first row that fits counts.
    (ModelTimeoutError, AgentTimeout),  # the library's own limit on one request: 10 minutes
    (ModelRequestTimeout, AgentTimeout),  # a limit that the user's agent sets itself
    (RunTimedOut, AgentTimeout),
    (ModelRateLimitError, AgentUnavailable),  # 429, with or without a retry-after
    (ModelQuotaExceededError, AgentRefused),  # 402, and 429 of an account without money
    (ModelUnavailableError, AgentUnavailable),  # 503, 529
    (ModelServerError, AgentUnavailable),  # 500, 502, 504
    (ModelConnectionError, AgentUnavailable),  # refused, reset, broken off
    (ModelRequestRejectedError, AgentRefused),  # 400, 401, 403, 404, 422, a prompt too long
    (ModelAPIError, AgentUnavailable),  # garbage; has its own status: see _TRANSIENT
    (AgentRunError, AgentUnavailable),  # an answer that makes no sense
]

_TRANSIENT = frozenset({408, 409, 424, 425, 429, 499})
"""Statuses below 500 that may not come again; other ones that have no row of their own refuse.

424 is a generation that failed, 499 a connection that a gateway has lost.
"""

_ENTITY_TOO_LARGE = 413
_REFUSES_CONTENT = frozenset({400, 404, 422})
"""Statuses of a prompt that may be accepted in another form; 404: an item id that has expired."""

_FAILURE = 500
_OF_TEMPLATE = re.compile(
    r"jinja|chat.?template|template.?(error|exception)|must alternate|be alternating"
    r"|must be at the beginning|tool call ids? ",
    re.IGNORECASE,
)
"""How a server says with a status of a failure that the model's template refuses the messages."""

_TOO_LARGE = re.compile(r"request( body| entity)?[ _]too[ _]large", re.IGNORECASE)
"""How a provider says that one prompt alone is beyond a limit, even one on tokens a minute."""
_TOO_LONG = re.compile(
    r"context.{0,30}(length|window|size|limit|overflow)|(prompt|input)[ _]length"
    r"|(?<!\w)(prompt|tokens?|token count)\b.{0,40}exceed|(prompt|input)s? (is |are )?too long"
    r"|too many (\w+ )?tokens|tokens?[ _]limit|less than \d+ tokens|inputs`? tokens \+"
    r"|reduce the length|'(messages|input)': array too long|" + _TOO_LARGE.pattern,
    re.IGNORECASE | re.DOTALL,
)
"""How providers say that a prompt is too long: the library knows the words of few of them."""
_OF_RATE = re.compile(r"rate.?limit|per (min|hour|day)|quota", re.IGNORECASE)
_NOT_OF_LENGTH = (
    *(ModelAuthenticationError, ModelNotFoundError, ModelQuotaExceededError),
    *(ModelConnectionError, ModelRequestTimeout),
)
"""Errors that are not about the prompt, whatever their words are."""
_MAX_WORDS = 1000
"""Characters of an error that are looked at: the beginning says what is wrong."""

_WRONG_PROMPT = re.compile(r"(invalid|bad_?request|unprocessable).*", re.IGNORECASE)
"""Types and codes of errors in a stream, which have no status, about what is in a prompt;"""
_WRONG = re.compile(
    r"(unsupported|not_?found|authentication|unauthori[sz]ed|permission|forbidden).*|"
    + _WRONG_PROMPT.pattern,
    re.IGNORECASE,
)
"""and of all that come again."""

MAX_RETRY_AFTER_S = 3600.0
"""A provider that asks for more is taken to have asked for this."""

_MODELS = "pydantic_ai.models"
_LIBRARIES = frozenset(
    {"pydantic_ai", "pydantic", "openai", "anthropic", "httpx2"}
    | {"asyncio", "base64", "codecs", "contextlib", "encodings", "json"}
)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def agent_error(error: Exception, turn_id: UUID) -> AgentError | None:
    """Return what a run's failure is for Parley, and write it down.

    Returns: None: it comes from the user's code and not from a provider or its library.
    """
    if isinstance(error, AgentError):
        return error
    found = _look_up(error)
    if found is not None:
        details = {"error": type(error).__name__, "turn_id": str(turn_id), **_details(error)}
        log.warning("agent failed", extra=details)
    return found


def is_too_long(error: Exception) -> bool:
    """Return whether a provider refused a prompt for its length."""
    return any(map(_is_too_long, _each(error)))


def is_refused(error: Exception) -> bool:
    """Return whether a provider refused a prompt for what is in it."""
    return any(map(_is_refused, _each(error)))


def is_refused_for_words(error: Exception) -> bool:
    """Return whether some message may be why; not if the provider misses a model or an item."""
    errors = (each for each in _each(error) if not isinstance(each, ModelNotFoundError))
    return any(map(_is_refused, errors))


def _each(error: Exception) -> Sequence[Exception]:
    """Return the errors of several models that stand in for each other, or the one that it is."""
    return error.exceptions if isinstance(error, ExceptionGroup) else (error,)


def _is_too_long(error: Exception) -> bool:
    if isinstance(error, ModelContextWindowExceededError):
        return True
    if not isinstance(error, ModelAPIError) or isinstance(error, _NOT_OF_LENGTH):
        return False
    if isinstance(error, ModelHTTPError) and error.status_code == _ENTITY_TOO_LARGE:
        return True
    said = str(error.body or error)[:_MAX_WORDS]
    is_of_rate = isinstance(error, ModelRateLimitError) or _OF_RATE.search(said)
    return (_TOO_LARGE if is_of_rate else _TOO_LONG).search(said) is not None


def _is_refused(error: Exception) -> bool:
    if isinstance(error, ModelHTTPError):
        is_of_template = _OF_TEMPLATE.search(str(error.body)[:_MAX_WORDS]) is not None
        is_failure = error.status_code == _FAILURE and is_of_template
        return error.status_code in _REFUSES_CONTENT or is_failure
    return _is_called(error, _WRONG_PROMPT)


def _is_called(error: Exception, names: re.Pattern[str]) -> bool:
    """Return whether an error in a stream, which its name alone tells of, has one of the names."""
    if type(error) is not ModelAPIError:
        return False
    own = (error.provider_error_type, error.provider_error_code)
    return any(names.fullmatch(name) for name in own if name)


def _look_up(error: Exception) -> AgentError | None:
    if isinstance(error, ExceptionGroup):
        return _of_several([_look_up(each) for each in error.exceptions])
    if _is_too_long(error) or _is_called(error, _WRONG):
        return AgentRefused()
    if type(error) is ModelHTTPError and error.status_code < 500:
        is_transient = error.status_code in _TRANSIENT
        return _made(AgentUnavailable if is_transient else AgentRefused, error)
    if _redirect(error) is not None:  # the URL is wrong; nothing is sent elsewhere
        return AgentRefused()
    for kind, becomes in _TABLE:
        if isinstance(error, kind):
            return _made(becomes, error)
    return AgentUnavailable() if _is_of_a_models_library(error) else None


def _redirect(error: Exception) -> int | None:
    """Return the status of a redirect, which the library does not name; None: it was none."""
    status = getattr(error.__cause__, "status_code", None)
    is_redirect = type(error) is ModelAPIError and isinstance(status, int) and status // 100 == 3
    return status if is_redirect else None


def _is_of_a_models_library(error: Exception) -> bool:
    """Return whether a model's library has raised it, over what it did not expect.

    No code of a user's, such as a model of its own, may have been called by the library.
    """
    frames = traceback.walk_tb(error.__traceback__)
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    models = [number for number, name in enumerate(modules) if name.startswith(_MODELS)]
    if not models:
        return False
    return all(name.partition(".")[0] in _LIBRARIES for name in modules[models[-1] :])


def _made(kind: type[AgentError], error: Exception) -> AgentError:
    if kind is not AgentUnavailable:
        return kind()
    wait_s = error.retry_after if isinstance(error, ModelAPIError) else None
    return AgentUnavailable(None if wait_s is None else min(wait_s, MAX_RETRY_AFTER_S))


def _of_several(errors: list[AgentError | None]) -> AgentError | None:
    if all(error is None for error in errors):
        return None
    if all(isinstance(error, AgentRefused) for error in errors):
        return AgentRefused()
    waits = [
        error.retry_after_s
        for error in errors
        if isinstance(error, AgentUnavailable) and error.retry_after_s is not None
    ]
    return AgentUnavailable(min(waits, default=None))


def _details(error: Exception) -> dict[str, object]:
    details: dict[str, object] = {}
    if isinstance(error, ModelHTTPError):
        details["status"] = error.status_code
    elif (redirect := _redirect(error)) is not None:
        details["status"] = redirect
    if isinstance(error, ModelAPIError):
        code = str(error.provider_error_code or error.provider_error_type or "")
        if _CODE.fullmatch(code):
            details["code"] = code
    return details

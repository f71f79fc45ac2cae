"""What ends a provider's stream before its time."""

import re
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


class BrokenStreamError(Exception):
    """The stream is cut, is no stream of its protocol, or exceeds a bound."""


class ProviderError(Exception):
    """The provider says inside its stream that it failed.

    Args:
        error: `message`, `code` and `type`, as far as they are told.
    """

    def __init__(self, error: Json) -> None:
        super().__init__("the provider told of an error")
        self.error = error


MAX_WORDS = 1000
"""Characters of an error's message that go on: the libraries look in it for "context length"."""
_REFUSALS = re.compile(r"invalid.*|bad_?request.*|unprocessable.*", re.IGNORECASE)
"""Types of errors that come again: a request that is wrong stays wrong."""
_ERROR_NAMES = frozenset({"error", "exception", "fatal"})


def told_error(name: str, data: object) -> Json | None:
    """Return the error that an event tells of; None: it tells of none.

    Args:
        name: the event's name.
        data: its JSON, or its text if that is no JSON.
    """
    if isinstance(data, dict):
        found = _error_in(data)
        if found is not None:
            return found
    if name.lower() in _ERROR_NAMES:
        return _as_error(data)
    return None


def _error_in(data: Json) -> Json | None:
    if data.get("error"):
        return _as_error(data["error"], beside=data)
    if "error" in (data.get("object"), data.get("type")):
        return _as_error(data)
    if "choices" not in data and "type" not in data and data.get("detail"):
        return _as_error(data["detail"], beside=data)
    return None


def _as_error(error: object, beside: Json | None = None) -> Json:
    if not isinstance(error, dict):
        error = {"message": error}
    fields = {**(beside or {}), **error}
    message = fields.get("message")
    codes = [fields.get(key) for key in ("code", "status", "status_code", "http_status")]
    kind = fields.get("type")
    code = _code(codes)
    if code is None and isinstance(kind, str) and _REFUSALS.fullmatch(kind):
        code = "400"
    return {
        "message": message[:MAX_WORDS] if isinstance(message, str) else "",
        "code": code,
        "type": kind if isinstance(kind, str) and kind != "error" else None,
    }


def _code(candidates: list[object]) -> str | None:
    """Return the first HTTP status among the codes, else the first code."""
    codes = [
        str(int(code) if isinstance(code, float) and code.is_integer() else code)[:64]
        for code in candidates
        if isinstance(code, str | int | float) and not isinstance(code, bool)
    ]
    statuses = [code for code in codes if code.isdigit() and 400 <= int(code) < 600]
    return next(iter(statuses or codes), None)

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
_ERROR_NAMES = frozenset({"error", "exception", "fatal"})
_FAILURE = re.compile(r".*(error|exception|fatal)")
_EVENTS = re.compile(r"response\b|message|content|ping")
"""Types of the events of Responses and Messages."""
_MESSAGES = ("message", "msg", "error_message", "error_msg", "errormessage", "detail", "status_msg")
_WRONG_STATUS = re.compile("4(?!08|09|24|25|29|99)[0-9][0-9]")
_WRONG_REQUEST = "invalid_request_error"
"""The type of an error that has no type and such a status: some libraries know types alone."""
_CODES = ("code", "status", "status_code", "statuscode", "http_status", "error_code")
_ALL_IS_WELL = frozenset({"success", "ok", "成功", "操作成功", "请求成功"})
"""What some providers say in each chunk, beside a code that says the same."""


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


def says_something(error: object) -> bool:
    """Return whether an error beside an answer is one: some gateways send its empty form."""
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _error_in(data: Json) -> Json | None:
    error = _first(data, ("error", "errors", "err", "exception"))
    if error and ("choices" not in data or says_something(error)):
        return _as_error(error[0] if isinstance(error, list) else error, beside=data)
    if "error" in (data.get("object"), data.get("type")):
        return _as_error(data)
    outcome = data.get("base_resp")
    if isinstance(outcome, dict) and outcome.get("status_code") not in (None, 0, "0"):
        return _as_error(outcome)
    if not data.get("choices") and _is_failure(data):
        return _as_error(data)
    return None


def _is_failure(data: Json) -> bool:
    """Return whether data without an answer can only be a report of what went wrong."""
    kind = data.get("type")
    if isinstance(kind, str) and _FAILURE.fullmatch(kind.lower()):
        return True
    if isinstance(kind, str) and _EVENTS.match(kind):
        return False  # whose fields have the same names, and mean something else
    if data.get("success") is False or "error" in (data.get("status"), data.get("event")):
        return True
    if "error" in data and data["error"] == {}:
        return True
    message = _first(data, _MESSAGES)
    if isinstance(message, str) and message.strip(" .!").lower() in _ALL_IS_WELL:
        return not any(key.lower() in _CODES and _is_well(code) for key, code in data.items())
    return isinstance(message, str | dict | list)


def _is_well(code: object) -> bool:
    return not isinstance(code, bool) and code in (0, "0", 200, "200")


def _first(data: Json, names: tuple[str, ...]) -> object:
    """Return the first of these fields that is there, in whatever case it is written."""
    return next((value for key, value in data.items() if value and key.lower() in names), None)


def _as_error(error: object, beside: Json | None = None) -> Json:
    if not isinstance(error, dict):
        error = {"message": error}
    fields = {**(beside or {}), **error}
    message = _first(fields, _MESSAGES)
    codes = [value for key, value in fields.items() if key.lower() in _CODES and value != "error"]
    code, kind = _code(codes), fields.get("type")
    if not isinstance(kind, str) or kind == "error":
        kind = _WRONG_REQUEST if code and _WRONG_STATUS.fullmatch(code) else None
    words = [each for each in (message, _raw(fields)) if isinstance(each, str)]
    return {
        "message": " ".join(words)[:MAX_WORDS],
        "code": code,
        "type": kind,
    }


def _raw(fields: Json) -> object:
    """Return what a gateway tells of the words of the provider behind it."""
    metadata = fields.get("metadata")
    return metadata.get("raw") if isinstance(metadata, dict) else None


def _code(candidates: list[object]) -> str | None:
    """Return the first HTTP status among the codes, else the first code."""
    codes = [
        str(int(code) if isinstance(code, float) and code.is_integer() else code)[:64]
        for code in candidates
        if isinstance(code, str | int | float) and not isinstance(code, bool)
    ]
    codes = [code for code in codes if code.isascii()]  # the libraries read others as numbers
    statuses = [code for code in codes if code.isdigit() and 400 <= int(code) < 600]
    return next(iter(statuses or codes), None)

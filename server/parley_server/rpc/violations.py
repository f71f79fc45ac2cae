"""What is wrong with the fields of a request: collected, then told at once."""

import re
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import (
    AgentUnknown,
    InvalidPageToken,
    InvalidRequest,
    Violation,
)
from parley_server.core.model import OnBusy

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
NO_ID = UUID(int=0)
"""Takes the place of an invalid id until its violation is raised."""

MAX_TOLD = 16
"""How many violations a caller is told. A request of 2 MiB has room for a million mistakes."""

MAX_LABELS = 16
MAX_LABEL_VALUE_BYTES = 63

_LABEL_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_ON_BUSY: dict[int, OnBusy] = {
    pb.ON_BUSY_UNSPECIFIED: OnBusy.REJECT,
    pb.ON_BUSY_REJECT: OnBusy.REJECT,
    pb.ON_BUSY_WAIT: OnBusy.WAIT,
    pb.ON_BUSY_REPLACE: OnBusy.REPLACE,
}

T = TypeVar("T")


class Violations:
    """Collects what is wrong with a request."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        """The path of the message whose fields are checked."""
        self._found: list[InvalidRequest] = []
        self._more = 0
        """How many were found beyond those that are told."""

    @property
    def is_full(self) -> bool:
        """Whether what is found from now on is only counted."""
        return len(self._found) >= MAX_TOLD

    def add(self, field: str, reason: str, description: str) -> None:
        if self.is_full:
            self._more += 1
        else:
            violation = Violation(self.prefix + field, reason, description)
            self._found.append(InvalidRequest([violation]))

    def add_error(self, error: InvalidRequest) -> None:
        self._found.append(error)

    def raise_any(self) -> None:
        """Raise what was found; a single violation keeps its own type."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            told = [v for error in self._found for v in error.violations]
            raise InvalidRequest(told, self._more)

    # Checks of one field each

    def at_most(self, field: str, count: int, maximum: int, what: str) -> bool:
        """Check how many there are, before they are looked at. Returns: whether it is few enough.

        Args:
            what: they are, for the error's text.
        """
        is_few = count <= maximum
        if not is_few:
            self.add(field, "TOO_MANY", f"has {count} {what}; the maximum is {maximum}")
        return is_few

    def uuid(self, field: str, value: str) -> UUID | None:
        if not value:
            return None
        if not _UUID.fullmatch(value):
            self.add(field, "NOT_A_UUID", "must be a UUID of the form 8-4-4-4-12")
            return None
        return UUID(value)

    def required_uuid(self, field: str, value: str) -> UUID:
        """Return the UUID; NO_ID, with a violation, if it is none."""
        if not value:
            self.add(field, "REQUIRED", "must be set")
        return self.uuid(field, value) or NO_ID

    def request_id(self, value: str) -> str | None:
        if not value:
            return None
        if not _REQUEST_ID.fullmatch(value):
            self.add(
                "request_id", "BAD_REQUEST_ID", "must be 1 to 128 characters of [A-Za-z0-9._:-]"
            )
        return value

    def required_request_id(self, value: str) -> str:
        """Return the request id; if it is none, with a violation."""
        if not value:
            self.add("request_id", "REQUIRED", "must be set")
        return self.request_id(value) or ""

    def message(self, value: str, max_bytes: int, field: str = "message") -> None:
        if not value:
            self.add(field, "REQUIRED", "must not be empty")
        elif (size := len(value.encode())) > max_bytes:
            self.add(field, "TOO_LONG", f"has {size} bytes; the maximum is {max_bytes}")
        elif "\0" in value:
            self.add(field, "HAS_NUL", "must not contain the character NUL")
        elif value.isspace():
            self.add(field, "BLANK", "must not be only white space")

    def text(self, field: str, value: str, max_bytes: int) -> None:
        if (size := len(value.encode())) > max_bytes:
            self.add(field, "TOO_LONG", f"has {size} bytes; the maximum is {max_bytes}")
        elif "\0" in value:
            self.add(field, "HAS_NUL", "must not contain the character NUL")

    def labels(self, labels: Mapping[str, str]) -> None:
        if not self.at_most("labels", len(labels), MAX_LABELS, "labels"):
            return
        for key, value in labels.items():
            if self.label_key("labels", key) and (
                len(value.encode()) > MAX_LABEL_VALUE_BYTES or _CONTROL.search(value)
            ):
                self.add(
                    "labels",
                    "BAD_VALUE",
                    f"the value of {key} must be 0 to {MAX_LABEL_VALUE_BYTES} bytes without "
                    "control characters",
                )

    def label_key(self, field: str, key: str) -> bool:
        """Check the key of a label. Returns: whether it can be one."""
        is_key = _LABEL_KEY.fullmatch(key) is not None
        if not is_key:
            self.add(
                field,
                "BAD_KEY",
                "keys must be 1 to 63 characters of [a-z0-9._/-] that begin and end with a "
                "letter or digit",
            )
        return is_key

    def agent(self, name: str, known: Container[str]) -> None:
        if name not in known:
            self.add_error(AgentUnknown())

    def choice(self, field: str, value: int, known: dict[int, T]) -> T | None:
        if value not in known:
            self.add(field, "UNKNOWN_VALUE", f"{value} is not a known value")
        return known.get(value)

    def not_negative(self, field: str, value: int) -> None:
        if value < 0:
            self.add(field, "NEGATIVE", "must be 0 or more")

    def expected_sequence(self, request: Any) -> int | None:
        """Return what the request expects; None: anything."""
        if not request.HasField("expected_sequence"):
            return None
        expected: int = request.expected_sequence
        self.not_negative("expected_sequence", expected)
        return expected

    def on_busy(self, value: int) -> OnBusy:
        return self.choice("on_busy", value, _ON_BUSY) or OnBusy.REJECT

    def moment(self, field: str, time: Timestamp) -> datetime | None:
        """Return the time, to the microsecond; None, with a violation, if it is none."""
        try:
            return time.ToDatetime(UTC)
        except (ValueError, OverflowError):
            what = "must be a time of the years 1 to 9999, with 0 to 999,999,999 nanos"
            self.add(field, "NOT_A_TIME", what)
            return None

    def page_size(self, value: int) -> int:
        self.not_negative("page_size", value)
        return min(value or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)

    def page_token(
        self, token: str, decode: Callable[[str], T], field: str = "page_token"
    ) -> T | None:
        if not token:
            return None
        try:
            return decode(token)
        except InvalidPageToken:
            self.add_error(InvalidPageToken(field))
            return None

"""Protos to questions for the core: all wrong fields are named at once, before anything else."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import (
    AgentUnknown,
    InvalidPageToken,
    InvalidRequest,
    Violation,
)
from parley_server.core.model import (
    ConversationChange,
    ConversationQuery,
    HistoryQuery,
    NewConversation,
    OnBusy,
    OnDisconnect,
    Owner,
    Position,
    TurnRef,
    TurnRequest,
)
from parley_server.rpc import page_tokens

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
NO_ID = UUID(int=0)
"""Takes the place of an invalid id until its violation is raised."""

MAX_TITLE_BYTES = 512
MAX_INSTRUCTIONS_BYTES = 8192
MAX_LABELS = 16
MAX_LABEL_VALUE_BYTES = 63

_CHANGEABLE = ("title", "labels", "instructions")
_LABEL_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_ON_BUSY: dict[int, OnBusy] = {
    pb.ON_BUSY_UNSPECIFIED: OnBusy.REJECT,
    pb.ON_BUSY_REJECT: OnBusy.REJECT,
    pb.ON_BUSY_WAIT: OnBusy.WAIT,
}
_ON_DISCONNECT: dict[int, OnDisconnect] = {
    pb.ON_DISCONNECT_UNSPECIFIED: OnDisconnect.CANCEL,
    pb.ON_DISCONNECT_CANCEL: OnDisconnect.CANCEL,
    pb.ON_DISCONNECT_CONTINUE: OnDisconnect.CONTINUE,
}
_NEWEST_FIRST: dict[int, bool] = {
    pb.ORDER_UNSPECIFIED: False,
    pb.ORDER_OLDEST_FIRST: False,
    pb.ORDER_NEWEST_FIRST: True,
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HistoryQuestion:
    """What a GetHistoryRequest asks."""

    query: HistoryQuery
    arguments: str
    """What has to be the same for the next page."""


@dataclass(frozen=True, slots=True)
class ListQuestion:
    """What a ListConversationsRequest asks."""

    query: ConversationQuery
    arguments: str
    """As above."""


@dataclass(frozen=True, slots=True)
class WatchQuestion:
    """What a WatchConversationRequest asks."""

    conversation_id: UUID
    after_sequence: int
    include_events: bool


class Violations:
    """Collects what is wrong with a request."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        """The path of the message whose fields are checked."""
        self._found: list[InvalidRequest] = []

    def add(self, field: str, reason: str, description: str) -> None:
        violation = Violation(self.prefix + field, reason, description)
        self._found.append(InvalidRequest([violation]))

    def add_error(self, error: InvalidRequest) -> None:
        self._found.append(error)

    def raise_any(self) -> None:
        """Raise what was found; a single violation keeps its own type."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise InvalidRequest([v for error in self._found for v in error.violations])

    # Checks of one field each

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

    def message(self, value: str, max_bytes: int) -> None:
        if not value:
            self.add("message", "REQUIRED", "must not be empty")
        elif (size := len(value.encode())) > max_bytes:
            self.add("message", "TOO_LONG", f"has {size} bytes; the maximum is {max_bytes}")
        elif "\0" in value:
            self.add("message", "HAS_NUL", "must not contain the character NUL")
        elif value.isspace():
            self.add("message", "BLANK", "must not be only white space")

    def text(self, field: str, value: str, max_bytes: int) -> None:
        if (size := len(value.encode())) > max_bytes:
            self.add(field, "TOO_LONG", f"has {size} bytes; the maximum is {max_bytes}")
        elif "\0" in value:
            self.add(field, "HAS_NUL", "must not contain the character NUL")

    def labels(self, labels: Mapping[str, str]) -> None:
        if len(labels) > MAX_LABELS:
            self.add("labels", "TOO_MANY", f"has {len(labels)} labels; the maximum is {MAX_LABELS}")
            return
        for key, value in labels.items():
            if not _LABEL_KEY.fullmatch(key):
                self.add(
                    "labels",
                    "BAD_KEY",
                    "keys must be 1 to 63 characters of [a-z0-9._/-] that begin and end with a "
                    "letter or digit",
                )
            elif len(value.encode()) > MAX_LABEL_VALUE_BYTES or _CONTROL.search(value):
                self.add(
                    "labels",
                    "BAD_VALUE",
                    f"the value of {key} must be 0 to {MAX_LABEL_VALUE_BYTES} bytes without "
                    "control characters",
                )

    def choice(self, field: str, value: int, known: dict[int, T]) -> T | None:
        if value not in known:
            self.add(field, "UNKNOWN_VALUE", f"{value} is not a known value")
        return known.get(value)

    def not_negative(self, field: str, value: int) -> None:
        if value < 0:
            self.add(field, "NEGATIVE", "must be 0 or more")

    def page_size(self, value: int) -> int:
        self.not_negative("page_size", value)
        return min(value or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)

    def page_token(self, token: str, decode: Callable[[str], T]) -> T | None:
        if not token:
            return None
        try:
            return decode(token)
        except InvalidPageToken as error:
            self.add_error(error)
            return None


def chat(request: pb.ChatRequest, agents: Collection[str], max_message_bytes: int) -> TurnRequest:
    """Read a ChatRequest.

    Args:
        agents: the names that may be asked for.
        max_message_bytes: how long the user's message may be, in UTF-8.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations()
    ask = _ask(request, agents, max_message_bytes, violations)
    violations.raise_any()
    return ask


def stream(
    request: pb.StreamChatRequest, agents: Collection[str], max_message_bytes: int
) -> tuple[TurnRequest, Position]:
    """Read a StreamChatRequest: the turn, and the last event of it that the caller has seen.

    Args: as `chat`.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations("chat.")
    ask = _ask(request.chat, agents, max_message_bytes, violations)
    violations.prefix = ""
    after_index = request.after_index if request.HasField("after_index") else -1
    violations.not_negative("after_attempt", request.after_attempt)
    if request.HasField("after_index"):
        violations.not_negative("after_index", request.after_index)
    violations.raise_any()
    return ask, Position(request.after_attempt, after_index)


def _ask(
    request: pb.ChatRequest,
    agents: Collection[str],
    max_message_bytes: int,
    violations: Violations,
) -> TurnRequest:
    conversation_id = violations.uuid("conversation_id", request.conversation_id)
    violations.message(request.message, max_message_bytes)
    request_id = violations.request_id(request.request_id)
    expected = request.expected_sequence if request.HasField("expected_sequence") else None
    if expected is not None:
        violations.not_negative("expected_sequence", expected)
    on_busy = violations.choice("on_busy", request.on_busy, _ON_BUSY)
    on_disconnect = violations.choice("on_disconnect", request.on_disconnect, _ON_DISCONNECT)
    if request.agent not in agents:
        violations.add_error(AgentUnknown())
    return TurnRequest(
        conversation_id=conversation_id,
        message=request.message,
        request_id=request_id,
        allow_missing=request.allow_missing,
        expected_sequence=expected,
        on_busy=on_busy or OnBusy.REJECT,
        on_disconnect=on_disconnect or OnDisconnect.CANCEL,
        agent=request.agent,
    )


def history(request: pb.GetHistoryRequest, owner: Owner) -> HistoryQuestion:
    """Read a GetHistoryRequest.

    Raises: InvalidRequest; alone: InvalidPageToken.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    limit = violations.page_size(request.page_size)
    newest_first = violations.choice("order", request.order, _NEWEST_FIRST)
    violations.not_negative("after_sequence", request.after_sequence)
    violations.not_negative("min_sequence", request.min_sequence)
    arguments = (
        f"GetHistory {conversation_id} {bool(newest_first)} "
        f"{request.after_sequence} {request.min_sequence}"
    )
    reached = violations.page_token(
        request.page_token, lambda token: page_tokens.decode_sequence(owner, arguments, token)
    )
    violations.raise_any()
    query = HistoryQuery(
        conversation_id,
        limit,
        above=request.after_sequence if newest_first or reached is None else reached,
        below=reached if newest_first else None,
        newest_first=bool(newest_first),
        min_sequence=request.min_sequence,
    )
    return HistoryQuestion(query, arguments)


def conversations(request: pb.ListConversationsRequest, owner: Owner) -> ListQuestion:
    """Read a ListConversationsRequest.

    Raises: InvalidRequest; alone: InvalidPageToken.
    """
    violations = Violations()
    labels = _wanted_labels(request.labels, violations)
    since = _moment("updated_after", request, violations)
    arguments = f"ListConversations {sorted(labels.items())} {since and since.isoformat()}"
    limit = violations.page_size(request.page_size)
    after = violations.page_token(
        request.page_token, lambda token: page_tokens.decode_conversation(owner, arguments, token)
    )
    violations.raise_any()
    return ListQuestion(ConversationQuery(limit, after, labels, since), arguments)


def _wanted_labels(texts: Sequence[str], violations: Violations) -> dict[str, str]:
    """Return labels written "KEY=VALUE"."""
    wanted: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            violations.add("labels", "NOT_A_LABEL", 'must each be of the form "KEY=VALUE"')
        elif wanted.setdefault(key, value) != value:
            violations.add("labels", "CONTRADICTION", "must not name two values of one key")
    violations.labels(wanted)
    return wanted


def _moment(
    field: str, request: pb.ListConversationsRequest, violations: Violations
) -> datetime | None:
    if not request.HasField("updated_after"):
        return None
    try:
        return request.updated_after.ToDatetime(UTC)
    except (ValueError, OverflowError):
        violations.add(field, "NOT_A_TIME", "must be a time of the years 1 to 9999")
        return None


def new_conversation(request: pb.CreateConversationRequest) -> NewConversation:
    """Read a CreateConversationRequest.

    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.uuid("conversation_id", request.conversation_id)
    request_id = violations.request_id(request.request_id)
    violations.text("title", request.title, MAX_TITLE_BYTES)
    violations.labels(request.labels)
    violations.text("instructions", request.instructions, MAX_INSTRUCTIONS_BYTES)
    violations.raise_any()
    return NewConversation(
        conversation_id, request_id, request.title, dict(request.labels), request.instructions
    )


def change(request: pb.UpdateConversationRequest) -> ConversationChange:
    """Read an UpdateConversationRequest: the fields that its mask names, or else those set in it.

    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    named = set(request.update_mask.paths)
    if unknown := named - set(_CHANGEABLE):
        known = ", ".join(_CHANGEABLE)
        for path in sorted(unknown):
            violations.add("update_mask", "UNKNOWN_FIELD", f"may name {known}; not {path[:64]!r}")
    if not named:
        named = {field for field in _CHANGEABLE if getattr(request, field)}
        if not named:
            violations.add("update_mask", "REQUIRED", "must name what to change, or set a field")
    violations.text("title", request.title, MAX_TITLE_BYTES)
    violations.labels(request.labels)
    violations.text("instructions", request.instructions, MAX_INSTRUCTIONS_BYTES)
    expected = request.expected_revision if request.HasField("expected_revision") else None
    if expected is not None and expected < 1:
        violations.add("expected_revision", "TOO_LOW", "must be 1 or more")
    violations.raise_any()
    return ConversationChange(
        conversation_id,
        title=request.title if "title" in named else None,
        labels=dict(request.labels) if "labels" in named else None,
        instructions=request.instructions if "instructions" in named else None,
        expected_revision=expected,
    )


def conversation(
    request: pb.GetConversationRequest
    | pb.DeleteConversationRequest
    | pb.UndeleteConversationRequest,
) -> UUID:
    """Read which conversation is meant.

    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    violations.raise_any()
    return conversation_id


def turn(request: pb.GetTurnRequest | pb.CancelTurnRequest) -> TurnRef:
    """Read which turn is meant: by conversation_id and turn_id, or by request_id alone.

    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.uuid("conversation_id", request.conversation_id)
    turn_id = violations.uuid("turn_id", request.turn_id)
    request_id = violations.request_id(request.request_id)
    if request.request_id:
        for field in ("conversation_id", "turn_id"):
            if getattr(request, field):
                violations.add(field, "NOT_TOGETHER", "must not be set together with request_id")
    else:
        for field in ("conversation_id", "turn_id"):
            if not getattr(request, field):
                violations.add(field, "REQUIRED", "must be set unless request_id is set")
    violations.raise_any()
    return TurnRef(conversation_id, turn_id, request_id)


def watch(request: pb.WatchConversationRequest) -> WatchQuestion:
    """Read a WatchConversationRequest.

    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    violations.not_negative("after_sequence", request.after_sequence)
    violations.raise_any()
    return WatchQuestion(conversation_id, request.after_sequence, request.include_events)

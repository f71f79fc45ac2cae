"""Builds requests: one function for each RPC, used by both clients. Nothing here does I/O.

Here are those of turns and messages; those of conversations are in `conversation_calls`.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb

RETRY_IS_SAFE = (("parley-retry", "safe"),)
"""Tells a proxy, which does not see the request id, that it may send the call to another worker."""
CHAT_TIMEOUT_S = 120.0
READ_TIMEOUT_S = 10.0

Id = str | uuid.UUID
Labels: TypeAlias = Mapping[str, str]
Moment: TypeAlias = datetime | Timestamp
Day: TypeAlias = date | str
OnBusy: TypeAlias = Literal["reject", "wait", "replace"] | pb.OnBusy.ValueType
OnDisconnect: TypeAlias = Literal["cancel", "continue"] | pb.OnDisconnect.ValueType
Order: TypeAlias = Literal["oldest_first", "newest_first"] | pb.Order.ValueType

Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Call(Generic[Response]):
    """One RPC, with what retrying it needs."""

    method: str
    """Its name in the stub."""
    request: Message
    timeout_s: float
    """For all tries together, in seconds."""
    request_id: str = ""
    first_metadata: tuple[tuple[str, str], ...] = ()
    """Sent with the first try only, so that a proxy's tries are added to the client's just once."""
    if_done: Response | None = None
    """The response if a try whose outcome is unknown did the work, and a later one finds none left.
    None: no error says so. A call that has it is repeated by the client, not by gRPC."""


def new_request_id() -> str:
    """Return a new request id, a random UUID."""
    return str(uuid.uuid4())


def chat(
    message: str,
    *,
    conversation_id: Id | None,
    request_id: Id | None,
    allow_missing: bool,
    expected_sequence: int | None,
    on_busy: OnBusy,
    on_disconnect: OnDisconnect,
    agent: str | None,
    tools: Iterable[parts.Tool],
    timeout_s: float,
) -> Call[pb.ChatResponse]:
    """Build a Chat call. It always has a request id: without one, a retry could make a second turn.

    Raises: ValueError: a choice has no such value, or the text cannot be written as UTF-8.
    """
    key = text_of(request_id) or new_request_id()
    request = pb.ChatRequest(
        conversation_id=text_of(conversation_id),
        message=message,
        request_id=key,
        allow_missing=allow_missing,
        expected_sequence=expected_sequence,
        on_busy=choice_of(pb.OnBusy, on_busy),
        on_disconnect=choice_of(pb.OnDisconnect, on_disconnect),
        agent=agent or "",
        tools=tools,
    )
    return Call("Chat", request, timeout_s, key, RETRY_IS_SAFE)


def start_turn(
    message: str,
    *,
    conversation_id: Id | None,
    request_id: Id | None,
    allow_missing: bool,
    expected_sequence: int | None,
    agent: str | None,
    tools: Iterable[parts.Tool],
    timeout_s: float,
) -> Call[pb.StartTurnResponse]:
    """Build a StartTurn call. It always has a request id: a retry starts no second turn.

    Raises: ValueError: the text cannot be written as UTF-8.
    """
    key = text_of(request_id) or new_request_id()
    turn = pb.ChatRequest(
        conversation_id=text_of(conversation_id),
        message=message,
        request_id=key,
        allow_missing=allow_missing,
        expected_sequence=expected_sequence,
        agent=agent or "",
        tools=tools,
    )
    return Call("StartTurn", pb.StartTurnRequest(chat=turn), timeout_s, key, RETRY_IS_SAFE)


def resume_turn(
    results: Iterable[pb.CallResult],
    *,
    conversation_id: Id | None,
    turn_id: Id | None,
    request_id: Id | None,
    on_disconnect: OnDisconnect,
    timeout_s: float,
) -> Call[pb.ResumeTurnResponse]:
    """Build a ResumeTurn call. A retry gives the same results, which the server takes once.

    Raises: ValueError: a choice has no such value.
    """
    request = pb.ResumeTurnRequest(
        conversation_id=text_of(conversation_id),
        turn_id=text_of(turn_id),
        request_id=text_of(request_id),
        results=results,
        on_disconnect=choice_of(pb.OnDisconnect, on_disconnect),
    )
    return Call("ResumeTurn", request, timeout_s, request.request_id, RETRY_IS_SAFE)


def history_page(
    conversation_id: Id,
    *,
    order: Order,
    after_sequence: int,
    min_sequence: int,
    page_size: int,
    page_token: str,
    timeout_s: float,
) -> Call[pb.GetHistoryResponse]:
    """Build a GetHistory call.

    Raises: ValueError: `order` has no such value.
    """
    request = pb.GetHistoryRequest(
        conversation_id=text_of(conversation_id),
        order=choice_of(pb.Order, order),
        after_sequence=after_sequence,
        min_sequence=min_sequence,
        page_size=page_size,
        page_token=page_token,
    )
    return Call("GetHistory", request, timeout_s)


def turn(
    *, conversation_id: Id | None, turn_id: Id | None, request_id: Id | None, timeout_s: float
) -> Call[pb.GetTurnResponse]:
    """Build a GetTurn call."""
    request = pb.GetTurnRequest(
        conversation_id=text_of(conversation_id),
        turn_id=text_of(turn_id),
        request_id=text_of(request_id),
    )
    return Call("GetTurn", request, timeout_s, request.request_id)


def cancel_turn(
    *, conversation_id: Id | None, turn_id: Id | None, request_id: Id | None, timeout_s: float
) -> Call[pb.CancelTurnResponse]:
    """Build a CancelTurn call."""
    request = pb.CancelTurnRequest(
        conversation_id=text_of(conversation_id),
        turn_id=text_of(turn_id),
        request_id=text_of(request_id),
    )
    return Call("CancelTurn", request, timeout_s, request.request_id)


def pairs_of(labels: Labels | None) -> list[str]:
    """Return labels to search for, as the contract has them.

    Raises: ValueError: a key has a "=", with which another label would be searched for.
    """
    for key in labels or ():
        if "=" in key:
            raise ValueError(f'the label {key} has a "=" in its key')
    return [f"{key}={value}" for key, value in (labels or {}).items()]


def text_of(value: Id | None) -> str:
    """Return an id as the contract has it; empty: none."""
    return "" if value is None else str(value)


def timestamp_of(moment: Moment | None) -> Timestamp | None:
    """Return a time as the contract has it. Raises: ValueError: it has no time zone."""
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError("a time needs its time zone, such as datetime.now(UTC) has it")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def choice_of(enum: Any, value: str | int) -> Any:
    """Return an enum's value by its short name: "wait" is ON_BUSY_WAIT."""
    if not isinstance(value, str):
        return value
    names = enum.keys()
    prefix = names[0].removesuffix("UNSPECIFIED")
    name = prefix + value.upper()
    if name not in names:
        known = ", ".join(repr(n.removeprefix(prefix).lower()) for n in names[1:])
        raise ValueError(f"{value!r} is not one of {known}")
    return enum.Value(name)

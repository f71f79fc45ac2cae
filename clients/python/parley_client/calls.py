"""Builds requests: one function for each RPC, used by both clients. Nothing here does I/O."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_service_pb2 as pb

RETRY_IS_SAFE = (("parley-retry", "safe"),)
"""Tells a proxy, which does not see the request id, that it may send the call to another worker."""
CHAT_TIMEOUT_S = 120.0
READ_TIMEOUT_S = 10.0

Id = str | uuid.UUID
Labels: TypeAlias = Mapping[str, str]
Moment: TypeAlias = datetime | Timestamp
OnBusy: TypeAlias = Literal["reject", "wait"] | pb.OnBusy.ValueType
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
    timeout_s: float,
) -> Call[pb.ChatResponse]:
    """Build a Chat call. It always has a request id: without one, a retry could make a second turn.

    Raises: ValueError: a choice has no such value, or the text cannot be written as UTF-8.
    """
    key = _text(request_id) or new_request_id()
    request = pb.ChatRequest(
        conversation_id=_text(conversation_id),
        message=message,
        request_id=key,
        allow_missing=allow_missing,
        expected_sequence=expected_sequence,
        on_busy=_choice(pb.OnBusy, on_busy),
        on_disconnect=_choice(pb.OnDisconnect, on_disconnect),
        agent=agent or "",
    )
    return Call("Chat", request, timeout_s, key, RETRY_IS_SAFE)


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
        conversation_id=_text(conversation_id),
        order=_choice(pb.Order, order),
        after_sequence=after_sequence,
        min_sequence=min_sequence,
        page_size=page_size,
        page_token=page_token,
    )
    return Call("GetHistory", request, timeout_s)


def conversations_page(
    *,
    labels: Labels | None,
    updated_after: Moment | None,
    page_size: int,
    page_token: str,
    timeout_s: float,
) -> Call[pb.ListConversationsResponse]:
    """Build a ListConversations call.

    Raises: ValueError: `updated_after` has no time zone.
    """
    request = pb.ListConversationsRequest(
        page_size=page_size,
        page_token=page_token,
        labels=[f"{key}={value}" for key, value in (labels or {}).items()],
        updated_after=_timestamp(updated_after),
    )
    return Call("ListConversations", request, timeout_s)


def create_conversation(
    *,
    conversation_id: Id | None,
    request_id: Id | None,
    title: str,
    labels: Labels | None,
    instructions: str,
    timeout_s: float,
) -> Call[pb.CreateConversationResponse]:
    """Build a CreateConversation call. It always has a request id: a retry creates no second one.

    Raises: ValueError: a text cannot be written as UTF-8.
    """
    key = _text(request_id) or new_request_id()
    request = pb.CreateConversationRequest(
        conversation_id=_text(conversation_id),
        request_id=key,
        title=title,
        labels=labels,
        instructions=instructions,
    )
    return Call("CreateConversation", request, timeout_s, key, RETRY_IS_SAFE)


def conversation(conversation_id: Id, *, timeout_s: float) -> Call[pb.GetConversationResponse]:
    """Build a GetConversation call."""
    request = pb.GetConversationRequest(conversation_id=_text(conversation_id))
    return Call("GetConversation", request, timeout_s)


def update_conversation(
    conversation_id: Id,
    *,
    title: str | None,
    labels: Labels | None,
    instructions: str | None,
    expected_revision: int | None,
    timeout_s: float,
) -> Call[pb.UpdateConversationResponse]:
    """Build an UpdateConversation call that changes what is given, which may be empty.

    Raises: ValueError: a text cannot be written as UTF-8.
    """
    fields: dict[str, Any] = {"title": title, "labels": labels, "instructions": instructions}
    given = {name: value for name, value in fields.items() if value is not None}
    request = pb.UpdateConversationRequest(
        conversation_id=_text(conversation_id),
        update_mask=FieldMask(paths=given),
        expected_revision=expected_revision,
        **given,
    )
    return Call("UpdateConversation", request, timeout_s)


def delete_conversation(
    conversation_id: Id, *, allow_missing: bool, timeout_s: float
) -> Call[pb.DeleteConversationResponse]:
    """Build a DeleteConversation call."""
    request = pb.DeleteConversationRequest(
        conversation_id=_text(conversation_id), allow_missing=allow_missing
    )
    if_done = pb.DeleteConversationResponse()
    return Call("DeleteConversation", request, timeout_s, if_done=if_done)


def undelete_conversation(
    conversation_id: Id, *, timeout_s: float
) -> Call[pb.UndeleteConversationResponse]:
    """Build an UndeleteConversation call."""
    request = pb.UndeleteConversationRequest(conversation_id=_text(conversation_id))
    return Call("UndeleteConversation", request, timeout_s)


def turn(
    *, conversation_id: Id | None, turn_id: Id | None, request_id: Id | None, timeout_s: float
) -> Call[pb.GetTurnResponse]:
    """Build a GetTurn call."""
    request = pb.GetTurnRequest(
        conversation_id=_text(conversation_id),
        turn_id=_text(turn_id),
        request_id=_text(request_id),
    )
    return Call("GetTurn", request, timeout_s, request.request_id)


def cancel_turn(
    *, conversation_id: Id | None, turn_id: Id | None, request_id: Id | None, timeout_s: float
) -> Call[pb.CancelTurnResponse]:
    """Build a CancelTurn call."""
    request = pb.CancelTurnRequest(
        conversation_id=_text(conversation_id),
        turn_id=_text(turn_id),
        request_id=_text(request_id),
    )
    return Call("CancelTurn", request, timeout_s, request.request_id)


def _text(value: Id | None) -> str:
    return "" if value is None else str(value)


def _timestamp(moment: Moment | None) -> Timestamp | None:
    """Return a time as the contract has it. Raises: ValueError: it has no time zone."""
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError("a time needs its time zone, such as datetime.now(UTC) has it")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _choice(enum: Any, value: str | int) -> Any:
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

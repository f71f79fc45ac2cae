"""Builds requests about conversations and all that the caller has, used by both clients."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import (
    RETRY_IS_SAFE,
    Call,
    Day,
    Id,
    Labels,
    Moment,
    OnBusy,
    choice_of,
    new_request_id,
    pairs_of,
    text_of,
    timestamp_of,
)

CHANGE_TIMEOUT_S = 60.0
"""For calls that write much in one go, in seconds."""
ERASURE_PAUSE_S = 1.0
"""How long to wait before asking again whether an erasure is done, in seconds."""

Said: TypeAlias = parts.Message | tuple[str, str]
"""A message of the contract, or a role and a text: ("user", "Hello!")."""


def conversations_page(
    *,
    labels: Labels | None,
    updated_after: Moment | None,
    page_size: int,
    page_token: str,
    timeout_s: float,
) -> Call[pb.ListConversationsResponse]:
    """Build a ListConversations call.

    Raises: ValueError: `updated_after` has no time zone, or a label cannot be told from another.
    """
    request = pb.ListConversationsRequest(
        page_size=page_size,
        page_token=page_token,
        labels=pairs_of(labels),
        updated_after=timestamp_of(updated_after),
    )
    return Call("ListConversations", request, timeout_s)


def create_conversation(
    *,
    conversation_id: Id | None,
    request_id: Id | None,
    title: str,
    labels: Labels | None,
    instructions: str,
    agent: str | None,
    timeout_s: float,
) -> Call[pb.CreateConversationResponse]:
    """Build a CreateConversation call. It always has a request id: a retry creates no second one.

    Raises: ValueError: a text cannot be written as UTF-8.
    """
    key = text_of(request_id) or new_request_id()
    request = pb.CreateConversationRequest(
        conversation_id=text_of(conversation_id),
        request_id=key,
        title=title,
        labels=labels,
        instructions=instructions,
        agent=agent or "",
    )
    return Call("CreateConversation", request, timeout_s, key, RETRY_IS_SAFE)


def conversation(conversation_id: Id, *, timeout_s: float) -> Call[pb.GetConversationResponse]:
    """Build a GetConversation call."""
    request = pb.GetConversationRequest(conversation_id=text_of(conversation_id))
    return Call("GetConversation", request, timeout_s)


def update_conversation(
    conversation_id: Id,
    *,
    title: str | None,
    labels: Labels | None,
    instructions: str | None,
    agent: str | None,
    expected_revision: int | None,
    timeout_s: float,
) -> Call[pb.UpdateConversationResponse]:
    """Build an UpdateConversation call that changes what is given, which may be empty.

    Raises: ValueError: a text cannot be written as UTF-8.
    """
    fields: dict[str, Any] = {
        "title": title,
        "labels": labels,
        "instructions": instructions,
        "agent": agent,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    request = pb.UpdateConversationRequest(
        conversation_id=text_of(conversation_id),
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
        conversation_id=text_of(conversation_id), allow_missing=allow_missing
    )
    if_done = pb.DeleteConversationResponse()
    return Call("DeleteConversation", request, timeout_s, if_done=if_done)


def undelete_conversation(
    conversation_id: Id, *, timeout_s: float
) -> Call[pb.UndeleteConversationResponse]:
    """Build an UndeleteConversation call."""
    request = pb.UndeleteConversationRequest(conversation_id=text_of(conversation_id))
    return Call("UndeleteConversation", request, timeout_s)


def append_messages(
    conversation_id: Id,
    messages: Iterable[Said],
    *,
    request_id: Id | None,
    allow_missing: bool,
    expected_sequence: int | None,
    on_busy: OnBusy,
    timeout_s: float,
) -> Call[pb.AppendMessagesResponse]:
    """Build an AppendMessages call. It always has a request id: a retry adds nothing twice.

    Raises: ValueError: a role or a choice has no such value, or a text cannot be written as UTF-8.
    """
    key = text_of(request_id) or new_request_id()
    request = pb.AppendMessagesRequest(
        conversation_id=text_of(conversation_id),
        request_id=key,
        messages=map(_message_of, messages),
        allow_missing=allow_missing,
        expected_sequence=expected_sequence,
        on_busy=choice_of(pb.OnBusy, on_busy),
    )
    return Call("AppendMessages", request, timeout_s, key, RETRY_IS_SAFE)


def fork_conversation(
    conversation_id: Id,
    *,
    up_to_sequence: int,
    new_conversation_id: Id | None,
    request_id: Id | None,
    timeout_s: float,
) -> Call[pb.ForkConversationResponse]:
    """Build a ForkConversation call. It always has a request id: a retry creates no second one."""
    key = text_of(request_id) or new_request_id()
    request = pb.ForkConversationRequest(
        conversation_id=text_of(conversation_id),
        new_conversation_id=text_of(new_conversation_id),
        request_id=key,
        up_to_sequence=up_to_sequence,
    )
    return Call("ForkConversation", request, timeout_s, key, RETRY_IS_SAFE)


def erase_owner(request_id: Id, *, timeout_s: float) -> Call[pb.EraseOwnerResponse]:
    """Build an EraseOwner call."""
    key = text_of(request_id)
    return Call("EraseOwner", pb.EraseOwnerRequest(request_id=key), timeout_s, key, RETRY_IS_SAFE)


def usage(
    *,
    start_date: Day | None,
    end_date: Day | None,
    by_agent: bool,
    by_label: str,
    labels: Labels | None,
    timeout_s: float,
) -> Call[pb.GetUsageResponse]:
    """Build a GetUsage call. Raises: ValueError: a label cannot be told from another."""
    request = pb.GetUsageRequest(
        start_date=_day(start_date),
        end_date=_day(end_date),
        by_agent=by_agent,
        by_label=by_label,
        labels=pairs_of(labels),
    )
    return Call("GetUsage", request, timeout_s)


def _message_of(said: Said) -> parts.Message:
    if isinstance(said, parts.Message):
        return said
    role, text = said
    return parts.Message(role=choice_of(parts.Role, role), content=text)


def _day(day: Day | None) -> str:
    """Return a day as the contract has it. A time has the date that its own time zone gives it."""
    if isinstance(day, datetime):
        day = day.date()
    return day.isoformat() if isinstance(day, date) else day or ""

"""Protos to questions for the core: all wrong fields are named at once, before anything else."""

from collections.abc import Container
from dataclasses import dataclass
from uuid import UUID

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import (
    HistoryQuery,
    OnDisconnect,
    Owner,
    Position,
    TurnRef,
    TurnRequest,
)
from parley_server.rpc import page_tokens
from parley_server.rpc.tool_requests import tools
from parley_server.rpc.violations import Violations

ON_DISCONNECT: dict[int, OnDisconnect] = {
    pb.ON_DISCONNECT_UNSPECIFIED: OnDisconnect.CANCEL,
    pb.ON_DISCONNECT_CANCEL: OnDisconnect.CANCEL,
    pb.ON_DISCONNECT_CONTINUE: OnDisconnect.CONTINUE,
}
_NEWEST_FIRST: dict[int, bool] = {
    pb.ORDER_UNSPECIFIED: False,
    pb.ORDER_OLDEST_FIRST: False,
    pb.ORDER_NEWEST_FIRST: True,
}


@dataclass(frozen=True, slots=True)
class HistoryQuestion:
    """What a GetHistoryRequest asks."""

    query: HistoryQuery
    arguments: str
    """What has to be the same for the next page."""


@dataclass(frozen=True, slots=True)
class WatchQuestion:
    """What a WatchConversationRequest asks."""

    conversation_id: UUID
    after_sequence: int
    include_events: bool


def chat(request: pb.ChatRequest, agents: Container[str], max_message_bytes: int) -> TurnRequest:
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


def start(
    request: pb.StartTurnRequest, agents: Container[str], max_message_bytes: int
) -> TurnRequest:
    """Read a StartTurnRequest.

    Args: as `chat`.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations("chat.")
    ask = _ask(request.chat, agents, max_message_bytes, violations)
    violations.raise_any()
    return ask


def stream(
    request: pb.StreamChatRequest, agents: Container[str], max_message_bytes: int
) -> tuple[TurnRequest, Position]:
    """Read a StreamChatRequest: the turn, and the last event of it that the caller has seen.

    Args: as `chat`.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations("chat.")
    ask = _ask(request.chat, agents, max_message_bytes, violations)
    violations.prefix = ""
    after = position(request, violations)
    violations.raise_any()
    return ask, after


def position(
    request: pb.StreamChatRequest | pb.StreamResumeTurnRequest, violations: Violations
) -> Position:
    """Read which event of a turn the caller has seen last."""
    after_index = request.after_index if request.HasField("after_index") else -1
    violations.not_negative("after_attempt", request.after_attempt)
    if request.HasField("after_index"):
        violations.not_negative("after_index", request.after_index)
    return Position(request.after_attempt, after_index)


def _ask(
    request: pb.ChatRequest,
    agents: Container[str],
    max_message_bytes: int,
    violations: Violations,
) -> TurnRequest:
    conversation_id = violations.uuid("conversation_id", request.conversation_id)
    violations.message(request.message, max_message_bytes)
    request_id = violations.request_id(request.request_id)
    expected = violations.expected_sequence(request)
    on_busy = violations.on_busy(request.on_busy)
    on_disconnect = violations.choice("on_disconnect", request.on_disconnect, ON_DISCONNECT)
    violations.agent(request.agent, agents)
    caller_tools = tools(request.tools, violations)
    return TurnRequest(
        conversation_id=conversation_id,
        message=request.message,
        request_id=request_id,
        allow_missing=request.allow_missing,
        expected_sequence=expected,
        on_busy=on_busy,
        on_disconnect=on_disconnect or OnDisconnect.CANCEL,
        agent=request.agent,
        tools=caller_tools,
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


def turn(request: pb.GetTurnRequest | pb.CancelTurnRequest) -> TurnRef:
    """Read which turn is meant: by conversation_id and turn_id, or by request_id alone.

    Raises: InvalidRequest.
    """
    violations = Violations()
    named = turn_named(request, violations)
    violations.raise_any()
    return named


def turn_named(
    request: pb.GetTurnRequest
    | pb.CancelTurnRequest
    | pb.ResumeTurnRequest
    | pb.ExplainTurnRequest
    | pb.RehearseTurnRequest,
    violations: Violations,
) -> TurnRef:
    """Read the fields that say which turn is meant."""
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

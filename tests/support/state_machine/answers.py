"""What callers are told of turns: how these stand, and their answers."""

from collections.abc import Iterable

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.services import reason_of
from support.state_machine.values import BEGINNING, MODEL, Turn


def standing_of(turn: cpb.Turn) -> tuple[str, str]:
    reason = reason_of(turn)
    state = cpb.TurnState.Name(turn.state).removeprefix("TURN_STATE_")
    return state, "" if reason == "UNSPECIFIED" else reason


def is_answer(turn: Turn, response: pb.ChatResponse) -> None:
    """Fail unless a call was told the turn's answer, or what the turn waits for."""
    assert (_waiting if turn.state == "WAITING" else _answer)(turn, response) == response
    assert turn.told == in_order(response.tool_calls)


def _answer(turn: Turn, response: pb.ChatResponse) -> pb.ChatResponse:
    first, count, omitted = turn.context
    is_cancelled = turn.state == "CANCELLED"
    return pb.ChatResponse(
        conversation_id=turn.conversation.id,
        turn_id=turn.id,
        response=turn.answer,
        tool_calls=response.tool_calls,
        user_sequence=turn.user_sequence,
        response_sequence=turn.response_sequence,
        # One that is cancelled has not said yet which model it was.
        model=response.model if is_cancelled else MODEL,
        finish_reason=cpb.FINISH_REASON_CANCELLED if is_cancelled else cpb.FINISH_REASON_STOP,
        context=cpb.Context(first_sequence=first, message_count=count, omitted_count=omitted),
        replayed=response.replayed,
    )


def _waiting(turn: Turn, response: pb.ChatResponse) -> pb.ChatResponse:
    return pb.ChatResponse(
        conversation_id=turn.conversation.id,
        turn_id=turn.id,
        response=BEGINNING,
        tool_calls=response.tool_calls,
        user_sequence=turn.user_sequence,
        model=MODEL,
        finish_reason=cpb.FINISH_REASON_ACTION_REQUIRED,
        pending_calls=[asked.shown for asked in turn.pending],
        replayed=response.replayed,
    )


def in_order(calls: Iterable[cpb.ToolCall]) -> list[cpb.ToolCall]:
    """Return calls as they were asked for: an end of a wait adds those without a result last."""
    return sorted(calls, key=lambda call: (call.step, call.id))

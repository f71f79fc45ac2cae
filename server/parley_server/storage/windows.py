"""Reading a window: the newest messages that an agent is shown, while they fit."""

from collections.abc import Awaitable, Callable, Sequence

from parley_server.core.attempts.window import LOOKBACK_FACTOR
from parley_server.core.model import Role, WindowMessage
from parley_server.storage import rows
from parley_server.storage.driver.connection import Parameters, Row, Statement
from parley_server.storage.statements import sql

_USER, _ASSISTANT = Role.USER.value, Role.ASSISTANT.value

Read = Callable[[Statement, Parameters], Awaitable[list[Row]]]
"""Runs a statement with these parameters, and with those that say whose window it is."""


async def read_window(
    read: Read, *, before: int, max_messages: int, max_bytes: int
) -> list[WindowMessage]:
    """Read the newest messages before a sequence, but for those of turns without an answer.

    Few windows have any of these. So messages are read as they lie, and where others were in the
    way of older ones, a second statement, which costs more, reads on behind them.

    Args:
        max_messages: how many at most, 0 or more; ten times as many are looked at.
        max_bytes: how many bytes of text and tool calls they may hold together. Opaque states go
            along, from the newest on, while they fit beside all that is read.
    Returns: newest first.
    """
    found = await read(
        sql.WINDOW, {"before": before, "limit": max_messages, "max_bytes": max_bytes}
    )
    shown: list[Row] = []
    oldest = before
    # Whether the message behind is an answer. It is this one's own: a conversation has one open
    # turn at a time, whose message is stored before its answer.
    is_answered = False
    for row in found:
        sequence, role, content, _, _, _, has_turn, _ = row
        is_shown = is_answered or not has_turn or role != _USER
        if is_shown and content is None:
            break  # it does not fit
        if is_shown:
            shown.append(row)
        is_answered = has_turn and role == _ASSISTANT
        oldest = sequence
    is_all = len(found) < max_messages and (not found or found[-1][2] is not None)
    if is_all or len(shown) == before - oldest:
        return rows.window_messages(shown)
    if is_answered:  # it is read again, so that its message is known to be answered
        oldest = shown.pop()[0] + 1
    room, room_with_states = _room_beside(shown, max_bytes)
    older = await read(
        sql.ANSWERED_WINDOW,
        {
            "before": oldest,
            "lookback": max_messages * LOOKBACK_FACTOR - (before - oldest),
            "limit": max_messages - len(shown),
            "max_bytes": room,
            "max_bytes_with_states": room_with_states,
        },
    )
    return rows.window_messages(shown + older)


def _room_beside(shown: Sequence[Row], max_bytes: int) -> tuple[int, int]:
    """Return how many bytes older messages may hold: by themselves, and with their states.

    Guarantees: no older state goes along where a newer one did not fit.
    """
    room, states, has_refused = max_bytes, 0, False
    for _, _, content, tool_calls, _, state, _, state_size in shown:
        room -= len(content.encode()) + len((tool_calls or "").encode())
        states += state_size or 0
        has_refused |= state is None and state_size is not None
    return room, 0 if has_refused else room - states

"""Reads for explaining and for rehearsals."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from parley_server.core.errors import BudgetExhausted, TurnLimitReached
from parley_server.core.model import (
    FailureReason,
    Owner,
    PastAttempt,
    Rehearsed,
    TurnRecord,
    TurnState,
    WindowMessage,
)
from parley_server.storage import rows
from parley_server.storage.driver.connection import Parameters
from parley_server.storage.statements import sql
from parley_server.storage.store import PostgresStore

MAX_ATTEMPTS_TOLD = 20
MAX_BYTES = 2**62
"""No bound: what is read again was within one."""


class _Extra(NamedTuple):
    """What a row of EXPLAIN has behind one of LOOK_AT_WAIT."""

    instructions: str | None
    instructions_digest: bytes | None
    attempt_time: datetime | None
    attempts: Sequence[Mapping[str, Any]] | None


class PostgresExplains:
    """Turns in Postgres, to be explained."""

    def __init__(self, store: PostgresStore, *, max_attempts: int) -> None:
        """Make the reads.

        Args:
            store: whose connections and limits are used.
        """
        self._store = store
        self._max_attempts = max_attempts

    async def record(self, owner: Owner, conversation_id: UUID, turn_id: UUID) -> TurnRecord | None:
        parameters = {"owner": owner.id, "conversation": conversation_id, "turn": turn_id}
        found = await self._store.claiming.read(sql.EXPLAIN, parameters)
        if not found:
            return None
        columns = len(rows.TurnRow._fields)
        row, (message, tools) = found[0][:columns], found[0][columns : columns + 2]
        extra = _Extra(*found[0][columns + 2 :])
        return TurnRecord(
            turn=rows.turn(row, self._max_attempts),
            wait=rows.wait(row),
            message=message or "",
            tools=rows.tools(tools),
            instructions=extra.instructions or "",
            instructions_digest=extra.instructions_digest,
            attempts=_attempts(rows.TurnRow(*row), extra),
        )

    async def shown(
        self, owner: Owner, conversation_id: UUID, first: int, before: int
    ) -> list[WindowMessage]:
        found = await self._store.claiming.read(
            sql.ANSWERED_WINDOW_WITHOUT_STATES,
            {
                "owner": owner.id,
                "conversation": conversation_id,
                "before": before,
                "lookback": before - first,
                "limit": before - first,
                "max_bytes": MAX_BYTES,
            },
        )
        return rows.window_messages(found)

    async def check_limits(
        self, owner: Owner, agent: str, tokens_a_day: int | None, rehearsed: Rehearsed
    ) -> None:
        store = self._store
        max_turns, max_tokens = store.max_turns, store.max_tokens
        if max_tokens is not None and rehearsed.tokens >= max_tokens:
            raise BudgetExhausted(max_tokens, rehearsed.tokens, rehearsed.day_left_s)
        if tokens_a_day is not None and rehearsed.agent_tokens >= tokens_a_day:
            used = rehearsed.agent_tokens
            raise BudgetExhausted(tokens_a_day, used, rehearsed.day_left_s, agent)
        if max_turns is not None and rehearsed.runs >= max_turns:
            raise TurnLimitReached(max_turns, rehearsed.next_run_s)
        if max_turns is None and max_tokens is None and tokens_a_day is None:
            return
        budgets = None
        if tokens_a_day is not None:
            budgets = json.dumps({agent: tokens_a_day - rehearsed.agent_tokens})
        parameters: Parameters = {
            **store.limits(),
            "owner": owner.id,
            "conversation": owner.id,  # none: it is the owner that is asked about
            "agent": agent,
            # What was rehearsed takes from what turns may.
            "max_turns": None if max_turns is None else max_turns - rehearsed.runs,
            "max_tokens": None if max_tokens is None else max_tokens - rehearsed.tokens,
            "agent_budgets": budgets,
        }
        found = await store.claiming.read(sql.REACHED_LIMITS, parameters)
        store.refuse_limited(_with(rehearsed, rows.Limited(*found[0])))


def _with(rehearsed: Rehearsed, found: rows.Limited) -> rows.Limited:
    """Return the limits that are reached, as they are told: with what was rehearsed."""
    if found.used_tokens is not None:
        found = found._replace(used_tokens=found.used_tokens + rehearsed.tokens)
    if found.agent_used_tokens is not None and found.agent_max_tokens is not None:
        found = found._replace(
            agent_used_tokens=found.agent_used_tokens + rehearsed.agent_tokens,
            agent_max_tokens=found.agent_max_tokens + rehearsed.agent_tokens,
        )
    return found


def _attempts(turn: rows.TurnRow, extra: _Extra) -> list[PastAttempt]:
    """Return the last attempts of a turn, in order; of those that were not kept the number alone.

    An attempt that is there twice was taken over to be ended: how it had ended before is told.
    """
    known: dict[int, PastAttempt] = {}
    for kept in extra.attempts or ():
        known.setdefault(kept["number"], _kept(kept))
    known.setdefault(turn.attempt, _present(turn, extra.attempt_time))
    first = max(1, turn.attempt - MAX_ATTEMPTS_TOLD + 1)
    return [
        known.get(number) or PastAttempt(number, None, None, None)
        for number in range(first, turn.attempt + 1)
    ]


def _kept(of: Mapping[str, Any]) -> PastAttempt:
    reason = of["reason"]
    return PastAttempt(
        of["number"],
        _time(of["start_time"]),
        _time(of["end_time"]),
        None if reason is None else FailureReason(reason),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _present(turn: rows.TurnRow, start_time: datetime | None) -> PastAttempt:
    """Return the present attempt as it stands, whatever the turn is reported as."""
    reason = None if turn.error_reason is None else FailureReason(turn.error_reason)
    if turn.state == TurnState.RUNNING and not turn.is_leased:
        reason = FailureReason.TURN_ABANDONED
    has_died = reason is FailureReason.TURN_ABANDONED
    return PastAttempt(turn.attempt, start_time, None if has_died else turn.end_time, reason)

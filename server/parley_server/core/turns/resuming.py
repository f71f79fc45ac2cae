"""ResumeTurn: giving a turn what it waits for, and running it on once nothing is missing."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from parley_server.core.attempts.given import digest
from parley_server.core.call import Call
from parley_server.core.errors import DeadlineTooShort, StoreOutcomeUnknown, TurnNotFound
from parley_server.core.model import (
    Given,
    OnDisconnect,
    Owner,
    Position,
    ResumeRequest,
    StreamEvent,
    TurnRequest,
    TurnResult,
)
from parley_server.core.patience import wait_until
from parley_server.core.ports import NO_METER, Looked, Meter, Store, WaitStore
from parley_server.core.reading import find_turn
from parley_server.core.streams.following import Following
from parley_server.core.turns.giving import GiveStep, new_ones, next_resume_step
from parley_server.core.turns.machine import Turns, waiting
from parley_server.core.turns.rules import Step


class Resuming:
    """Lets waiting turns go on, for this worker's callers. All that is given is in the store."""

    def __init__(
        self, store: Store, waits: WaitStore, turns: Turns, meter: Meter = NO_METER
    ) -> None:
        self._store = store
        self._waits = waits
        self._turns = turns
        self._meter = meter

    async def resume(
        self, owner: Owner, ask: ResumeRequest, time_left_s: float | None = None
    ) -> TurnResult:
        """Give a turn what it waits for; return its answer, or what it still waits for.

        Args:
            time_left_s: until the caller's deadline; None: it has none, the server's cap holds.
        Raises: TurnNotFound, InvalidRequest, ResultAlreadyGiven, CallNotPending; as `Turns.chat`.
        Guarantees: what is given is stored once, all of a request or none of it. Cancelling it
            means that the caller is lost.
        """
        return await self._turns.answered(
            owner, ask.on_disconnect, time_left_s, lambda *seen: self._resumed(owner, ask, *seen)
        )

    async def stream(
        self, owner: Owner, ask: ResumeRequest, after: Position, time_left_s: float | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """Give a turn what it waits for, and yield it as it goes on.

        Args:
            after: the last event seen; of another attempt than the one that runs, it says nothing.
        Yields: as `Turns.stream`.
        Raises: as `resume`.
        """
        events = self._turns.streamed(
            owner,
            ask.on_disconnect,
            after,
            time_left_s,
            lambda *seen: self._resumed(owner, ask, *seen),
        )
        async with aclosing(events):
            async for event in events:
                yield event

    async def _resumed(
        self, owner: Owner, ask: ResumeRequest, call: Call, following: Following | None
    ) -> TurnResult:
        wait_until(call.ends_at)
        named = await find_turn(self._store, owner, ask.turn)
        has_waited = False
        while True:
            self._turns.waiting.check_draining()
            looked = await self._waits.look(owner, named.conversation_id, named.id)
            if looked is None:
                raise TurnNotFound(ask.turn.turn_id, ask.turn.request_id)
            turn, wait = looked.turn, looked.wait
            new = new_ones(turn, wait, ask.calls, ask.field)
            step = next_resume_step(turn, wait, new, has_waited=has_waited)
            has_waited |= step is Step.WAIT
            if isinstance(step, Step):
                asked = _asked(looked, ask.on_disconnect)
                came = await self._turns.take(step, owner, asked, turn, call, following)
                # A turn that was brought back with its conversation has to wait again first.
                is_to_give = isinstance(came, TurnResult) and came.pending and new
                if isinstance(came, TurnResult) and not is_to_give:
                    return came
            elif step is GiveStep.GIVE:
                if await self._give(owner, looked, new):
                    return _rest(looked, new)
            elif came := await self._run_on(owner, looked, new, ask.on_disconnect, call, following):
                return came

    async def _give(self, owner: Owner, looked: Looked, new: Sequence[Given]) -> bool:
        """Store a part. Returns: False: look again."""
        try:
            return await self._waits.give(owner, looked, new)
        except StoreOutcomeUnknown:
            return False

    async def _run_on(
        self,
        owner: Owner,
        looked: Looked,
        new: Sequence[Given],
        on_disconnect: OnDisconnect,
        call: Call,
        following: Following | None,
    ) -> TurnResult | None:
        """Store the last part, and run the turn. Returns: None: look again."""
        if call.is_too_short:
            raise DeadlineTooShort
        try:
            lease = await self._waits.resume(owner, looked, new)
        except StoreOutcomeUnknown:
            # If it runs now, it may be for another call: its lease has to run out in any case.
            return None
        if lease is None:
            return None
        self._meter.wait_ended("RESUMED")
        if lease.is_started:
            call.keep_going()
        asked = _asked(looked, on_disconnect)
        return await self._turns.run(owner, asked, lease, call, following)


def _asked(looked: Looked, on_disconnect: OnDisconnect) -> TurnRequest:
    """Return what a turn was asked for, as an attempt needs it."""
    turn = looked.turn
    return TurnRequest(
        turn.conversation_id,
        looked.message,
        request_id=turn.request_id,
        on_disconnect=on_disconnect,
        agent=turn.agent,
        tools=looked.tools,
    )


def _rest(looked: Looked, new: Sequence[Given]) -> TurnResult:
    """Return what a turn waits for once a part is given."""
    if looked.wait is None:
        raise AssertionError("a part was given to a turn that never waited")
    digests = {**looked.wait.digests, **{given.call_key: digest(given) for given in new}}
    return waiting(looked.turn, replace(looked.wait, digests=digests), is_replayed=False)

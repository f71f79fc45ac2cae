"""RehearseTurn: a turn's window and message given to an agent again. Nothing is written.

    record of the turn ─► limits ─► window as of the turn ─► agent ─► told, piece by piece

There is no lease: the conversation may be busy, and go on. What holds an attempt within bounds
holds a rehearsal: deadline, cap, the agent's limits, the transcript's.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from uuid import uuid4

from parley_server.core.attempts.attempt import Attempt
from parley_server.core.attempts.roster import NamedAgent, Roster
from parley_server.core.attempts.window import window_as_of
from parley_server.core.call import Call
from parley_server.core.errors import (
    DeadlineTooShort,
    Incomplete,
    NoRehearsal,
    ParleyError,
    WindowIncomplete,
    WorkerDrained,
)
from parley_server.core.failures import Stop, error_of
from parley_server.core.model import (
    AgentRun,
    Context,
    OnDisconnect,
    Owner,
    Rehearsal,
    RehearsalEvent,
    RehearsalRequest,
    RehearsalStarted,
    Text,
    ToolCall,
    TurnRecord,
    TurnRequest,
    Window,
)
from parley_server.core.patience import wait_until
from parley_server.core.ports import NO_METER, ExplainStore, Meter, Store
from parley_server.core.tasks import Tasks, wait_any
from parley_server.core.turns.allowance import Allowance
from parley_server.core.turns.explaining import Explaining, as_lease

log = logging.getLogger("parley.turns")


class Rehearsals:
    """The rehearsals of this worker's callers."""

    def __init__(
        self,
        store: Store,
        explains: ExplainStore,
        explaining: Explaining,
        roster: Roster,
        chat_timeout_s: float,
        meter: Meter = NO_METER,
    ) -> None:
        """Begin none yet.

        Args:
            chat_timeout_s: the server's cap on one call.
        """
        self._store = store
        self._explains = explains
        self._explaining = explaining
        self._roster = roster
        self._chat_timeout_s = chat_timeout_s
        self._meter = meter
        self._allowance = Allowance()
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        """Reads, runs, and agents that were told to stop."""
        self._running: set[Attempt] = set()
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._running)

    def drain(self) -> None:
        """End every rehearsal as WORKER_DRAINED, and begin no more."""
        self._is_draining = True
        for attempt in self._running:
            attempt.stop(Stop.WORKER_DRAINED)

    async def rehearse(
        self, owner: Owner, ask: RehearsalRequest, time_left_s: float | None = None
    ) -> AsyncGenerator[RehearsalEvent, None]:
        """Give a turn's window and message to an agent, and yield what it says.

        Args:
            time_left_s: until the caller's deadline; None: it has none, the server's cap holds.
        Yields: RehearsalStarted; text and tool calls; an Answer.
        Raises: TurnNotFound, WindowIncomplete, NoRehearsal, TurnLimitReached, BudgetExhausted,
            AgentError, DeadlineTooShort, CallerLost, StoreUnavailable, WorkerDrained.
        Guarantees: nothing is written, and no tool runs that the agent asks for. Closing it means
            that the caller is lost, and stops the run.
        """
        call = Call(self._loop, time_left_s, self._chat_timeout_s, OnDisconnect.CANCEL)
        if call.is_too_short:
            raise DeadlineTooShort
        wait_until(call.ends_at)
        preparing = self._prepared(owner, ask)
        record, named, window, rehearsal = await self._tasks.shielded(preparing)
        if self._is_draining:
            raise WorkerDrained
        # The agents may have been replaced meanwhile: this one is not closed while it is used.
        named = self._roster.seated(named.name)
        if not named.can_rehearse:
            raise NoRehearsal(named.name)
        asked = TurnRequest(record.turn.conversation_id, record.message, agent=named.name)
        attempt = Attempt(owner, asked, as_lease(record), named, self._loop)
        run = _run_of(owner, record, named, window, rehearsal, call.time_left_s)
        pieces = _Pieces()
        attempt.on_piece = pieces.add
        failure: ParleyError | None = error_of(Stop.CALLER_LOST, attempt.lease)
        with named.uses, self._counted(attempt):
            timer = call.attach(attempt.stop)
            running = self._tasks.start(attempt.run(run, self._tasks))
            try:
                turn = record.turn
                yield RehearsalStarted(named.name, window.context, turn.conversation_id, turn.id)
                while not running.done():
                    for piece in pieces.take():
                        yield piece
                    await wait_any(running, pieces.arrived)
                for piece in pieces.take():
                    yield piece
                if running.result() is not Stop.AGENT_DONE:
                    raise error_of(running.result(), attempt.lease)
                answer = attempt.answer()
                failure = None
                yield answer
            except ParleyError as error:
                failure = error
                raise
            finally:
                timer.cancel()
                call.lose()
                self._meter.rehearsed(named.name, failure, attempt.transcript.usage)

    @contextmanager
    def _counted(self, attempt: Attempt) -> Iterator[None]:
        """Count a rehearsal among those that run, and afterwards against its owner's budget."""
        self._running.add(attempt)
        self._allowance.begin(attempt.owner.id)
        try:
            yield
        finally:
            self._running.discard(attempt)
            usage = attempt.transcript.usage
            self._allowance.spend(attempt.owner.id, attempt.named.name, usage)

    async def _prepared(
        self, owner: Owner, ask: RehearsalRequest
    ) -> tuple[TurnRecord, NamedAgent, Window, Rehearsal]:
        """Read what the agent is to be shown, and which calls it gets results of."""
        record = await self._explaining.record(owner, ask.turn)
        turn = record.turn
        if not turn.has_begun:
            raise WindowIncomplete(turn.id, Incomplete.NOT_BEGUN)
        named = self._roster.seated(ask.agent or turn.agent)
        if not named.can_rehearse:
            raise NoRehearsal(named.name)
        rehearsed = self._allowance.of(owner.id, named.name)
        budget = named.limits.tokens_a_day
        await self._explains.check_limits(owner, named.name, budget, rehearsed)
        window = await self._window(owner, record, named)
        return record, named, window, Rehearsal(await self._explaining.tool_calls(owner, record))

    async def _window(self, owner: Owner, record: TurnRecord, named: NamedAgent) -> Window:
        """Read the window as of the turn: of an answered one, what it was shown and nothing else.

        Raises: WindowIncomplete; TurnNotFound: it was deleted meanwhile.
        """
        turn, message = record.turn, record.message
        lease = as_lease(record)
        window = await window_as_of(self._store, owner, lease, message, named.window)
        if turn.context is None:
            return window
        room = named.window.room(record.instructions)
        own = self._roster.seated(turn.agent).window.room(record.instructions)
        is_smaller = room < min(own, len(message.encode()))
        first = turn.context.first_sequence
        shown = [message for message in window.messages if message.sequence >= first]
        if is_smaller or window.context.first_sequence > first:
            # Where messages are gone for good, none is left; else the conversation is deleted.
            await self._explaining.record(owner, record.name)
            raise WindowIncomplete(turn.id, Incomplete.TOO_SMALL)
        if len(shown) < turn.context.message_count:
            await self._explaining.record(owner, record.name)
            raise WindowIncomplete(turn.id, Incomplete.MISSING)
        omitted = turn.user_sequence - len(shown)
        return Window(shown, Context(first, len(shown), omitted))


def _run_of(
    owner: Owner,
    record: TurnRecord,
    named: NamedAgent,
    window: Window,
    rehearsal: Rehearsal,
    time_left_s: float,
) -> AgentRun:
    return AgentRun(
        owner=owner,
        conversation_id=record.turn.conversation_id,
        turn_id=uuid4(),  # an agent that knows the turn by its id must not answer as before
        attempt=1,
        window=window,
        instructions=named.window.told(record.instructions),
        time_left_s=min(time_left_s, named.limits.seconds or math.inf),
        tools=record.tools,
        limits=named.limits,
        rehearsal=rehearsal,
    )


class _Pieces:
    """What an agent has said that was not told yet. However slowly it is taken, text is joined."""

    def __init__(self) -> None:
        self._pieces: list[Text | ToolCall] = []
        self._text: list[str] = []
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when there is something to take."""

    def add(self, piece: Text | ToolCall) -> None:
        if isinstance(piece, Text):
            self._text.append(piece.text)
        else:
            self._join()
            self._pieces.append(piece)
        if not self.arrived.done():
            self.arrived.set_result(None)

    def take(self) -> list[Text | ToolCall]:
        self._join()
        taken, self._pieces = self._pieces, []
        if self.arrived.done():
            self.arrived = asyncio.get_running_loop().create_future()
        return taken

    def _join(self) -> None:
        if text := "".join(self._text):
            self._pieces.append(Text(text))
        self._text = []

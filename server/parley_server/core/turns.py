"""The turn machine: how one turn is claimed, waited for, run, and ended.

    chat ─► claim ─► lease ──────────────► run: window ─► agent ─► finish ─► answered
              │                             ▲                        └─ fail ─► error
              └► the turn of this request id│
                   answered ─► replayed     │
                   failed, newest ─► reclaim┘
                   running ─► wait for its end, look again

Each call's work is a task of its own that nobody cancels, because a statement that was sent cannot
be taken back: a lost caller is a signal to it (`_Call.lose`), and so is a worker that drains.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from parley_server.core.attempt import Attempt, Stop, error_for, error_of, reason_of
from parley_server.core.errors import (
    AgentError,
    AgentTimeout,
    CallerLost,
    ConversationNotFound,
    DeadlineTooShort,
    LeaseLost,
    ParleyError,
    RequestIdReused,
    SequenceMismatch,
    StoreOutcomeUnknown,
    StoreUnavailable,
    TurnInProgress,
    TurnSuperseded,
    WorkerDrained,
)
from parley_server.core.heartbeat import Heartbeat
from parley_server.core.model import (
    AgentRun,
    Answer,
    Answered,
    Ask,
    Context,
    FailureReason,
    Lease,
    NewTurn,
    OnBusy,
    OnDisconnect,
    Owner,
    Turn,
    TurnState,
    Window,
)
from parley_server.core.ports import Agent, Ids, Store
from parley_server.core.waiting import Bells, Queues, either
from parley_server.core.window import budget_bytes, window_of

log = logging.getLogger("parley.turns")

POLL_S = 0.4
"""How often a turn that runs on another worker is looked at."""
TOO_SHORT_S = 1.0
"""With less than this left, no attempt is begun."""
RETRY_PAUSE_S = 0.2
"""Between two tries of a statement that the database did not answer."""
CLAIM_LOOKUP_S = 5.0
"""How long a claim whose outcome is unknown is looked for."""
OVERTIME_S = 10.0
"""How long after its end a call may still be writing down how it ended, before it is given up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TurnSettings:
    lease_s: float
    chat_timeout_s: float
    """The server's cap on one call."""
    context_messages: int
    context_tokens: int
    instructions: str = ""


class _Call:
    """One call of Chat, seen from the work that is done for it."""

    def __init__(
        self, time_left_s: float | None, cap_s: float, on_disconnect: OnDisconnect
    ) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.cap_at = now + cap_s
        self.ends_at = self.cap_at if time_left_s is None else min(now + time_left_s, self.cap_at)
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the caller is lost."""
        self._attempt: Attempt | None = None
        self._continues = on_disconnect is OnDisconnect.CONTINUE

    @property
    def time_left_s(self) -> float:
        return self.ends_at - self._loop.time()

    @property
    def run_ends_at(self) -> float:
        """When an agent that is run for this call has to end."""
        return self.cap_at if self._continues else self.ends_at

    def lose(self) -> None:
        """Take note that the caller is gone."""
        if not self.gone.done():
            self.gone.set_result(None)
        if self._attempt is not None and not self._continues:
            self._attempt.stop(Stop.CALLER_LOST)

    def runs(self, attempt: Attempt) -> asyncio.TimerHandle:
        """Tie an attempt to this call. Returns: the timer that ends it with the call."""
        self._attempt = attempt
        if self.gone.done() and not self._continues:
            attempt.stop(Stop.CALLER_LOST)
        why = Stop.TIMEOUT if self.run_ends_at == self.cap_at else Stop.CALLER_LOST
        return self._loop.call_at(self.run_ends_at, attempt.stop, why)


class Turns:
    """Runs turns for this worker's callers. Everything that outlives a call is in the store."""

    def __init__(
        self, store: Store, agents: Mapping[str, Agent], settings: TurnSettings, ids: Ids
    ) -> None:
        """Make the turn machine.

        Args:
            agents: by name; the one under the empty name is the default.
            ids: makes turn ids and conversation ids that rise with time.
        """
        self._store = store
        self._agents = agents
        self._settings = settings
        self._ids = ids
        self._bells = Bells()
        self._queues = Queues()
        self._calls: set[asyncio.Task[Answered]] = set()
        self._attempts: set[Attempt] = set()
        self._chores: set[asyncio.Task[None]] = set()
        """Heartbeats, late writes, and agents that were told to stop."""
        self._finding: dict[tuple[Owner, str], asyncio.Task[Turn | None]] = {}
        self._is_draining = False
        self._draining: asyncio.Future[None] | None = None

    @property
    def agent_names(self) -> frozenset[str]:
        return frozenset(self._agents)

    @property
    def open_count(self) -> int:
        """How many attempts are under way on this worker."""
        return len(self._attempts)

    async def chat(self, owner: Owner, ask: Ask, time_left_s: float | None = None) -> Answered:
        """Make one turn and return its answer, or the answer it was given before.

        Args:
            time_left_s: until the caller's deadline; None: it has none, the server's cap holds.
        Raises: ConversationNotFound, RequestIdReused, TurnInProgress, SequenceMismatch, LeaseLost,
            TurnSuperseded, AgentRefused, AgentTimeout, AgentUnavailable, DeadlineTooShort,
            StoreUnavailable, WorkerDrained.
        Guarantees: promises 1 to 6 of the design. Cancelling it means that the caller is lost.
        """
        call = _Call(time_left_s, self._settings.chat_timeout_s, ask.on_disconnect)
        work = asyncio.create_task(self._answer(owner, ask, call))
        self._calls.add(work)
        work.add_done_callback(self._call_done)
        try:
            async with asyncio.timeout_at(call.ends_at + OVERTIME_S):
                return await asyncio.shield(work)
        except TimeoutError:
            raise StoreUnavailable from None
        finally:
            call.lose()

    def _call_done(self, work: asyncio.Task[Answered]) -> None:
        self._calls.discard(work)
        error = None if work.cancelled() else work.exception()
        if error is not None and not isinstance(error, ParleyError):
            log.error("call failed", extra={"error": type(error).__name__})

    async def drain(self, grace_s: float) -> None:
        """Take no new turns, let open ones end for a while, then end them as WORKER_DRAINED.

        Returns once everything that this worker has begun is written down, or cannot be.
        """
        self._is_draining = True
        if self._draining is not None and not self._draining.done():
            self._draining.set_result(None)
        if self._calls:
            await asyncio.wait(self._calls, timeout=grace_s)
        self.end_attempts()
        for rest in (self._calls, self._chores):
            if rest:
                await asyncio.wait(rest, timeout=OVERTIME_S)

    def end_attempts(self) -> None:
        """End every attempt under way as WORKER_DRAINED."""
        for attempt in self._attempts:
            attempt.stop(Stop.WORKER_DRAINED)

    # Claim

    async def _answer(self, owner: Owner, ask: Ask, call: _Call) -> Answered:
        fingerprint = ask.fingerprint()
        found: Lease | Turn | None = None
        has_waited = False
        while True:
            if self._is_draining:
                raise WorkerDrained
            if found is None:
                found = await self._claim(owner, ask, fingerprint, call)
            if isinstance(found, Lease):
                return await self._run(owner, ask, found, call)

            if found.fingerprint != fingerprint:
                raise RequestIdReused(found.request_id or "")
            if found.state in (TurnState.COMPLETED, TurnState.CANCELLED):
                return _replayed(found)
            if found.state is TurnState.RUNNING:
                has_waited = True
                found = await self._ended(owner, found, call)
                continue
            if not found.is_newest:
                raise TurnSuperseded(found.id)
            if has_waited and (error := error_for(found.error_reason)):
                raise error  # the answer that this call waited for
            if call.time_left_s < TOO_SHORT_S:
                raise DeadlineTooShort
            found = await self._reclaim(owner, found)

    async def _claim(self, owner: Owner, ask: Ask, fingerprint: bytes, call: _Call) -> Lease | Turn:
        """Open the turn, waiting for another one to end if the caller wants to."""
        new = NewTurn(
            id=self._ids(),
            conversation_id=ask.conversation_id or self._ids(),
            is_new_conversation=ask.conversation_id is None,
            request_id=ask.request_id,
            fingerprint=fingerprint,
            agent=ask.agent,
            message=ask.message,
            expected_sequence=ask.expected_sequence,
            allow_missing=ask.allow_missing,
        )
        if call.time_left_s < TOO_SHORT_S:
            known = await self._known(owner, new)
            if known is None:
                raise DeadlineTooShort
            return known
        if ask.on_busy is OnBusy.REJECT:
            return await self._try_claim(owner, new)
        if self._queues.is_empty(new.conversation_id):
            with suppress(TurnInProgress):
                return await self._try_claim(owner, new)
        elif known := await self._known(owner, new):
            return known
        else:
            await self._check_sequence(owner, new)
        return await self._claim_in_turn(owner, new, call)

    async def _claim_in_turn(self, owner: Owner, new: NewTurn, call: _Call) -> Lease | Turn:
        """Queue up behind the calls that wait already; the first of them tries."""
        async with self._queues.first(new.conversation_id, call.gone) as is_first:
            while is_first:
                with self._bells.listen(new.conversation_id) as bell:
                    try:
                        return await self._try_claim(owner, new)
                    except TurnInProgress:
                        if call.time_left_s < TOO_SHORT_S:
                            raise
                    await self._wait(bell, call)
        raise CallerLost

    async def _known(self, owner: Owner, new: NewTurn) -> Turn | None:
        return await self._store.find(owner, new.request_id) if new.request_id else None

    async def _check_sequence(self, owner: Owner, new: NewTurn) -> None:
        """Refuse at once what no waiting can mend."""
        standing = await self._store.standing(owner, new.conversation_id)
        if standing is None:
            if not new.allow_missing:
                raise ConversationNotFound(new.conversation_id)
        elif new.expected_sequence not in (None, standing.last_sequence):
            raise SequenceMismatch(standing.last_sequence)

    async def _try_claim(self, owner: Owner, new: NewTurn) -> Lease | Turn:
        try:
            return await self._store.claim(owner, new)
        except StoreOutcomeUnknown:
            deadline = asyncio.get_running_loop().time() + CLAIM_LOOKUP_S
            turn = await self._insist(
                lambda: self._store.turn(owner, new.conversation_id, new.id), deadline
            )
            if turn is not None and turn.state is TurnState.RUNNING and turn.attempt == 1:
                return Lease(new.conversation_id, new.id, 1, turn.fence, turn.user_sequence)
            raise StoreUnavailable from None

    async def _reclaim(self, owner: Owner, turn: Turn) -> Lease | Turn | None:
        """Take the turn for a new attempt, or return how it stands now. None: it is gone."""
        try:
            lease = await self._store.reclaim(owner, turn)
        except StoreOutcomeUnknown:
            # If it was carried out, its lease runs out: somebody else may have it then.
            raise StoreUnavailable from None
        return lease or await self._store.turn(owner, turn.conversation_id, turn.id)

    # Waiting

    async def _ended(self, owner: Owner, turn: Turn, call: _Call) -> Turn | None:
        """Wait until a turn does not run any more, and return how it stands then."""
        while True:
            with self._bells.listen(turn.conversation_id) as bell:
                current = await self._find(owner, turn.request_id or "")
                if current is None or current.state is not TurnState.RUNNING:
                    return current
                await self._wait(bell, call)

    async def _wait(self, bell: asyncio.Future[None], call: _Call) -> None:
        """Wait for the bell, the next look, or the end of the call.

        Raises: CallerLost, AgentTimeout, WorkerDrained: the call is over.
        """
        loop = asyncio.get_running_loop()
        if self._draining is None:
            self._draining = loop.create_future()
        # Looks fall on the same moments for all that wait, so that they share a statement.
        next_look_s = POLL_S - loop.time() % POLL_S
        await either(
            bell, call.gone, self._draining, timeout_s=min(next_look_s, max(0, call.time_left_s))
        )
        if call.gone.done():
            raise CallerLost
        if self._is_draining:
            raise WorkerDrained
        if call.time_left_s <= 0:
            raise AgentTimeout

    async def _find(self, owner: Owner, request_id: str) -> Turn | None:
        """Read a turn by its request id, one statement for all calls that ask at the same time."""
        key = (owner, request_id)
        finding = self._finding.get(key)
        if finding is None:
            finding = asyncio.create_task(self._store.find(owner, request_id))
            self._finding[key] = finding
            finding.add_done_callback(lambda _: self._finding.pop(key))
        return await asyncio.shield(finding)

    # Run

    async def _run(self, owner: Owner, ask: Ask, lease: Lease, call: _Call) -> Answered:
        agent = self._agents[ask.agent]
        attempt = Attempt(owner, lease, agent)
        self._attempts.add(attempt)
        timer = call.runs(attempt)
        heartbeat = Heartbeat(
            self._settings.lease_s / 3, lambda: self._renew(attempt), self._chores
        )
        try:
            window = await self._window(attempt, ask.message)
            run = AgentRun(
                owner=owner,
                conversation_id=lease.conversation_id,
                turn_id=lease.turn_id,
                attempt=lease.attempt,
                window=window,
                instructions=self._settings.instructions,
                time_left_s=call.run_ends_at - asyncio.get_running_loop().time(),
            )
            why = await attempt.run(run, self._chores)
            if why is not Stop.AGENT_DONE:
                raise error_of(why, lease)
            answer = attempt.answer()
            sequence = await self._finish(owner, lease, answer, window.context, call.run_ends_at)
            return Answered(
                conversation_id=lease.conversation_id,
                turn_id=lease.turn_id,
                user_sequence=lease.user_sequence,
                response_sequence=sequence,
                answer=answer,
                context=window.context,
                is_replayed=False,
            )
        except (AgentError, CallerLost, WorkerDrained, StoreUnavailable) as error:
            await self._fail(attempt, error)
            raise
        finally:
            timer.cancel()
            heartbeat.cancel()
            attempt.stop(Stop.AGENT_DONE)
            self._attempts.discard(attempt)
            self._bells.ring(lease.conversation_id)

    async def _window(self, attempt: Attempt, message: str) -> Window:
        settings = self._settings
        max_bytes = budget_bytes(settings.context_tokens, settings.instructions)
        newest_first = []
        if attempt.lease.user_sequence > 1:
            newest_first = await self._store.window(
                attempt.owner,
                attempt.lease,
                max_messages=settings.context_messages - 1,
                max_bytes=max(0, max_bytes - len(message.encode())),
            )
        return window_of(newest_first, attempt.lease.user_sequence, message, max_bytes)

    async def _finish(
        self, owner: Owner, lease: Lease, answer: Answer, context: Context, deadline: float
    ) -> int:
        """Write the answer, again and again until the database says what became of it."""
        sequence = await self._insist(
            lambda: self._store.finish(owner, lease, answer, context), deadline
        )
        if sequence is not None:
            return sequence
        turn = await self._insist(
            lambda: self._store.turn(owner, lease.conversation_id, lease.turn_id), deadline
        )
        if turn is None:
            raise ConversationNotFound(lease.conversation_id)
        if turn.response_sequence is not None and turn.attempt == lease.attempt:
            return turn.response_sequence  # an earlier try had been carried out
        raise LeaseLost

    async def _fail(self, attempt: Attempt, error: ParleyError) -> None:
        """Write down why the attempt failed, so that the conversation is free at once."""
        reason = reason_of(error)
        if reason is None:
            return
        write = asyncio.create_task(self._write_failure(attempt, reason, str(error)))
        self._chores.add(write)
        write.add_done_callback(self._chores.discard)
        # The caller is told once it is written; with the database away, without waiting for it.
        await asyncio.wait([write], timeout=1.0)

    async def _write_failure(self, attempt: Attempt, reason: FailureReason, text: str) -> None:
        deadline = asyncio.get_running_loop().time() + self._settings.lease_s
        try:
            await self._insist(
                lambda: self._store.fail(attempt.owner, attempt.lease, reason, text), deadline
            )
        except StoreUnavailable:
            log.warning(  # the lease has run out by now: the turn counts as abandoned
                "failure not stored", extra={"turn_id": str(attempt.lease.turn_id)}
            )
        finally:
            self._bells.ring(attempt.lease.conversation_id)

    async def _insist(self, statement: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Run a statement, again while the database does not answer, until the deadline."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await statement()
            except StoreUnavailable:
                if loop.time() + RETRY_PAUSE_S >= deadline:
                    raise StoreUnavailable from None
                await asyncio.sleep(RETRY_PAUSE_S)

    # Heartbeat

    async def _renew(self, attempt: Attempt) -> None:
        """Keep the lease. With the database away, the agent goes on."""
        owner, lease = attempt.owner, attempt.lease
        try:
            if await self._store.renew(owner, lease):
                return
            turn = await self._store.turn(owner, lease.conversation_id, lease.turn_id)
        except StoreUnavailable:
            log.warning("heartbeat not stored", extra={"turn_id": str(lease.turn_id)})
            return
        if turn is None:
            attempt.stop(Stop.CONVERSATION_GONE)
        elif turn.fence != lease.fence:
            attempt.stop(Stop.LEASE_LOST)


def _replayed(turn: Turn) -> Answered:
    if turn.answer is None or turn.context is None or turn.response_sequence is None:
        raise AssertionError("an answered turn without its answer")
    return Answered(
        conversation_id=turn.conversation_id,
        turn_id=turn.id,
        user_sequence=turn.user_sequence,
        response_sequence=turn.response_sequence,
        answer=turn.answer,
        context=turn.context,
        is_replayed=True,
    )

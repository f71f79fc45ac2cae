"""How a call gets a turn's lease: at once, after waiting in a queue, or after an attempt failed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from uuid import UUID

from parley_server.core.bells import Bells, topic_of
from parley_server.core.call import Call
from parley_server.core.errors import (
    ConversationNotFound,
    DeadlineTooShort,
    SequenceMismatch,
    StoreOutcomeUnknown,
    StoreUnavailable,
    TurnInProgress,
)
from parley_server.core.model import (
    Lease,
    NewTurn,
    OnBusy,
    Owner,
    Turn,
    TurnRequest,
    TurnState,
    WaitEnd,
)
from parley_server.core.patience import waiting_until
from parley_server.core.ports import Ids, Store
from parley_server.core.sharing import Shared
from parley_server.core.turns.waiting import Waiting

CLAIM_LOOKUP_S = 10.0
"""How long a claim whose outcome is unknown is looked for, and tried again."""
MORE_CLAIMS = 3
"""How often it is tried again."""
REPLACEMENTS = 3
"""How often a call takes the place of a turn that waits: others may be faster."""

EndCancelled = Callable[[Owner, Turn, WaitEnd], Awaitable[int | None]]
"""Closes a turn that waits. Returns: its answer's sequence; None: it does not wait any more."""


class Claims:
    """Gets leases for this worker's calls, and waits for turns to end."""

    def __init__(
        self,
        store: Store,
        end_cancelled: EndCancelled,
        bells: Bells,
        waiting: Waiting,
        ids: Ids,
        lease_s: float,
    ) -> None:
        self._store = store
        self._end_cancelled = end_cancelled
        self._lease_s = lease_s
        self._bells = bells
        self._ids = ids
        self._waiting = waiting
        self._finding: Shared[tuple[Owner, UUID], Turn | None] = Shared()

    async def claim(
        self, owner: Owner, ask: TurnRequest, fingerprint: bytes, call: Call
    ) -> Lease | Turn:
        """Open the turn that is asked for, waiting for another one to end if the caller wants to.

        Returns: the lease; or the turn that has the request id already.
        Raises: ConversationNotFound, SequenceMismatch, TurnInProgress, TurnLimitReached,
            BudgetExhausted, DeadlineTooShort, StoreUnavailable, CallerLost, WorkerDrained.
        """
        new = NewTurn.of(ask, fingerprint, self._ids)
        if call.is_too_short:
            return await self._known_or_too_short(owner, new)
        if ask.on_busy is OnBusy.REJECT:
            return await self._try(owner, new)
        if ask.on_busy is OnBusy.REPLACE:
            return await self._replace(owner, new)
        topic = topic_of(owner, new.conversation_id)
        if self._waiting.is_empty(topic):
            with suppress(TurnInProgress):
                return await self._try(owner, new)
        elif known := await self._known(owner, new):
            return known
        else:
            await self._refuse_at_once(owner, new)
        return await self._waiting.in_turn(
            topic,
            call,
            lambda: self._try(owner, new),
            lambda: self._known_or_too_short(owner, new),
        )

    async def _known_or_too_short(self, owner: Owner, new: NewTurn) -> Turn:
        """Return the turn of this request id: to replay an answer takes no time.

        Raises: DeadlineTooShort: there is none, and it is too late to begin one.
        """
        known = await self._known(owner, new)
        if known is None:
            raise DeadlineTooShort
        return known

    async def _known(self, owner: Owner, new: NewTurn) -> Turn | None:
        return await self._store.find(owner, new.request_id) if new.request_id else None

    async def _refuse_at_once(self, owner: Owner, new: NewTurn) -> None:
        """Raise what waiting cannot fix."""
        standing = await self._store.standing(owner, new.conversation_id)
        if standing is None:
            if not new.allow_missing:
                raise ConversationNotFound(new.conversation_id)
        elif new.expected_sequence not in (None, standing.last_sequence):
            raise SequenceMismatch(standing.last_sequence)

    async def _replace(self, owner: Owner, new: NewTurn) -> Lease | Turn:
        """Claim in the place of a turn that waits for its caller, and cancel that one.

        Not while started turns come first, nor over a limit: it would be cancelled for nothing.
        """
        for _ in range(REPLACEMENTS):
            try:
                return await self._try(owner, new)
            except TurnInProgress as busy:
                if busy.lease_end_time is not None:
                    raise
                open_turn = await self._store.turn(owner, busy.conversation_id, busy.turn_id)
                if open_turn is None or open_turn.state is not TurnState.WAITING:
                    continue
                if busy.queue_length > open_turn.is_started:
                    raise
                if busy.limit is not None:
                    raise busy.limit from None
                sequence = await self._end_cancelled(owner, open_turn, WaitEnd.REPLACED)
                if sequence is not None and new.expected_sequence is not None:
                    # It held before the answer that this call has just caused.
                    new = replace(new, expected_sequence=sequence)
        return await self._try(owner, new)

    async def _try(self, owner: Owner, new: NewTurn) -> Lease | Turn:
        """Claim, and once more where the connection broke before and the turn is not there.

        Both carry the turn's one id, so at most one of them is carried out. Nothing that a later
        one is refused with is believed before the turn was looked up.
        """
        began = monotonic()
        try:
            return await self._store.claim(owner, new)
        except StoreOutcomeUnknown:
            with waiting_until(began + CLAIM_LOOKUP_S):
                return await self._claim_again(owner, new, own_until=began + self._lease_s)

    async def _claim_again(self, owner: Owner, new: NewTurn, own_until: float) -> Lease | Turn:
        for _ in range(MORE_CLAIMS):
            opened = await self._opened(owner, new, own_until)
            if opened is not None:
                return opened
            try:
                claimed = await self._store.claim(owner, new)
                if isinstance(claimed, Lease) or claimed.id != new.id:
                    return claimed
            except StoreOutcomeUnknown:
                pass
            except (ConversationNotFound, SequenceMismatch, TurnInProgress):
                opened = await self._opened(owner, new, own_until)
                if opened is None:
                    raise
                return opened
        raise StoreUnavailable

    async def _opened(self, owner: Owner, new: NewTurn, own_until: float) -> Lease | Turn | None:
        """Return what became of a claim whose outcome is unknown.

        Args:
            own_until: when its lease may have run out, so that another call may have the turn.
        Returns: the lease; or the turn as it stands, which is not this call's any more; None: it
            was not carried out.
        Raises: StoreUnavailable: it cannot be learned.
        """
        turn = await self._store.turn(owner, new.conversation_id, new.id)
        if turn is None:
            return None
        is_ours = monotonic() < own_until
        if is_ours and turn.state is TurnState.RUNNING and turn.attempt == 1:
            return Lease(
                new.conversation_id,
                new.id,
                attempt=1,
                fence=turn.fence,
                user_sequence=turn.user_sequence,
                instructions=turn.instructions,
                agent=turn.agent,
            )
        if new.request_id is None:
            raise StoreUnavailable  # there is nothing by which this call could wait for it
        return turn

    async def reclaim(self, owner: Owner, turn: Turn, call: Call) -> Lease | Turn | None:
        """Take a failed or abandoned turn for a new attempt, or return how it stands now.

        Returns: None: it is gone.
        Raises: DeadlineTooShort, StoreUnavailable.
        """
        if call.is_too_short:
            raise DeadlineTooShort
        try:
            lease = await self._store.reclaim(owner, turn)
        except StoreOutcomeUnknown:
            # If it runs now, it may be for another call: its lease has to run out in any case.
            lease = None
        return lease or await self._store.turn(owner, turn.conversation_id, turn.id)

    async def reclaim_in_place(
        self, owner: Owner, turn: Turn, call: Call, place: asyncio.Future[None]
    ) -> Lease | Turn | None:
        """Wait for the place in which an abandoned turn may run; then as `reclaim`.

        Returns: as `reclaim`; how the turn stands, if another call has changed it before.
        Raises: CallerLost, AgentTimeout, WorkerDrained: the call is over before.
        """
        while not place.done():
            with self._bells.listen(topic_of(owner, turn.conversation_id)) as bell:
                current = await self._find(owner, turn)
                if current != turn:
                    return current
                await self._waiting.wait(bell, call, place)
        return await self.reclaim(owner, turn, call)

    async def wait_for_end(self, owner: Owner, turn: Turn, call: Call) -> Turn | None:
        """Wait until a turn does not run any more, or be run, and return how it stands then.

        The same for one that begins, or of which another attempt does.

        Raises: CallerLost, AgentTimeout, WorkerDrained: the call is over before.
        """
        while True:
            with self._bells.listen(topic_of(owner, turn.conversation_id)) as bell:
                current = await self._find(owner, turn)
                if current is None or current.state not in (TurnState.RUNNING, TurnState.QUEUED):
                    return current
                if (current.state, current.attempt) != (turn.state, turn.attempt):
                    return current
                await self._waiting.wait(bell, call)

    async def _find(self, owner: Owner, turn: Turn) -> Turn | None:
        """Read a turn again, one statement for all calls that ask at the same time."""
        return await self._finding.read(
            (owner, turn.id), lambda: self._store.turn(owner, turn.conversation_id, turn.id)
        )

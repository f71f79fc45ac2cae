"""StartTurn: storing a turn that any worker runs later, without a caller."""

from collections.abc import Callable

from parley_server.core.attempts.ending import Ending
from parley_server.core.bells import Bells
from parley_server.core.errors import ConversationNotFound
from parley_server.core.model import NewTurn, Owner, Turn, TurnRequest, TurnState
from parley_server.core.patience import wait_until
from parley_server.core.ports import NO_TRACER, Ids, QueueStore, Store, Tracer
from parley_server.core.tasks import Tasks
from parley_server.core.turns.rules import is_to_queue

TRIES = 5
"""How often it is looked how a turn stands that others change meanwhile."""


class Accepting:
    """Takes turns for the queue."""

    def __init__(
        self,
        store: Store,
        queue: QueueStore,
        ending: Ending,
        bells: Bells,
        ids: Ids,
        cap_s: float,
        on_accepted: Callable[[], None],
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Accept nothing yet.

        Args:
            cap_s: the server's cap on one call.
            on_accepted: called when there is a turn to begin.
        """
        self._store = store
        self._queue = queue
        self._ending = ending
        self._bells = bells
        self._ids = ids
        self._cap_s = cap_s
        self._on_accepted = on_accepted
        self._tracer = tracer
        self._tasks = Tasks()

    async def start(
        self, owner: Owner, ask: TurnRequest, time_left_s: float | None = None
    ) -> tuple[Turn, bool]:
        """Store a turn, or queue one that has failed for another attempt.

        Args:
            time_left_s: until the caller's deadline; None: it has none.
        Returns: the turn as it stands, and whether an earlier call had stored it.
        Raises: ConversationNotFound, RequestIdReused, TurnSuperseded, SequenceMismatch,
            AttemptsExhausted, TurnLimitReached, BudgetExhausted, QueueFull, StoreUnavailable.
        Guarantees: a turn that is returned as QUEUED is run, whatever becomes of this worker.
        """
        cap_s = self._cap_s if time_left_s is None else min(time_left_s, self._cap_s)
        return await self._tasks.shielded(self._started(owner, ask, cap_s), cap_s)

    async def _started(self, owner: Owner, ask: TurnRequest, cap_s: float) -> tuple[Turn, bool]:
        wait_until(self._tasks.time() + cap_s)
        new = NewTurn.of(ask, ask.fingerprint(), self._ids)
        self._tracer.accepted(new.id)  # before: it may begin before this call goes on
        turn = await self._queue.accept(owner, new)
        if turn.id == new.id:
            self._on_accepted()  # no call can be waiting for it yet
            return turn, False
        return await self._known(owner, turn, new), True

    async def _known(self, owner: Owner, turn: Turn, new: NewTurn) -> Turn:
        """Return a turn that was there, once it is queued again if it is to be."""
        for _ in range(TRIES):
            is_to_stop = turn.state is TurnState.FAILED and turn.is_cancel_requested
            if is_to_queue(turn, new.fingerprint):
                self._tracer.accepted(turn.id)
                await self._queue.requeue(owner, turn, new)
                self._bells.ring_ended(owner, turn.conversation_id)  # it may have been abandoned
                self._on_accepted()
            elif is_to_stop and turn.is_newest:
                await self._ending.end_cancelled(owner, turn)
            else:
                break
            current = await self._store.turn(owner, turn.conversation_id, turn.id)
            if current is None:
                raise ConversationNotFound(turn.conversation_id)
            turn = current
        return turn

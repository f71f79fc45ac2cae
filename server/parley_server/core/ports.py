"""What the core asks of the world: a store, agents, and a check of tokens."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from parley_server.core.errors import ParleyError
from parley_server.core.model import (
    AgentEvent,
    AgentRun,
    Answer,
    Context,
    ConversationState,
    Failing,
    FailureReason,
    HistoryPage,
    HistoryQuery,
    Lease,
    NewTurn,
    Owner,
    Principal,
    Step,
    StoredEvent,
    Turn,
    Usage,
    WindowMessage,
)

MIB = 1024 * 1024
Ids = Callable[[], UUID]
"""Makes ids that rise with time (UUIDv7)."""


class Store(Protocol):
    """Where conversations are kept.

    Every method is one statement (a `claim` that is refused: up to three), filters by
    the owner, and holds no connection when it returns. Any of them raises StoreUnavailable when the
    database did not carry it out, and StoreOutcomeUnknown when it may have.

    Its methods are not cancelled: a call that loses its caller lets them end (decision 0004).
    """

    async def claim(self, owner: Owner, new: NewTurn) -> Lease | Turn:
        """Open a turn: store its message and take the lease; or return who has its request id.

        Returns: the lease; or the stored turn whose request id equals `new.request_id`.
        Raises:
            ConversationNotFound: there is none, and `new` does not allow one to be made; or it, or
                the one in which the request id was used, is deleted.
            SequenceMismatch: `new.expected_sequence` is not the conversation's last sequence.
            TurnInProgress: another turn holds a valid lease.
            TurnLimitReached: the owner has opened as many turns within a minute as it may.
            BudgetExhausted: the owner's turns have used as many tokens today as they may.
        Guarantees: all or nothing. A turn whose lease has passed becomes FAILED, TURN_ABANDONED.
        """
        ...

    async def reclaim(self, owner: Owner, turn: Turn) -> Lease | None:
        """Take the lease for a new attempt of a failed or abandoned turn, with the next fence.

        The events of earlier attempts go.

        Returns: the lease; None when the turn runs, was answered, is not the newest any more, is to
            be stopped, or has no attempt left.
        """
        ...

    async def take_over(self, owner: Owner, turn: Turn) -> Lease | None:
        """Take the lease of an abandoned turn in order to end it as cancelled; its events stay.

        The same for a failed one that was to be stopped.

        Returns: the lease, of the same attempt and the next fence; None: it is neither.
        Guarantees: from here on the turn is to be stopped: no new attempt is made.
        """
        ...

    async def append(self, owner: Owner, lease: Lease, events: list[StoredEvent]) -> bool:
        """Store events of the attempt under way. False: the lease was lost.

        Guarantees: an event that is there already stays as it is.
        """
        ...

    async def store_step(self, owner: Owner, lease: Lease, step: Step) -> bool:
        """Store a step of the attempt under way. False: the lease was lost.

        Guarantees: a number that is there already stays as it is. The attempt does not count among
            those in a row that may fail. What is stored is seen by `steps` of every later lease.
        """
        ...

    async def steps(self, owner: Owner, turn_id: UUID) -> list[Step]:
        """Read the steps of all attempts of a turn, in order."""
        ...

    async def forget_events(self, owner: Owner, lease: Lease) -> None:
        """Remove events and steps of the turn before the lease's own, which was never answered."""
        ...

    async def request_cancel(self, owner: Owner, turn: Turn) -> None:
        """Note that a running turn is to be stopped. A turn that has ended stays as it is."""
        ...

    async def cancel_queued(self, owner: Owner, turn: Turn) -> None:
        """End a turn that has not begun as CANCELLED, without a message and without an answer.

        Guarantees: a turn that has begun, or has ended, stays as it is.
        """
        ...

    async def events(
        self,
        owner: Owner,
        turn_id: UUID,
        attempt: int,
        after_index: int,
        *,
        limit: int = 1000,
        max_bytes: int = MIB,
    ) -> list[StoredEvent]:
        """Read stored events of an attempt behind an index, in order.

        Returns: at most `limit`; none behind the one with which they come to `max_bytes`.
        """
        ...

    async def turns_since(
        self, owner: Owner, conversation_id: UUID, user_sequence: int, *, limit: int
    ) -> list[Turn]:
        """Read the newest turn that began by this sequence, and those behind it, `limit` at most.

        Returns: in order. Whatever changes after the sequence, in any of them.
        Their answers come without text and tool calls: those are in the messages.
        """
        ...

    async def find(
        self, owner: Owner, request_id: str, *, may_be_behind: bool = False
    ) -> Turn | None:
        """Return the turn of this request id, read together with its conversation.

        Args:
            may_be_behind: whether a standby may answer while there is nothing else: for callers
                who look, not for what is decided on.
        """
        ...

    async def turn(
        self, owner: Owner, conversation_id: UUID, turn_id: UUID, *, may_be_behind: bool = False
    ) -> Turn | None:
        """Return a turn by its id, as `find` does by its request id."""
        ...

    async def standing(self, owner: Owner, conversation_id: UUID) -> ConversationState | None:
        """Return how a conversation stands; None: there is no such conversation."""
        ...

    async def window(
        self, owner: Owner, lease: Lease, *, max_messages: int, max_bytes: int
    ) -> list[WindowMessage]:
        """Read the newest messages before the open turn's own that belong to a turn with an answer.

        Args:
            max_messages: how many at most, 0 or more.
            max_bytes: how many bytes of text and tool calls they may hold together.
        Returns: newest first; a turn may be cut at the far end.
        Guarantees: reads no more than it returns, and looks at no more than ten times max_messages.
        """
        ...

    async def renew(self, owner: Owner, lease: Lease) -> bool | None:
        """Move the lease's end away from now.

        Returns: whether the turn is to be stopped; None: the lease was lost, or the conversation
            is gone.
        """
        ...

    async def finish(
        self,
        owner: Owner,
        lease: Lease,
        answer: Answer,
        context: Context,
        *,
        has_more: bool,
        spent: Usage | None,
    ) -> int | None:
        """Store the answer, close the turn, drop the lease, count the attempt.

        Args:
            has_more: whether events or steps were stored for it, which go.
            spent: what the attempt has used, as far as it is known.

        Returns: the answer's sequence; None: the lease was lost, and nothing was written.
        Guarantees: decided by the fence alone: an overrun lease counts until another attempt takes
            it.
        """
        ...

    async def fail(
        self,
        owner: Owner,
        lease: Lease,
        reason: FailureReason,
        text: str,
        *,
        spent: Usage | None,
    ) -> Failing:
        """Close the turn as FAILED and drop the lease, unless it is to be stopped or not ours.

        Args:
            spent: what the attempt has used, as far as it is known, to be counted with it.
        """
        ...

    async def history(self, owner: Owner, query: HistoryQuery) -> HistoryPage:
        """Read messages.

        Raises: ConversationNotFound.
        Guarantees: at most `limit` messages, fewer where they exceed `max_bytes`, at least one if
            any is left.
        """
        ...


class Signals(Protocol):
    """How workers tell each other that something has changed, without saying what.

    Signals may be lost, merged and repeated: a worker that hears one looks for itself.
    """

    @property
    def are_live(self) -> bool:
        """Whether this worker hears the others at the moment. If not, it has to look by itself."""
        ...

    def send(self, topic: UUID) -> None:
        """Tell the other workers, soon. Does not wait, and does not fail."""
        ...


class Agent(Protocol):
    """The agent that produces a turn's answer."""

    @property
    def model(self) -> str:
        """The model it asks, as far as it is known before it answers."""
        ...

    @property
    def context_tokens(self) -> int | None:
        """How many tokens its model can read and write at once. None: unknown."""
        ...

    def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Answer one turn, piece by piece; the last event is a Finish, or Awaiting.

        Raises: AgentRefused, AgentUnavailable, AgentTimeout. Anything else that it raises counts as
            AgentUnavailable.
        Guarantees: closing the generator, or cancelling the task that iterates it, stops the run.
        """
        ...


@runtime_checkable
class SteppingAgent(Agent, Protocol):
    """An agent that goes on from steps."""

    def retold(self, steps: Sequence[Step]) -> Sequence[AgentEvent]:
        """Return what steps say: each text, and each call of a tool that has a result, in order.

        Returns: empty as well: they cannot be read any more.
        """
        ...


class TokenVerifier(Protocol):
    """Checks tokens."""

    async def open(self) -> None:
        """Begin to look for keys, if they have to be fetched."""
        ...

    async def close(self) -> None:
        """Stop looking."""
        ...

    @property
    def has_keys(self) -> bool:
        """Whether it can check any token now."""
        ...

    @property
    def keys_age_s(self) -> float | None:
        """How long ago its keys were fetched, in seconds. None: they do not age, or never were."""
        ...

    async def verify(self, token: str) -> Principal:
        """Return whose token this is.

        Raises:
            Unauthenticated: whatever is wrong with it.
            KeysUnavailable: there is no key to check it with.
        Guarantees: waits for nothing but new keys, and then no longer than a fetch of them may
            take. Cancelling it stops nothing that others wait for.
        """
        ...


class Meter(Protocol):
    """Counts what becomes of turns. Its methods do not wait, and do not fail.

    `agent` is the name that the turn was asked for with; empty: the default one.
    """

    def agent_ran(self, agent: str, seconds: float, usage: Usage | None) -> None:
        """Count a run of an agent, which ended by itself or was stopped, and what it has used."""
        ...

    def answered(self, agent: str, answer: Answer) -> None:
        """Count a turn whose answer was stored."""
        ...

    def failed(self, agent: str, error: ParleyError) -> None:
        """Count an attempt that ended without an answer, and why."""
        ...

    def waited(self, agent: str) -> None:
        """Count a turn that has begun to wait for its caller."""
        ...

    def wait_ended(self, how: str) -> None:
        """Count a wait that has ended: RESUMED, or a WaitEnd."""
        ...

    def replayed(self, agent: str) -> None:
        """Count an answer that was given again."""
        ...

    def taken_over(self) -> None:
        """Count a lease that had passed and was taken from its worker."""
        ...

    def removed(self, cause: str, messages: int) -> None:
        """Count messages that were removed for good: by a "deletion" or an "erasure"."""
        ...

    def expired(self, conversations: int) -> None:
        """Count conversations that were deleted because they had become too old."""
        ...


class NoMeter:
    """Counts nothing."""

    def agent_ran(self, agent: str, seconds: float, usage: Usage | None) -> None:
        """Count nothing."""

    def answered(self, agent: str, answer: Answer) -> None:
        """Count nothing."""

    def failed(self, agent: str, error: ParleyError) -> None:
        """Count nothing."""

    def waited(self, agent: str) -> None:
        """Count nothing."""

    def wait_ended(self, how: str) -> None:
        """Count nothing."""

    def replayed(self, agent: str) -> None:
        """Count nothing."""

    def taken_over(self) -> None:
        """Count nothing."""

    def removed(self, cause: str, messages: int) -> None:
        """Count nothing."""

    def expired(self, conversations: int) -> None:
        """Count nothing."""


NO_METER = NoMeter()

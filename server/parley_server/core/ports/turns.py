"""Where turns and messages are kept."""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from parley_server.core.model import (
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
        may_be_behind: bool = False,
    ) -> list[StoredEvent]:
        """Read stored events of an attempt behind an index, in order.

        Args:
            may_be_behind: as of `find`.
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

    async def standing(
        self, owner: Owner, conversation_id: UUID, *, may_be_behind: bool = False
    ) -> ConversationState | None:
        """Return how a conversation stands; None: there is no such conversation.

        Args:
            may_be_behind: as of `find`.
        """
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
        instructions_digest: bytes,
        has_more: bool,
        spent: Usage | None,
    ) -> int | None:
        """Store the answer, close the turn, drop the lease, count the attempt.

        Args:
            instructions_digest: the SHA-256 of what the agent was told beside the messages.
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

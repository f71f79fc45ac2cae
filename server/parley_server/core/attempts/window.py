"""What the agent is shown of a conversation."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from parley_server.core.errors import StoreUnavailable
from parley_server.core.model import (
    Context,
    FinishReason,
    Lease,
    OmissionReason,
    Omitted,
    Owner,
    Role,
    Window,
    WindowMessage,
)
from parley_server.core.ports import Store
from parley_server.core.tasks import Tasks

BYTES_A_TOKEN = 4
"""How many bytes of text are counted as a token where no tokenizer is at hand."""
ANSWER_TOKENS = 1024
"""How much of the model's context is kept free for its answer."""
CUT = "\n[…]\n"
"""Stands where a message was shortened."""
_LEAST_END = 16
"""How many bytes of each end of a message are shown, however little room there is."""
LOOKBACK_FACTOR = 10
"""How many times the window's messages are looked at, at most, to find answered ones."""
NO_TEXT = "(no text)"
"""Stands for an answer without words: providers refuse blank ones."""

_WITHDRAWN = frozenset({FinishReason.CANCELLED, FinishReason.CONTENT_FILTER})
"""How a turn ends whose message, if it got no answer at all, is not to be told again."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How much agents are shown."""

    context_messages: int
    context_tokens: int
    instructions: str = ""

    def told(self, in_conversation: str) -> str:
        """Return the agent's instructions: the server's, then those of its conversation."""
        return joined(self.instructions, in_conversation)

    def room(self, in_conversation: str) -> int:
        """Return how many bytes of messages a window may hold beside the instructions."""
        return budget_bytes(self.context_tokens, self.told(in_conversation))

    def digest(self, in_conversation: str) -> bytes:
        """Return the SHA-256 of what `told` returns."""
        return hashlib.sha256(self.told(in_conversation).encode()).digest()


def joined(*instructions: str) -> str:
    """Return instructions as one text, each part a paragraph; those that are empty leave no gap."""
    return "\n\n".join(part for part in instructions if part)


def budget_bytes(context_tokens: int, instructions: str) -> int:
    """Return how many bytes of messages a window may hold beside the instructions."""
    return max(0, context_tokens * BYTES_A_TOKEN - len(instructions.encode()))


def window_of(
    newest_first: Sequence[WindowMessage], sequence: int, message: str, max_bytes: int
) -> Window:
    """Put together what the agent is shown.

    Args:
        newest_first: the earlier messages that fit, as the store returned them.
        sequence, message: the open turn's own message.
        max_bytes: what the window may hold; the open turn's message is shortened to it if need be.
    Returns: earlier messages, oldest first, then the open turn's message.
    Guarantees: no message is blank but for a user's own, and the first one is no answer without
        the message that it answers. No message of a turn is without its answer but for the last
        one. Messages that were appended without a turn are there in any case.
    """
    earlier = [found for found, why in _told_apart(newest_first[::-1]) if why is None]
    while earlier and earlier[0].role is Role.ASSISTANT and earlier[0].has_turn:
        earlier.pop(0)
    own = WindowMessage(sequence, Role.USER, shortened(message, max_bytes))
    context = Context(
        first_sequence=earlier[0].sequence if earlier else sequence,
        message_count=len(earlier) + 1,
        omitted_count=sequence - len(earlier) - 1,
    )
    return Window([*earlier, own], context)


def omitted_of(
    newest_first: Sequence[WindowMessage], first_sequence: int, sequence: int, looked_from: int
) -> list[Omitted]:
    """Say which messages before a turn's own it was not shown, and why.

    Args:
        newest_first: those before it, as the store returned them: without unanswered ones.
        first_sequence: of the first one that it was shown.
        sequence: the turn's own.
        looked_from: from where on the store has looked at all. Older ones are older, whatever they
            are.
    Returns: in order, neighbours of the same reason together.
    """
    reasons = {found.sequence: why for found, why in _told_apart(newest_first[::-1])}
    omitted: list[Omitted] = []
    too_old = [s for s, why in reasons.items() if why is None and s < first_sequence]
    oldest = max(looked_from, max(too_old, default=0) + 1)
    if oldest > 1:
        omitted.append(Omitted(1, oldest - 1, OmissionReason.OLDER))
    for number in range(oldest, sequence):
        why = reasons.get(number, OmissionReason.UNANSWERED)
        if why is None:
            continue
        last = omitted[-1] if omitted else None
        if last is not None and last.reason is why and last.last_sequence == number - 1:
            omitted[-1] = last._replace(last_sequence=number)
        else:
            omitted.append(Omitted(number, number, why))
    return omitted


def presentable(newest_first: Sequence[WindowMessage], first_sequence: int) -> list[WindowMessage]:
    """Return earlier messages as they are shown, from a sequence on, oldest first."""
    told_apart = _told_apart(newest_first[::-1])
    return [m for m, why in told_apart if why is None and m.sequence >= first_sequence]


def _told_apart(
    messages: Iterable[WindowMessage],
) -> list[tuple[WindowMessage, OmissionReason | None]]:
    """Return each message as it is shown, or why it is not, in order. Each turn pays for it.

    Messages of turns without an answer, or withdrawn, are left out. Blank answers get words.
    """
    told: list[tuple[WindowMessage, OmissionReason | None]] = []
    asked: WindowMessage | None = None
    """A user's message of a turn, until it is known whether it was answered."""
    for message in messages:
        if message.role is Role.USER and message.has_turn:
            if asked is not None:
                told.append((asked, OmissionReason.UNANSWERED))
            asked = message
            continue
        why: OmissionReason | None = None
        is_answer = message.role is Role.ASSISTANT
        shown = message
        if is_answer and (not message.content or message.content.isspace()):
            if message.finish_reason in _WITHDRAWN and not message.tool_calls:
                why = OmissionReason.WITHDRAWN  # stopped, or filtered, before anything was said
            else:
                shown = message._replace(content=NO_TEXT)
        if asked is not None:
            told.append((asked, why if is_answer else OmissionReason.UNANSWERED))
            asked = None
        told.append((shown, why))
    if asked is not None:
        told.append((asked, OmissionReason.UNANSWERED))
    return told


def shortened(text: str, max_bytes: int) -> str:
    """Return the text, with its middle left out if it is longer than max_bytes of UTF-8.

    Guarantees: never empty, whatever the limit; never longer than the text; never splits a
        character.
    """
    data, cut = text.encode(), len(CUT.encode())
    if len(data) <= max(max_bytes, 2 * _LEAST_END + cut):
        return text
    half = max(_LEAST_END, (max_bytes - cut) // 2)
    head = data[:half].decode(errors="ignore")
    tail = data[-half:].decode(errors="ignore")
    return head + CUT + tail


class Windows:
    """Reads what agents are shown."""

    def __init__(self, store: Store, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks

    async def read(
        self, owner: Owner, lease: Lease, message: str, settings: WindowSettings
    ) -> Window:
        """Read the window of a turn that has been opened.

        Args:
            message: the turn's own.
            settings: of the agent that is shown it.
        Raises: StoreUnavailable.
        """
        newest_first, window = await _read(self._store, owner, lease, message, settings)
        before = newest_first[0].sequence if newest_first else 0
        if lease.user_sequence > 1 and before != lease.user_sequence - 1:
            # The message before has no answer, and its turn cannot be run again any more.
            self._tasks.start(self._forget_events(owner, lease))
        return window

    async def _forget_events(self, owner: Owner, lease: Lease) -> None:
        with suppress(StoreUnavailable):  # they are never read
            await self._store.forget_events(owner, lease)


async def window_as_of(
    store: Store, owner: Owner, lease: Lease, message: str, settings: WindowSettings
) -> Window:
    """Read the window of any turn that has begun, whatever has come after it.

    Args:
        lease: says which turn. It is of no other meaning here.
        message, settings: as of `Windows.read`.
    Raises: StoreUnavailable.
    Guarantees: nothing is written.
    """
    return (await _read(store, owner, lease, message, settings))[1]


async def _read(
    store: Store, owner: Owner, lease: Lease, message: str, settings: WindowSettings
) -> tuple[list[WindowMessage], Window]:
    """Return the earlier messages as the store returned them, and the window of them."""
    room = settings.room(lease.instructions)
    newest_first: list[WindowMessage] = []
    if lease.user_sequence > 1:
        newest_first = await store.window(
            owner,
            lease,
            max_messages=settings.context_messages - 1,
            max_bytes=max(0, room - len(message.encode())),
        )
    return newest_first, window_of(newest_first, lease.user_sequence, message, room)

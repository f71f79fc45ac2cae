"""What the agent is shown of a conversation."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from parley_server.core.errors import StoreUnavailable
from parley_server.core.model import (
    Context,
    FinishReason,
    Lease,
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
    earlier = list(_presentable(newest_first[::-1]))
    while earlier and earlier[0].role is Role.ASSISTANT and earlier[0].has_turn:
        earlier.pop(0)
    own = WindowMessage(sequence, Role.USER, shortened(message, max_bytes))
    context = Context(
        first_sequence=earlier[0].sequence if earlier else sequence,
        message_count=len(earlier) + 1,
        omitted_count=sequence - len(earlier) - 1,
    )
    return Window([*earlier, own], context)


def _presentable(messages: Sequence[WindowMessage]) -> Iterator[WindowMessage]:
    """Leave out messages of turns without an answer, or withdrawn; give blank answers words."""
    asked: WindowMessage | None = None
    """A user's message of a turn, until it is known whether it was answered."""
    for message in messages:
        if message.role is Role.USER and message.has_turn:
            asked = message
            continue
        if message.role is Role.ASSISTANT:
            if _is_withdrawn(message):
                asked = None
                continue
            if asked is not None:
                yield asked
            yield message if message.content.strip() else message._replace(content=NO_TEXT)
        else:
            yield message
        asked = None


def _is_withdrawn(answer: WindowMessage) -> bool:
    """Whether the turn was stopped or filtered before anything was said or done."""
    return (
        answer.finish_reason in _WITHDRAWN and not answer.tool_calls and not answer.content.strip()
    )


def shortened(text: str, max_bytes: int) -> str:
    """Return the text, with its middle left out if it is longer than max_bytes of UTF-8.

    Guarantees: never empty, whatever the limit; never splits a character.
    """
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    half = max(16, (max_bytes - len(CUT.encode())) // 2)
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
        max_bytes = budget_bytes(settings.context_tokens, settings.told(lease.instructions))
        newest_first: list[WindowMessage] = []
        if lease.user_sequence > 1:
            newest_first = await self._store.window(
                owner,
                lease,
                max_messages=settings.context_messages - 1,
                max_bytes=max(0, max_bytes - len(message.encode())),
            )
            before = newest_first[0].sequence if newest_first else 0
            if before != lease.user_sequence - 1:
                # The message before has no answer, and its turn cannot be run again any more.
                self._tasks.start(self._forget_events(owner, lease))
        return window_of(newest_first, lease.user_sequence, message, max_bytes)

    async def _forget_events(self, owner: Owner, lease: Lease) -> None:
        with suppress(StoreUnavailable):  # they are never read
            await self._store.forget_events(owner, lease)

"""How far a watch has come, and what of a page comes next."""

from collections.abc import Iterator

from parley_server.core.model import Message, Turn, TurnState
from parley_server.core.streams.pages import Page


class Cursor:
    """A place in a conversation's messages and turns, which only moves forward.

    Pages may be of any size and cut anywhere: the next page is read from where the cursor stands.
    """

    def __init__(self, after_sequence: int) -> None:
        self.sequence = after_sequence
        """The last message delivered."""
        self.turns_from = after_sequence
        """Where the last turn told began. Only a conversation's newest turn changes: no turn before
        the newest at this place has news any more."""
        self.turn: Turn | None = None
        """The last turn told, as it was told."""
        self.is_behind = False
        """Whether more was there when the last page was read than has been delivered."""
        self._after_sequence = after_sequence
        self._seen_sequence = 0
        """How long the conversation was when the last page was read."""

    @property
    def open_turn(self) -> Turn | None:
        """The last turn told, if it was running."""
        is_open = self.turn is not None and self.turn.state is TurnState.RUNNING
        return self.turn if is_open else None

    def take(self, page: Page) -> Iterator[Message | Turn]:
        """Yield what comes next: messages in order, each turn's state behind its last message.

        A message whose turn the page does not know is left for the next page: a turn that began
        after the page's turns were read may have ended since.
        """
        self.is_behind = True
        before, self._seen_sequence = self._seen_sequence, page.last_sequence
        for turn in page.turns:
            end = turn.response_sequence or turn.user_sequence
            if end < self._after_sequence:
                continue
            yield from self._messages(page, end)
            if self.sequence < end:
                return
            if self._is_news(turn):
                self.turns_from, self.turn = turn.user_sequence, turn
                yield turn
        if page.has_more_turns or page.is_dropped:
            return
        # What was there before the turns were read, and is of no turn by now, is of none.
        yield from self._messages(page, before)
        self.is_behind = self.sequence < page.last_sequence or page.is_dropped

    def _messages(self, page: Page, end: int) -> Iterator[Message]:
        while self.sequence < end and (message := page.next_message(self.sequence)) is not None:
            if message.sequence > end:
                return
            self.sequence = message.sequence
            yield message

    def _is_news(self, turn: Turn) -> bool:
        told = self.turn
        return told is None or (told.id, told.state, told.attempt) != (
            turn.id,
            turn.state,
            turn.attempt,
        )

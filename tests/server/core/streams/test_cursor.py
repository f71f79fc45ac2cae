"""A watch's cursor against a conversation that goes on between any two reads."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.core.model import HistoryPage, Message, Role, Turn, TurnState
from parley_server.core.streams.cursor import Cursor
from parley_server.core.streams.pages import Page
from support.values import NOW, a_turn

STATES = {"complete": TurnState.COMPLETED, "cancel": TurnState.CANCELLED, "fail": TurnState.FAILED}


class Talk:
    """A conversation as it is stored: at most one open turn, the newest."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.messages: list[Message] = []

    def do(self, what: str) -> None:
        """Let something happen, if it can happen now."""
        newest = self.turns[-1] if self.turns else None
        is_open = newest is not None and newest.state is TurnState.RUNNING
        if what == "begin" and not is_open:
            self._say(Role.USER, len(self.turns))
            number = len(self.turns)
            self.turns.append(a_turn(id=UUID(int=number), user_sequence=len(self.messages)))
        elif what == "retry" and newest is not None and newest.state is TurnState.FAILED:
            if newest.user_sequence == len(self.messages):  # none was appended since
                self._change(state=TurnState.RUNNING, attempt=newest.attempt + 1)
        elif what == "append" and not is_open:
            self._say(Role.SYSTEM, 10**6)
        elif what in STATES and is_open:
            if what != "fail":
                self._say(Role.ASSISTANT, len(self.turns) - 1)
                self._change(response_sequence=len(self.messages))
            self._change(state=STATES[what])

    def _say(self, role: Role, turn: int) -> None:
        sequence = len(self.messages) + 1
        self.messages.append(Message(sequence, role, "", (), UUID(int=turn), NOW, None, "", None))

    def _change(self, **changes: object) -> None:
        self.turns[-1] = replace(self.turns[-1], **changes)  # type: ignore[arg-type]

    def all_behind(self, after_sequence: int) -> list[Message | Turn]:
        """Return what a watch has to tell: each turn's last state behind its last message."""
        told: list[tuple[int, int, Message | Turn]] = [
            (message.sequence, 0, message)
            for message in self.messages
            if message.sequence > after_sequence
        ]
        for turn in self.turns:
            end = turn.response_sequence or turn.user_sequence
            if end >= after_sequence:
                told.append((end, 1, turn))
        return [one for _, _, one in sorted(told, key=lambda each: each[:2])]

    def page(
        self, cursor: Cursor, max_turns: int, max_messages: int, between: Callable[[], None]
    ) -> Page:
        """Read turns, then messages; things may happen in between."""
        begun = [t.user_sequence for t in self.turns if t.user_sequence <= cursor.turns_from]
        turns = [t for t in self.turns if t.user_sequence >= max(begun, default=0)]
        between()
        messages = [m for m in self.messages if m.sequence > cursor.sequence][:max_messages]
        history = HistoryPage(messages, has_more=False, last_sequence=len(self.messages))
        return Page(turns[:max_turns], history, has_more_turns=len(turns) > max_turns)


def last_states(told: list[Message | Turn]) -> list[Message | Turn]:
    """Return what was told without the states that another one of the same turn follows."""
    left = Counter(one.id for one in told if isinstance(one, Turn))
    kept: list[Message | Turn] = []
    for one in told:
        if isinstance(one, Turn):
            left[one.id] -= 1
            if left[one.id]:
                continue
        kept.append(one)
    return kept


def sequences(told: list[Message | Turn]) -> list[int]:
    return [one.sequence for one in told if isinstance(one, Message)]


one_thing = st.sampled_from(["begin", "fail", "complete", "cancel", "retry", "append"]).map(
    lambda what: [what]
)
failures = st.integers(1, 12).map(lambda count: ["begin", "fail"] * count)
happenings = st.lists(one_thing | failures, max_size=20).map(
    lambda parts: [what for part in parts for what in part]
)


@settings(deadline=None)
@given(
    before=happenings,
    then=happenings,
    steps=st.lists(st.integers(0, 4), max_size=40),
    after_sequence=st.integers(0, 12),
    max_turns=st.integers(3, 5),
    max_messages=st.integers(1, 5),
    drops=st.sets(st.integers(0, 60)),
)
def test_cursor_tells_what_is_stored_wherever_pages_are_cut(
    before: list[str],
    then: list[str],
    steps: list[int],
    after_sequence: int,
    max_turns: int,
    max_messages: int,
    drops: set[int],
) -> None:
    """Fails when a message is told whose turn the page does not know, or when the turns of a full
    page count as all there are.
    """
    talk = Talk()
    for what in before:
        talk.do(what)
    after_sequence = min(after_sequence, len(talk.messages))
    cursor = Cursor(after_sequence)
    told: list[Message | Turn] = []
    rest, pace = list(then), list(steps)

    def go_on() -> None:
        for _ in range(pace.pop() if pace else len(rest)):
            if rest:
                talk.do(rest.pop(0))

    for _ in range(10 * (len(before) + len(then)) + 20):
        page = talk.page(cursor, max_turns, max_messages, go_on)
        stored = talk.all_behind(after_sequence)
        for update in cursor.take(page):
            told.append(update)
            if len(told) in drops:
                page.drop()
        if not cursor.is_behind:
            assert sequences(stored) == sequences(told)
            if not rest:
                break
        go_on()
    # Nothing happens any more, and the watch looks once more, as it does when the bell rings.
    while True:
        told += cursor.take(talk.page(cursor, max_turns, max_messages, lambda: None))
        if not cursor.is_behind:
            break

    assert talk.all_behind(after_sequence) == last_states(told)

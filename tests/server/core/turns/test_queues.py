"""Who is first in a conversation's queue, and that nobody's leaving stops it."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.core.turns.queues import Queues
from support.values import settled

TOPIC, OTHER = UUID(int=1), UUID(int=2)


class Line:
    """Calls in the queue of one conversation; each stays first until it is told to leave."""

    def __init__(self, queues: Queues) -> None:
        self.queues = queues
        self.first: list[int] = []
        """Those that hold the first place, which has to be one at most."""
        self.came: list[int] = []
        """Those that were first, in order."""
        self.refused: list[int] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._gone: dict[int, asyncio.Future[None]] = {}
        self._leaves: dict[int, asyncio.Event] = {}

    async def join(self, number: int, topic: UUID = TOPIC) -> None:
        self._gone[number] = asyncio.get_running_loop().create_future()
        self._leaves[number] = asyncio.Event()
        self.tasks[number] = asyncio.create_task(self._wait(number, topic))
        await settled()

    async def leave(self, number: int) -> None:
        """Let a call have its turn, once it is first."""
        self._leaves[number].set()
        await settled()

    async def lose(self, number: int) -> None:
        """Let the caller go."""
        if not self._gone[number].done():
            self._gone[number].set_result(None)
        await settled()

    async def cancel(self, number: int) -> None:
        self.tasks[number].cancel()
        await settled()

    async def _wait(self, number: int, topic: UUID) -> None:
        async with self.queues.first(topic, self._gone[number]) as is_first:
            if not is_first:
                self.refused.append(number)
                return
            self.first.append(number)
            self.came.append(number)
            try:
                await self._leaves[number].wait()
            finally:
                self.first.remove(number)


@pytest.fixture
async def line() -> Line:
    return Line(Queues())


async def test_calls_are_first_in_the_order_in_which_they_came(line: Line) -> None:
    """Fails when a queue is a stack, or when all of it is let try at once."""
    for number in range(3):
        await line.join(number)
    assert ([0], 3) == (line.first, line.queues.waiting)
    for number in range(3):
        assert [number] == line.first
        await line.leave(number)

    assert ([0, 1, 2], 0) == (line.came, line.queues.waiting)
    assert line.queues.is_empty(TOPIC)


async def test_conversations_do_not_wait_for_each_other(line: Line) -> None:
    await line.join(0)
    assert (False, True) == (line.queues.is_empty(TOPIC), line.queues.is_empty(OTHER))
    await line.join(1, OTHER)

    assert [0, 1] == line.first


Go = Callable[[Line, int], Awaitable[None]]


@pytest.mark.parametrize("goes", [Line.lose, Line.cancel])
async def test_call_that_goes_from_the_middle_leaves_no_gap(line: Line, goes: Go) -> None:
    """Fails when it keeps its place: the calls behind it would wait for it for ever."""
    for number in range(3):
        await line.join(number)
    await goes(line, 1)
    assert ([0], 2) == (line.first, line.queues.waiting)
    await line.leave(0)

    assert [2] == line.first
    assert 1 not in line.came


async def test_call_that_is_cancelled_while_it_is_first_hands_the_place_on(line: Line) -> None:
    for number in range(2):
        await line.join(number)
    await line.cancel(0)

    assert [1] == line.first


async def test_call_that_is_cancelled_as_it_becomes_first_hands_the_place_on(line: Line) -> None:
    """Fails when the place is lost that it was given in the moment of the cancellation."""
    for number in range(3):
        await line.join(number)
    line.tasks[0].cancel()
    await asyncio.sleep(0)  # the place is given, and the next call has not noticed yet
    await line.cancel(1)

    assert [2] == line.first


async def test_caller_that_is_gone_before_its_turn_is_told_so(line: Line) -> None:
    await line.join(0)
    await line.join(1)
    await line.lose(1)

    assert ([1], [0]) == (line.refused, line.first)


moves = st.lists(st.tuples(st.sampled_from(["join", "leave", "lose", "cancel"]), st.integers(0, 9)))


@settings(deadline=None)
@given(moves)
def test_one_is_first_while_any_waits_and_none_overtakes(moves: list[tuple[str, int]]) -> None:
    """Whatever comes and goes, in whatever order."""

    async def play() -> None:
        line = Line(Queues())
        waiting: list[int] = []
        for move, index in moves:
            if move == "join":
                waiting.append(len(line.tasks))
                await line.join(waiting[-1])
            elif waiting:
                number = waiting[0] if move == "leave" else waiting[index % len(waiting)]
                await getattr(line, move)(number)
                if not (move == "lose" and number == waiting[0]):  # it is asked by nobody then
                    waiting.remove(number)
            assert (waiting[:1], len(waiting)) == (line.first, line.queues.waiting)
        for number in waiting:
            assert [number] == line.first
            await line.leave(number)
        assert sorted(line.came) == line.came
        assert 0 == line.queues.waiting

    asyncio.run(play())

"""Bells: who is woken, who is told, and when a call that was told nothing looks by itself."""

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.bells import LOOK_S, LOOK_WITH_SIGNALS_S, Bells, topic_of
from parley_server.core.model import Owner
from support.values import NotedSignals

TOPIC, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def signals() -> NotedSignals:
    return NotedSignals()


@pytest.fixture
def bells(signals: NotedSignals) -> Bells:
    return Bells(signals)


async def test_bell_wakes_all_that_listen_before_it_rings(bells: Bells) -> None:
    """Fails when one listener takes the bell from the others."""
    with bells.listen(TOPIC) as first, bells.listen(TOPIC) as second, bells.listen(OTHER) as other:
        assert (2, 3) == (bells.listeners(TOPIC), bells.listeners())
        bells.ring(TOPIC)

        assert (True, True, False) == (first.done(), second.done(), other.done())


async def test_bell_that_rang_before_is_not_heard(bells: Bells) -> None:
    """It is why a call listens first, and looks then."""
    bells.ring(TOPIC)
    with bells.listen(TOPIC) as bell:
        assert not bell.done()


async def test_bell_may_ring_more_often_than_it_is_listened_to(bells: Bells) -> None:
    with bells.listen(TOPIC) as bell:
        bells.ring(TOPIC)
        bells.ring(TOPIC)
        assert bell.done()


async def test_listener_whose_wait_was_cancelled_holds_up_no_other(bells: Bells) -> None:
    """Fails when a cancelled bell is rung: the listeners behind it are not woken."""
    with bells.listen(TOPIC) as gone, bells.listen(TOPIC) as stays:
        gone.cancel()
        bells.ring(TOPIC)
        assert stays.done()


async def test_listener_that_leaves_after_the_bell_takes_no_later_one_with_it(bells: Bells) -> None:
    """Fails when leaving forgets whatever listens to the topic by now."""
    with bells.listen(TOPIC):
        bells.ring(TOPIC)
        later = bells.listen(TOPIC)
        bell = later.__enter__()
    bells.ring(TOPIC)

    assert bell.done()
    later.__exit__(None, None, None)


async def test_listeners_that_leave_are_forgotten(bells: Bells) -> None:
    with bells.listen(TOPIC):
        with bells.listen(TOPIC):
            pass
        assert 1 == bells.listeners(TOPIC)
    assert (0, 0) == (bells.listeners(TOPIC), bells.listeners())


async def test_bell_rings_on_the_other_workers_too_and_once(
    bells: Bells, signals: NotedSignals
) -> None:
    """Fails when what was heard is told again: workers would ring each other without end."""
    bells.ring(TOPIC)
    bells.heard(OTHER)

    assert [TOPIC] == signals.sent


async def test_ring_all_wakes_every_call_on_this_worker_only(
    bells: Bells, signals: NotedSignals
) -> None:
    with bells.listen(TOPIC) as one, bells.listen(OTHER) as two:
        bells.ring_all()

        assert (True, True) == (one.done(), two.done())
        assert [] == signals.sent


@given(st.booleans(), st.floats(0, 10**6))
def test_next_look_comes_in_time_and_at_the_same_moment_for_all(are_live: bool, now: float) -> None:
    """Fails when a call counts from its own beginning: no two calls would share a statement."""
    period_s = LOOK_WITH_SIGNALS_S if are_live else LOOK_S

    async def look_s() -> float:
        loop = asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(loop, "time", lambda: now)
            return Bells(NotedSignals(are_live=are_live)).next_look_s()

    found_s = asyncio.run(look_s())

    assert 0 < found_s <= period_s
    looks = (now + found_s) / period_s
    assert round(looks) == pytest.approx(looks)


def test_topic_is_of_one_owner_and_one_conversation() -> None:
    """Fails when owners who have chosen the same id share bells and a queue."""
    ada, bob = Owner.of("", "ada"), Owner.of("", "bob")
    topics = {
        topic_of(owner, conversation) for owner in (ada, bob) for conversation in (TOPIC, OTHER)
    }

    assert 4 == len(topics)
    assert topic_of(ada, TOPIC) == topic_of(Owner.of("", "ada"), UUID(int=1))

"""Who is let through when, and that nobody's leaving loses a place."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.turnstile import Turnstile, subtract
from support.values import settled


async def test_keys_are_let_in_in_turn() -> None:
    """Fails when first come is first served: the last owner would come after all of the first."""
    turnstile = Turnstile(1)
    order = []

    async def passing(key: str) -> None:
        async with turnstile.of(key):
            order.append(key)
            await asyncio.sleep(0)

    await asyncio.gather(*(passing(key) for key in "aaaabbc"))

    assert ["a", "a", "b", "c", "a", "b", "a"] == order


async def test_one_key_has_no_more_than_its_share() -> None:
    turnstile = Turnstile(3, width_of_key=2)
    waiting = [asyncio.create_task(turnstile.enter("a")) for _ in range(4)]
    await settled()

    assert (2, 2) == (turnstile.in_use, turnstile.waiting)
    await asyncio.wait_for(turnstile.enter("b"), 1)
    assert 3 == turnstile.in_use
    for task in waiting:
        task.cancel()


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_one_who_leaves_the_queue_takes_no_place(is_let_in: bool) -> None:
    """Fails when a place is lost that was given in the moment of the cancellation."""
    turnstile = Turnstile(1)
    await turnstile.enter("a")
    waiting = asyncio.create_task(turnstile.enter("b"))
    await settled()
    if is_let_in:
        turnstile.leave("a")
    waiting.cancel()
    await settled()
    if not is_let_in:
        turnstile.leave("a")

    assert (0, 0) == (turnstile.in_use, turnstile.waiting)
    await asyncio.wait_for(turnstile.enter("c"), 1)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_never_more_inside_than_allowed_and_all_come_through(
    width: int, width_of_key: int, seed: int
) -> None:
    randomness = random.Random(seed)

    async def play() -> None:
        turnstile = Turnstile(width, width_of_key=width_of_key)
        inside: list[str] = []

        async def passing(key: str) -> None:
            async with turnstile.of(key):
                inside.append(key)
                assert len(inside) <= width
                assert inside.count(key) <= width_of_key
                for _ in range(randomness.randrange(3)):
                    await asyncio.sleep(0)
                inside.remove(key)

        tasks = [asyncio.create_task(passing(randomness.choice("abc"))) for _ in range(20)]
        for task in tasks:
            await asyncio.sleep(0)
            if randomness.random() < 0.2:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert (0, 0) == (turnstile.in_use, turnstile.waiting)

    asyncio.run(play())


def test_count_of_zero_is_forgotten_and_may_be_taken_from() -> None:
    """Fails when an answer without a byte, added and taken back, leaves a count or is missed."""
    counts: dict[str, int] = {"a": 3}
    subtract(counts, "a", 0)
    subtract(counts, "a", 3)
    subtract(counts, "a", 0)
    subtract(counts, "b", 0)

    assert {} == counts

"""The order in which a part measures what it compares."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def rounds(part: str, kinds: Sequence[T], count: int, say: Callable[[str], None]) -> Iterator[T]:
    """Yield each kind in each round, there and back: a machine that slows down slows all of them.

    Args:
        part: its name, which is said with the number of each round.
    """
    for number in range(count):
        say(f"{part}: round {number + 1} of {count}")
        yield from kinds[:: 1 if number % 2 == 0 else -1]

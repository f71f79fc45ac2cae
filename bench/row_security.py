"""The part `row-security`: what it costs to have Postgres hold each statement to its owner."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import NamedTuple
from uuid import UUID

import psycopg
import uuid_utils.compat
from cpu import clocks, used_s
from processes import Databases
from report import print_table, ratio

from parley_server.core.model import Answer, Context, FinishReason, Lease, NewTurn, Owner
from parley_server.storage.store import PostgresStore

WARM_UP = 200
TURN_STATEMENTS = 3
STANDINGS = 5
"""How many single rows are read for a turn: the kernel counts CPU in steps of 10 ms."""

Work = Callable[[PostgresStore, Owner, UUID], Awaitable[None]]


class Cost(NamedTuple):
    """CPU of one statement."""

    client_us: float
    postgres_us: float


def measure(made: Databases, *, rounds: int, times: int, say: Callable[[str], None]) -> None:
    """Run the same statements with and without, taking turns, and print what they cost."""
    with made.walled() as walled_url:
        asyncio.run(_measure(made, walled_url, rounds, times, say))


def _conversations(made: Databases) -> list[tuple[Owner, UUID]]:
    with psycopg.connect(made.parley_url) as connection:
        rows = connection.execute("SELECT user_id, id FROM conversation ORDER BY id").fetchall()
    return [(Owner.of("", user), conversation_id) for user, conversation_id in rows]


async def _measure(
    made: Databases, walled_url: str, rounds: int, times: int, say: Callable[[str], None]
) -> None:
    conversations = _conversations(made)
    stores = [
        PostgresStore(url, pool_size=2, lease_s=30, is_prepared=True, has_row_security=is_on)
        for url, is_on in ((made.parley_url, False), (walled_url, True))
    ]
    found: dict[tuple[str, int], list[Cost]] = {}
    for store in stores:
        await store.open()
    try:
        for number in range(rounds):
            say(f"row-security: round {number + 1} of {rounds}")
            for name, work, statements, works in (
                ("a conversation's standing, one row", _standing, 1, times * STANDINGS),
                ("claim, window, finish", _turn, TURN_STATEMENTS, times),
            ):
                # There and back, so that a machine that slows down does not slow one of them.
                for which in (0, 1) if number % 2 == 0 else (1, 0):
                    some = [conversations[n % len(conversations)] for n in range(works)]
                    await _timed(made.pid, stores[which], work, some[:WARM_UP])
                    cost = await _timed(made.pid, stores[which], work, some)
                    found.setdefault((name, which), []).append(
                        Cost(*(value / statements for value in cost))
                    )
    finally:
        for store in stores:
            await store.close()
    names = dict.fromkeys(name for name, _ in found)
    print_table(
        "A statement without row security / with it, one at a time",
        ("", "client µs", "Postgres µs", "client µs more", "Postgres µs more", "all, ratio"),
        [_row(name, found[name, 0], found[name, 1]) for name in names],
    )


async def _timed(
    postgres_pid: int, store: PostgresStore, work: Work, conversations: list[tuple[Owner, UUID]]
) -> Cost:
    before, began = clocks(postgres_pid, with_children=True), time.process_time()
    for owner, conversation_id in conversations:
        await work(store, owner, conversation_id)
    client_s = time.process_time() - began
    postgres_s = used_s(before, clocks(postgres_pid, with_children=True))
    return Cost(client_s / len(conversations) * 1e6, postgres_s / len(conversations) * 1e6)


async def _standing(store: PostgresStore, owner: Owner, conversation_id: UUID) -> None:
    await store.standing(owner, conversation_id)


async def _turn(store: PostgresStore, owner: Owner, conversation_id: UUID) -> None:
    new = NewTurn(
        id=uuid_utils.compat.uuid7(),
        conversation_id=conversation_id,
        is_new_conversation=False,
        request_id=str(uuid_utils.compat.uuid7()),
        fingerprint=b"",
        agent="",
        message="x" * 200,
        expected_sequence=None,
        allow_missing=False,
    )
    lease = await store.claim(owner, new)
    if not isinstance(lease, Lease):
        raise SystemExit("a turn could not be claimed")
    await store.window(owner, lease, max_messages=39, max_bytes=1_000_000)
    answer = Answer("x" * 200, (), None, "echo", FinishReason.STOP)
    context = Context(1, 40, 0)
    digest = b"\0" * 32
    await store.finish(
        owner, lease, answer, context, instructions_digest=digest, has_more=False, spent=None
    )


def _row(name: str, without: list[Cost], walled: list[Cost]) -> tuple[object, ...]:
    pairs = list(zip(without, walled, strict=True))
    return (
        name,
        median(cost.client_us for cost in without),
        median(cost.postgres_us for cost in without),
        median(b.client_us - a.client_us for a, b in pairs),
        median(b.postgres_us - a.postgres_us for a, b in pairs),
        median(ratio(sum(b), sum(a)) for a, b in pairs),
    )

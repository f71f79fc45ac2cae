"""Very many started turns, while the workers that run them are killed again and again.

Turns are accepted by one worker or the other, each conversation's one after the other, and nobody
waits for their answers. One consumer reads the feed of all owners meanwhile: it stores the cursor
with each turn that it is told, ends its call at random, and goes on from the cursor on any worker.
"""

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import grpc
import psycopg

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.schema import integrity
from support.databases import as_superuser
from support.processes import ServerProcess
from support.services import a_token, an_id, metadata

WORKERS = 2
OWNERS = 5
CALLERS = 32
LEASE_S = 1.5
SETTINGS: dict[str, Any] = {
    "lease_s": LEASE_S,
    # What a killed worker leaves is run again one turn at a time: bounded by the places.
    "max_open_chats": 64,
    # So that no turn is given up that is unlucky again and again.
    "max_attempts": 50,
}
LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
"""How a call ends whose worker was killed."""
READ_AT_ONCE = 150
"""How many turns the consumer reads of one watch, at most."""
OBSERVER = (("authorization", f"Bearer {a_token('observer', scope='parley.observe', ttl_s=7200)}"),)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    turns: int
    conversations: int
    kill_s: tuple[float, float]
    """How long both workers live between two kills, at least and at most."""
    within_s: float
    agent: str = "echo:0.02"
    without: str = ""
    """A protection that the workers miss; see `support.torture.unprotected`."""


@dataclass
class Outcome:
    """What has happened."""

    kills: int = 0
    taken_over: int = 0
    watches: int = 0
    """How many watches of the feed were begun."""
    accepted_s: float = 0
    took_s: float = 0
    told: list[messages.Turn] = field(default_factory=list, repr=False)


class Workers:
    """Workers that are killed and replaced."""

    def __init__(self, database_url: str, size: Size) -> None:
        self._database_url = database_url
        self._how: dict[str, Any] = {"agent": size.agent}
        if size.without:
            self._how["module"] = "support.torture.unprotected"
            self._how["arguments"] = (size.without, "serve")
        self._workers: list[ServerProcess] = []
        self._killed: list[ServerProcess] = []

    def any(self) -> ServerProcess:
        return random.choice(self._workers)

    async def begin(self) -> None:
        for _ in range(WORKERS):
            self._workers.append(await self._started())

    async def replace_one(self) -> None:
        number = random.randrange(WORKERS)
        doomed = self._workers[number]
        await asyncio.to_thread(doomed.kill)
        self._killed.append(doomed)
        self._workers[number] = await self._started()

    async def end(self) -> None:
        for worker in self._workers:
            await asyncio.to_thread(worker.kill)
        for worker in (*self._workers, *self._killed):
            await worker.channel.close(None)

    async def _started(self) -> ServerProcess:
        start = partial(ServerProcess, self._database_url, **self._how, **SETTINGS)
        return await asyncio.to_thread(start)


async def prove(database_url: str, size: Size) -> Outcome:
    """Accept and run it all, and check what came of it.

    Checked: each turn was answered once, in the order of acceptance within its conversation; the
    feed told each attempt once, and each turn's answer once, in that order.
    """
    assert not size.conversations % OWNERS, "each conversation is to have one owner"
    ids = [an_id() for _ in range(size.conversations)]
    outcome = Outcome()
    workers = Workers(database_url, size)
    await workers.begin()
    consuming = asyncio.create_task(_consume(workers, size.turns, outcome))
    over = asyncio.Event()
    killing = asyncio.create_task(_kill(workers, size.kill_s, outcome, over))
    try:
        async with asyncio.timeout(size.within_s):
            began = monotonic()
            await _accept_all(workers, ids, size.turns)
            outcome.accepted_s = monotonic() - began
            while _queued(database_url):
                _check_alive(killing, consuming)
                await asyncio.sleep(0.2)
            outcome.took_s = monotonic() - began
            await consuming
    finally:
        over.set()  # cancelled, it would leave a worker behind that is just being started
        consuming.cancel()
        await asyncio.gather(killing, consuming, return_exceptions=True)
        await workers.end()
    _check_messages(database_url, ids, size.turns)
    _check_feed(outcome, ids, size.turns)
    assert () == integrity.examine(as_superuser(database_url)).problems
    outcome.taken_over = sum(turn.attempt > 1 for turn in outcome.told)
    return outcome


async def _kill(
    workers: Workers, kill_s: tuple[float, float], outcome: Outcome, over: asyncio.Event
) -> None:
    while not over.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(*kill_s)):
                await over.wait()
                return
        await workers.replace_one()
        outcome.kills += 1


def _check_alive(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        if task.done():
            task.result()


async def _accept_all(workers: Workers, ids: list[str], turns: int) -> None:
    async def caller(first: int) -> None:
        """Start the turns of some conversations: of each, one after the other."""
        for n in range(turns):
            if n % len(ids) % CALLERS == first:
                await _accept(workers, n, ids[n % len(ids)])

    await asyncio.gather(*(caller(first) for first in range(CALLERS)))


async def _accept(workers: Workers, n: int, conversation_id: str) -> None:
    """Start a turn; again, by its request id, where the worker is killed meanwhile."""
    user = f"user-{n % OWNERS}"
    chat = pb.ChatRequest(
        message=f"m{n}", conversation_id=conversation_id, allow_missing=True, request_id=f"r{n}"
    )
    while True:
        try:
            request = pb.StartTurnRequest(chat=chat)
            await workers.any().stub.StartTurn(request, timeout=10, metadata=metadata(user))
        except grpc.aio.AioRpcError as error:
            assert error.code() in LOST, error
            await asyncio.sleep(0.1)
        else:
            return


async def _consume(workers: Workers, turns: int, outcome: Outcome) -> None:
    """Watch the feed until each turn's answer was told, and then until all that ended was."""
    cursor, answered, is_all = "", 0, False
    while not is_all:
        watch = workers.any().stub.WatchTurns(
            pb.WatchTurnsRequest(all_owners=True, after_cursor=cursor),
            timeout=60,
            metadata=OBSERVER,
        )
        outcome.watches += 1
        left = random.randint(1, READ_AT_ONCE)
        try:
            async for update in watch:
                cursor = update.cursor
                if update.HasField("progress"):
                    is_all = answered >= turns
                else:
                    outcome.told.append(update.turn)
                    answered += update.turn.state == messages.TURN_STATE_COMPLETED
                    left -= 1
                if is_all or left == 0:
                    break
        except grpc.aio.AioRpcError as error:
            assert error.code() in LOST, error
            await asyncio.sleep(0.1)
        watch.cancel()


def _check_messages(database_url: str, ids: list[str], turns: int) -> None:
    said: dict[str, list[str]] = defaultdict(list)
    with psycopg.connect(as_superuser(database_url)) as connection:
        for conversation_id, content in connection.execute(
            "SELECT conversation_id::text, content FROM message ORDER BY conversation_id, sequence"
        ):
            said[conversation_id].append(content)
    for number, conversation_id in enumerate(ids):
        asked = [f"m{n}" for n in range(number, turns, len(ids))]
        expected = [text for one in asked for text in (one, one)]  # echoed
        assert expected == said[conversation_id], f"{conversation_id}: {said[conversation_id]}"


def _check_feed(outcome: Outcome, ids: list[str], turns: int) -> None:
    attempts = [(turn.turn_id, turn.attempt) for turn in outcome.told]
    assert len(set(attempts)) == len(attempts), "an attempt was told twice"
    answered: dict[str, list[str]] = defaultdict(list)
    for turn in outcome.told:
        if turn.state == messages.TURN_STATE_COMPLETED:
            answered[turn.conversation_id].append(turn.request_id)
    for number, conversation_id in enumerate(ids):
        expected = [f"r{n}" for n in range(number, turns, len(ids))]
        assert expected == answered[conversation_id], (
            f"{conversation_id}: {answered[conversation_id]}"
        )


def _queued(database_url: str) -> int:
    with psycopg.connect(as_superuser(database_url)) as connection:
        return int(connection.execute("SELECT count(*) FROM turn_queue").fetchall()[0][0])

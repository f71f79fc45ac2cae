"""Two releases at once: what docs/operations.md promises of an upgrade, with workers of both.

The release before is a copy of it (support/released.py), as processes. What is said of two workers
is tried both ways: `first` is of the release before, then of this one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.schema import integrity, version
from support.databases import a_database, as_superuser
from support.ledgers import imbalances
from support.processes import ServerProcess, run
from support.released import TESTS, Released
from support.services import AUDIENCE, ISSUER, SECRET, Service, StartService, an_id, until_health
from support.streams import Stream, next_of, rest_of

LEASE_S = 1.0
AGENT = "python:support.two_releases_module:agent"
AGENTS = f'''
default = "usual"
[agents.usual]
model = "{AGENT}"
[agents.echo]
model = "echo"
'''
BOTH_WAYS = pytest.mark.parametrize("is_old_first", [True, False], ids=["old-new", "new-old"])


class Workers(NamedTuple):
    """A worker of each release, on one database with this release's schema."""

    old: ServerProcess
    new: ServerProcess
    database_url: str
    notes: Path


class Pair(NamedTuple):
    """The two of them, as callers see them."""

    first: Service
    second: Service


def are_whole(database_url: str) -> bool:
    """Whether what both have left is whole, and counted."""
    url = as_superuser(database_url)
    assert () == integrity.examine(url).problems
    assert [] == imbalances(url)
    return True


@pytest.fixture(scope="module")
def workers(
    released: Released,
    postgres_url: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workers]:
    notes = tmp_path_factory.mktemp("two") / "notes"
    settings = {"agent": AGENT, "lease_s": LEASE_S}
    with a_database(postgres_url, template) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTES", str(notes))
        with (
            released.worker(url, **settings) as old,
            ServerProcess(url, python_path=str(TESTS), **settings) as new,
        ):
            yield Workers(old, new, url, notes)
        assert are_whole(url)


def said(*told: str) -> list[str]:
    """Return what a conversation holds after these messages."""
    return [text for message in told for text in (message, f"told: {message}")]


def called(worker: ServerProcess, channel: grpc.aio.Channel | None = None) -> Service:
    return Service(None, worker.port, channel or worker.channel)


@pytest.fixture
def is_old_first() -> bool:
    return True


@pytest.fixture
async def pair(workers: Workers, is_old_first: bool) -> AsyncIterator[Pair]:
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{workers.old.port}") as one,
        grpc.aio.insecure_channel(f"127.0.0.1:{workers.new.port}") as other,
    ):
        old, new = called(workers.old, one), called(workers.new, other)
        yield Pair(old, new) if is_old_first else Pair(new, old)


@pytest.mark.slow
def test_schema_of_the_release_before_is_an_older_one(
    released: Released, released_database_url: str
) -> None:
    """The copy is run, not this release under its name."""
    with psycopg.connect(released_database_url) as connection:
        row = connection.execute("SELECT version, oldest_worker FROM parley_schema").fetchone()
    assert row is not None
    assert row[0] < version.SCHEMA_VERSION


@pytest.mark.slow
def test_worker_refuses_the_schema_of_the_release_before_until_it_is_migrated(
    released_database_url: str,
) -> None:
    settings = {
        "PARLEY_DATABASE_URL": released_database_url,
        "PARLEY_LISTEN": "127.0.0.1:0",
        "PARLEY_AGENT": "echo",
        "PARLEY_AUTH_HS256_SECRET": SECRET,
        "PARLEY_AUTH_ISSUER": ISSUER,
        "PARLEY_AUTH_AUDIENCE": AUDIENCE,
    }
    refused = run("serve", **settings)
    assert 0 != refused.returncode
    assert f"this release needs {version.SCHEMA_VERSION}" in refused.stderr
    assert "run `parley-server migrate` first" in refused.stderr

    migrated = run("migrate", PARLEY_DATABASE_URL=released_database_url)
    assert migrated.stderr.startswith("Applied: "), migrated.stderr


@pytest.mark.slow
async def test_no_turn_fails_while_the_schema_is_migrated_under_an_old_worker(
    released: Released, released_database_url: str
) -> None:
    """Fails when a migration takes away what the release before reads or writes."""
    with released.worker(released_database_url) as old:
        service = called(old)
        before = await service.chat("before")
        is_over = asyncio.Event()
        answers: list[pb.ChatResponse] = []

        async def talk() -> None:
            while not is_over.is_set():
                answers.append(await service.chat("meanwhile", request_id=str(len(answers))))

        talking = asyncio.create_task(talk())
        await asyncio.to_thread(version.migrate, released_database_url)
        with await asyncio.to_thread(ServerProcess, released_database_url) as new:
            after = len(answers)
            while len(answers) < after + 20:
                await asyncio.sleep(0.02)
            is_over.set()
            await talking
            there = called(new)
            again = [
                await there.chat("meanwhile", request_id=str(n)) for n in range(0, len(answers), 10)
            ]
            await there.chat("after", conversation_id=before.conversation_id)
        await until_health(service, "SERVING")
        history = await service.history(before.conversation_id)

    assert [a.turn_id for a in answers[::10]] == [a.turn_id for a in again]
    assert ["before", "before", "after", "after"] == [m.content for m in history.messages]
    assert are_whole(released_database_url)


@pytest.mark.slow
@BOTH_WAYS
async def test_turns_of_both_releases_are_one_conversation_and_one_turn_a_request_id(
    pair: Pair,
) -> None:
    conversation_id = an_id()
    for n in range(4):
        await pair[n % 2].chat(f"m{n}", conversation_id=conversation_id, allow_missing=True)
    once = {"conversation_id": conversation_id, "request_id": conversation_id}
    first, second = await asyncio.gather(*(each.chat("once", **once) for each in pair))

    assert first.turn_id == second.turn_id
    assert first.response_sequence == second.response_sequence
    history = await pair.first.history(conversation_id)
    assert said(*(f"m{n}" for n in range(4)), "once") == [m.content for m in history.messages]
    assert list(range(1, 11)) == [m.sequence for m in history.messages]
    assert history == await pair.second.history(conversation_id)


@BOTH_WAYS
async def test_stream_of_one_release_is_followed_and_cancelled_through_the_other(
    pair: Pair,
) -> None:
    name = an_id()
    begun = pair.first.stream("slow", request_id=name)
    started = await next_of(begun, "started")
    followed = pair.second.stream("slow", request_id=name)
    one, other = await asyncio.gather(rest_of(begun), rest_of(followed))

    assert started.started.turn_id == other[0].started.turn_id
    assert "told: slow" == one[-1].completed.response == other[-1].completed.response
    doomed = pair.first.stream("slowly", request_id=f"{name}-c")
    await next_of(doomed, "started")
    turn = await pair.second.cancel(request_id=f"{name}-c")
    await rest_of_cancelled(doomed)
    ended = await pair.first.until_turn(turn, "CANCELLED", "COMPLETED")
    assert messages.TURN_STATE_CANCELLED == ended.state


async def rest_of_cancelled(stream: Stream) -> None:
    try:
        await rest_of(stream)
    except grpc.aio.AioRpcError as error:
        assert grpc.StatusCode.CANCELLED == error.code()


@BOTH_WAYS
async def test_started_turns_are_run_by_both_releases_in_order(pair: Pair) -> None:
    conversation_id = an_id()
    turns = []
    for n in range(20):
        fields = {
            "conversation_id": conversation_id,
            "request_id": f"{conversation_id}-{n}",
            "allow_missing": True,
        }
        turns.append((await pair[n % 2].start(f"m{n}", **fields)).turn)
        again = await pair[1 - n % 2].start(f"m{n}", **fields)
        assert turns[-1].turn_id == again.turn.turn_id
    for turn in turns:
        await pair.second.until_turn(turn, "COMPLETED")
    history = await pair.first.history(conversation_id)
    assert said(*(f"m{n}" for n in range(20))) == [m.content for m in history.messages]


@BOTH_WAYS
async def test_turn_that_waits_is_resumed_through_both_releases_once(
    pair: Pair, workers: Workers
) -> None:
    """What is approved runs once."""
    workers.notes.unlink(missing_ok=True)
    asked = await pair.first.chat("pay")
    (call,) = asked.pending_calls
    approved = pb.CallResult(call_key=call.call_key, approval=pb.Approval())
    names = {"conversation_id": asked.conversation_id, "turn_id": asked.turn_id}
    second, first = await asyncio.gather(
        pair.second.resume(approved, **names), pair.first.resume(approved, **names)
    )

    assert "told: pay" == first.response == second.response
    assert "paid\n" == workers.notes.read_text()


@BOTH_WAYS
async def test_feed_tells_the_turns_of_both_releases_through_each_of_them(pair: Pair) -> None:
    user = an_id()
    feeds = [worker.watch_turns(user=user, only_new=True) for worker in pair]
    for feed in feeds:
        assert "progress" == (await feed.read()).WhichOneof("update")
    answers = [await pair[n % 2].chat(f"m{n}", user=user) for n in range(6)]

    for feed in feeds:
        told = [await feed.read() for _ in range(6)]
        assert [a.turn_id for a in answers] == [t.turn.turn_id for t in told]
        feed.cancel()


async def test_old_worker_gives_turns_of_a_conversation_with_an_agent_to_its_default_one(
    pair: Pair, workers: Workers, start_service: StartService, tmp_path: Path
) -> None:
    """As docs/operations.md says of migration 0014: give it an agent once all workers are new."""
    file = tmp_path / "agents.toml"
    file.write_text(AGENTS)
    new = await start_service(database_url=workers.database_url, agent=None, agents_file=file)
    created = await new.create(title="t", agent="echo")
    name = {"conversation_id": created.conversation.conversation_id}
    answers = [(await worker.chat("x", **name)).response for worker in (pair.first, new)]
    assert ["told: x", "x"] == answers


@pytest.mark.slow
@BOTH_WAYS
async def test_turns_of_a_killed_worker_are_taken_over_by_the_other_release(
    released: Released, database_url: str, is_old_first: bool
) -> None:
    """A turn that is called for, a started one that runs, and one that waits behind it."""
    kinds = [released.worker, ServerProcess]
    one, other = kinds if is_old_first else reversed(kinds)
    settings = {"agent": "echo:1", "lease_s": LEASE_S}
    conversation_id = an_id()
    fields = {"conversation_id": conversation_id, "allow_missing": True}
    with one(database_url, **settings) as doomed, other(database_url, **settings) as heir:
        first, second = called(doomed), called(heir)
        await next_of(first.stream("called", request_id="k"), "started")
        running = (await first.start("running", request_id="1", **fields)).turn
        behind = (await second.start("behind", request_id="2", **fields)).turn
        await second.until_turn(running, "RUNNING", "COMPLETED")
        doomed.kill()
        answer = await second.chat("called", request_id="k", timeout=30)
        ended = [await second.until_turn(turn, "COMPLETED", "FAILED") for turn in (running, behind)]
        history = await second.history(conversation_id)

    assert "called" == answer.response
    assert [messages.TURN_STATE_COMPLETED] * 2 == [turn.state for turn in ended]
    assert ["running"] * 2 + ["behind"] * 2 == [m.content for m in history.messages]
    assert are_whole(database_url)

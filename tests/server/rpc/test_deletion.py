"""Conversations that are deleted: at once for every call, and then for good."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg import sql

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.conversations import purging
from parley_server.core.model import Owner
from parley_server.storage.statements.sql import APPEND
from support.agents import Gate, ScriptedAgent, Speaker
from support.databases import as_superuser
from support.many_conversations import store_queue
from support.messages import system, user
from support.owned_rows import run
from support.services import (
    GONE,
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    gathered,
    reason_of,
    refused,
    until_true,
)
from support.two_owners import with_names

ADA = Owner.of("", "ada").id
LEFT_IN_QUEUES = "SELECT count(*) FROM turn_queue"
NO_TURN = ("NOT_FOUND", "TURN_NOT_FOUND")
PATIENCE_S = 30


async def read(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def fed(service: Service) -> list[cpb.Turn]:
    """Return the turns that the feed has told of by now."""
    turns: list[cpb.Turn] = []
    async for update in service.watch_turns():
        if update.HasField("progress"):
            break
        turns.append(update.turn)
    return turns


async def updates_until_end(watch: Any) -> tuple[list[str], tuple[str, str]]:
    """Return the kinds of what a watch still tells, and what it ends with."""
    kinds: list[str] = []

    async def read_kinds() -> None:
        async for update in watch:
            kinds.append(update.WhichOneof("update"))  # noqa: PERF401 - kept when the watch fails

    return kinds, await refused(read_kinds())


def stages(database_url: str) -> list[str]:
    with psycopg.connect(as_superuser(database_url)) as connection:
        return [row[0] for row in connection.execute("SELECT stage FROM deletion").fetchall()]


def rows_of(database_url: str, conversation_id: str) -> dict[str, int]:
    """Count the rows of a conversation in every table that has some, whatever tables there are."""
    counts = {}
    with psycopg.connect(as_superuser(database_url)) as connection:
        columns = connection.execute(
            """SELECT table_name, column_name FROM information_schema.columns
               WHERE table_schema = 'public' AND (column_name = 'conversation_id'
                   OR table_name = 'conversation' AND column_name = 'id')"""
        ).fetchall()
        assert len(columns) >= 6
        for table, column in columns:
            query = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
                sql.Identifier(table), sql.Identifier(column)
            )
            row = connection.execute(query, [conversation_id]).fetchone()
            assert row is not None
            if row[0]:
                counts[table] = row[0]
    return counts


@pytest.mark.slow
@WITH_AND_WITHOUT_ROW_SECURITY
@pytest.mark.parametrize("trash_days", [0, 1])
async def test_deleted_conversation_is_found_by_no_call(
    start_service: StartService, trash_days: int
) -> None:
    service = await start_service(trash_days=trash_days)
    request_id, identity = an_id(), an_id()
    await service.create(conversation_id=identity, labels={"a": "b"}, request_id="made")
    turn_id = (await service.chat(conversation_id=identity, request_id=request_id)).turn_id
    kept = (await service.chat()).conversation_id

    deleted = await service.delete(identity)

    assert bool(trash_days) == deleted.HasField("purge_time")
    assert GONE == await refused(service.conversation(identity))
    assert GONE == await refused(service.history(identity))
    assert GONE == await refused(service.update(identity, title="x"))
    assert GONE == await refused(service.fork(identity))
    assert GONE == await refused(service.append(identity, user("x"), allow_missing=True))
    exported = [part async for part in service.export()]
    assert [kept] * 3 == [part.conversation_id for part in exported[:-1]]
    assert GONE == await refused(service.delete(identity))
    assert GONE == await refused(read(service.watch(identity)))
    assert [kept] == [c.conversation_id for c in (await service.conversations()).conversations]
    assert not (await service.conversations(labels=["a=b"])).conversations
    for call in (service.turn, service.cancel, service.explain):
        assert NO_TURN == await refused(call(request_id=request_id))
        assert NO_TURN == await refused(call(conversation_id=identity, turn_id=turn_id))
    assert NO_TURN == await refused(read(service.rehearse(request_id=request_id)))
    given = pb.CallResult(call_key=an_id(), result="r")
    assert NO_TURN == await refused(service.resume(given, request_id=request_id))
    assert [kept] == [turn.conversation_id for turn in await fed(service)]
    for fields in ({}, {"allow_missing": True}, {"on_busy": pb.ON_BUSY_WAIT}):
        asked = {"conversation_id": identity, **fields}
        assert GONE == await refused(service.chat(**asked))
        assert GONE == await refused(service.start(**asked))
        assert GONE == await refused(service.chat(request_id=request_id, **asked))
        assert GONE == await refused(read(service.stream(request_id=request_id, **asked)))
    assert GONE == await refused(service.chat(request_id=request_id))
    assert GONE == await refused(service.start(request_id=request_id))
    assert GONE == await refused(
        service.create(request_id="made", conversation_id=identity, labels={"a": "b"})
    )
    taken = ("ALREADY_EXISTS", "CONVERSATION_EXISTS")
    assert taken == await refused(service.create(conversation_id=identity))


async def test_conversation_that_is_missing_can_be_deleted_if_that_is_allowed(
    service: Service,
) -> None:
    assert GONE == await refused(service.delete(an_id()))
    assert pb.DeleteConversationResponse() == await service.delete(an_id(), allow_missing=True)
    assert GONE == await refused(service.undelete(an_id()))


@pytest.mark.parametrize("notify", ["listen", "poll"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_delete_stops_the_open_turn(
    start_service: StartService, notify: str, where: str
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), notify=notify)
    other = service if where == "here" else await start_service(notify=notify)
    identity = an_id()
    chat = asyncio.ensure_future(
        service.chat(conversation_id=identity, allow_missing=True, request_id="asked")
    )
    await gate.entered.wait()
    waiting = asyncio.ensure_future(
        other.chat("next", conversation_id=identity, on_busy=pb.ON_BUSY_WAIT)
    )
    repeated = asyncio.ensure_future(
        other.chat(conversation_id=identity, allow_missing=True, request_id="asked")
    )
    await until_true(lambda: bool(other.worker.turns.queued))

    await other.delete(identity)

    async with asyncio.timeout(PATIENCE_S):
        await gate.closed.wait()
        assert GONE == await refused(chat)
        assert GONE == await refused(waiting)
        assert GONE == await refused(repeated)


async def test_piece_of_an_answer_that_is_being_stored_goes_with_all_others(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a deletion does not wait for it: it comes behind all that removes what was said.

    The piece is stored as a worker stores it, in a transaction that is slow to commit.
    """
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    identity = an_id()
    stream = service.stream(conversation_id=identity, allow_missing=True, request_id="asked")
    reading = asyncio.ensure_future(read(stream))
    await gate.entered.wait()
    turn = await service.turn(request_id="asked")
    (fence,) = run(database_url, "SELECT fence FROM conversation")[0]
    async with await psycopg.AsyncConnection.connect(as_superuser(database_url)) as storing:
        piece = {
            "owner": ADA,
            "conversation": identity,
            "turn": turn.turn_id,
            "fence": fence,
            "attempt": 1,
            "events": '[{"index": 0, "text": "secret", "tool_call": null}]',
        }
        await storing.execute(with_names(APPEND), piece)
        deleting = asyncio.ensure_future(service.delete(identity))
        await asyncio.wait([deleting], timeout=0.5)
        assert not deleting.done()
    await deleting

    assert GONE == await refused(reading)
    await until_true(lambda: stages(database_url) == ["TOMBSTONE"])
    assert [(0,)] == run(database_url, "SELECT count(*) FROM turn_event")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_delete_ends_streams_and_watches(start_service: StartService, where: str) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    other = service if where == "here" else await start_service()
    identity = an_id()
    asked: dict[str, Any] = {
        "conversation_id": identity,
        "allow_missing": True,
        "request_id": "asked",
    }
    stream, seen = service.stream(**asked), []
    speaker.say("Once ")
    async for event in stream:
        seen.append(event)
        if event.HasField("chunk"):
            break
    follower = other.stream(**asked)
    async for event in follower:
        if event.HasField("chunk"):
            break
    watch = other.watch(identity, include_events=True)
    async for update in watch:
        if update.HasField("event"):
            break

    await other.delete(identity)

    async with asyncio.timeout(PATIENCE_S):
        assert GONE == await refused(read(stream))
        assert GONE == await refused(read(follower))
        kinds, end = await updates_until_end(watch)
    assert GONE == end
    assert "deleted" == kinds[-1]
    assert 1 == kinds.count("deleted")


async def test_watch_of_a_quiet_conversation_is_told_that_it_is_deleted(
    start_service: StartService,
) -> None:
    for notify in ("listen", "poll"):
        service, other = await start_service(notify=notify), await start_service(notify=notify)
        identity = (await service.chat()).conversation_id
        watch = service.watch(identity)
        async for update in watch:
            if update.HasField("progress"):
                break

        await other.delete(identity)

        assert (["deleted"], GONE) == await updates_until_end(watch)


async def test_page_after_the_deletion_is_refused(service: Service) -> None:
    identity = (await service.chat()).conversation_id
    page = await service.history(identity, page_size=1)

    await service.delete(identity)

    assert GONE == await refused(
        service.history(identity, page_size=1, page_token=page.next_page_token)
    )


async def test_deletions_and_turns_at_once_leave_everything_whole(service: Service) -> None:
    for number in range(20):
        identity = an_id()
        await service.create(conversation_id=identity, labels={"n": str(number)})

        came = await gathered(
            service.chat(conversation_id=identity, request_id=f"r{number}"),
            service.update(identity, labels={"m": "x"}),
            service.delete(identity),
            service.delete(identity),
        )

        deleted = [c for c in came if isinstance(c, pb.DeleteConversationResponse)]
        assert 1 == len(deleted)
        assert GONE == await refused(service.chat(conversation_id=identity))
        assert GONE == await refused(service.conversation(identity))
        assert not (await service.conversations(labels=["m=x"])).conversations


async def test_undeleted_conversation_is_as_it_was(start_service: StartService) -> None:
    service = await start_service(trash_days=1)
    identity = an_id()
    await service.create(conversation_id=identity, labels={"a": "b"}, instructions="i")
    answered = await service.chat(conversation_id=identity, request_id="asked")
    newer = (await service.create(labels={"a": "b"})).conversation.conversation_id
    before = await service.conversation(identity)
    history = await service.history(identity)
    await service.delete(identity)

    back = await service.undelete(identity)

    assert before == back == await service.conversation(identity)
    assert history == await service.history(identity)
    for labels in ([], ["a=b"]):
        page = await service.conversations(labels=labels)
        assert [newer, identity] == [c.conversation_id for c in page.conversations]
    replay = await service.chat(conversation_id=identity, request_id="asked")
    assert (True, answered.response) == (replay.replayed, replay.response)
    assert back == await service.undelete(identity)
    assert 3 == (await service.chat(conversation_id=identity)).user_sequence


async def test_turn_that_was_open_can_be_tried_again_once_its_conversation_is_back(
    start_service: StartService,
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), trash_days=1)
    identity = an_id()
    asked: dict[str, Any] = {
        "conversation_id": identity,
        "allow_missing": True,
        "request_id": "asked",
    }
    chat = asyncio.ensure_future(service.chat(**asked))
    await gate.entered.wait()
    await service.delete(identity)
    assert GONE == await refused(chat)

    await service.undelete(identity)

    assert "TURN_ABANDONED" == reason_of(await service.turn(request_id="asked"))
    gate.opened.set()
    assert (1, 2) == ((a := await service.chat(**asked)).user_sequence, a.response_sequence)
    turn = await service.turn(request_id="asked")
    assert (cpb.TURN_STATE_COMPLETED, 2) == (turn.state, turn.attempt)


async def test_turn_that_was_open_can_be_cancelled_once_its_conversation_is_back(
    start_service: StartService,
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), trash_days=1)
    identity = an_id()
    chat = asyncio.ensure_future(
        service.chat(conversation_id=identity, allow_missing=True, request_id="asked")
    )
    await gate.entered.wait()
    await service.delete(identity)
    assert GONE == await refused(chat)
    await service.undelete(identity)

    cancelled = await service.cancel(request_id="asked")

    assert (cpb.TURN_STATE_CANCELLED, 2) == (cancelled.state, cancelled.response_sequence)
    assert 2 == (await service.conversation(identity)).last_sequence


async def test_without_a_trash_nothing_is_brought_back(service: Service) -> None:
    identity = (await service.chat()).conversation_id
    await service.delete(identity)

    assert GONE == await refused(service.undelete(identity))


@WITH_AND_WITHOUT_ROW_SECURITY
@pytest.mark.off_ledger
async def test_what_was_said_goes_at_once_and_ids_go_later(
    start_service: StartService, database_url: str
) -> None:
    service, _ = await start_service(), await start_service()
    identity, kept = an_id(), (await service.chat()).conversation_id
    untouched = rows_of(database_url, kept)
    made: dict[str, Any] = {"conversation_id": identity, "title": "t", "labels": {"a": "b"}}
    await service.create(request_id="made", instructions="i", **made)
    for number in range(3):
        await service.chat(f"secret {number}", conversation_id=identity, request_id=f"r{number}")
    await service.chat("secret", conversation_id=identity)
    await service.append(identity, user("secret"), system("secret"), request_id="added")

    await service.delete(identity)
    await until_true(lambda: stages(database_url) == ["TOMBSTONE"])

    ids = {"conversation": 1, "turn": 4, "creation": 1, "addition": 1, "deletion": 1}
    assert ids == rows_of(database_url, identity)
    with psycopg.connect(as_superuser(database_url)) as connection:
        row = connection.execute(
            """SELECT tenant_id, user_id, title, preview, labels, instructions FROM conversation
               WHERE id = %s""",
            [identity],
        ).fetchone()
        assert ("", "", "", "", None, None) == row
        assert [(b"",)] == connection.execute(
            """SELECT fingerprint FROM turn WHERE conversation_id = %(id)s
               UNION SELECT fingerprint FROM creation WHERE conversation_id = %(id)s
               UNION SELECT fingerprint FROM addition WHERE conversation_id = %(id)s""",
            {"id": identity},
        ).fetchall()
    assert GONE == await refused(service.create(request_id="made", instructions="i", **made))
    for number in range(3):
        assert GONE == await refused(service.chat(f"secret {number}", request_id=f"r{number}"))
    added = service.append(identity, user("secret"), request_id="added", allow_missing=True)
    assert GONE == await refused(added)
    assert GONE == await refused(service.undelete(identity))

    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute("UPDATE deletion SET due_time = now()")
    service.worker.purging.wake()
    await until_true(lambda: not stages(database_url))

    assert {} == rows_of(database_url, identity)
    assert untouched == rows_of(database_url, kept)
    assert not (await service.create(conversation_id=identity)).replayed
    assert not (await service.chat("new", request_id="r0")).replayed


async def test_turns_of_a_deleted_conversation_still_count_within_their_minute(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service(max_turns_per_minute=1)
    reached = ("RESOURCE_EXHAUSTED", "TURN_LIMIT_REACHED")
    identity = (await service.chat()).conversation_id
    assert reached == await refused(service.chat())

    await service.delete(identity)
    await until_true(lambda: stages(database_url) == ["TOMBSTONE"])

    assert reached == await refused(service.chat())


@pytest.mark.writes_rows
async def test_deleted_conversation_that_an_older_worker_touches_is_not_listed(
    start_service: StartService, database_url: str
) -> None:
    """A worker of the release before knows nothing of deletions, and sets update_time."""
    service = await start_service(trash_days=1)
    identity = (await service.chat()).conversation_id
    await service.delete(identity)
    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute("UPDATE conversation SET update_time = now()")

    assert not (await service.conversations()).conversations


async def test_log_names_the_conversation_that_is_deleted(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that users' deletions can be made again in a database that was restored."""
    identity = (await service.chat()).conversation_id
    capsys.readouterr()

    await service.delete(identity)

    assert f"conversation_id={identity}" in capsys.readouterr().out


@pytest.mark.off_ledger
async def test_many_messages_go_in_batches_by_whoever_is_there(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, batches of three messages or 100 bytes, and of all that they count each once."""
    counted: list[int] = []
    monkeypatch.setattr(purging, "BATCH", 3)
    monkeypatch.setattr(purging, "BATCH_BYTES", 100)
    workers = [await start_service(), await start_service()]
    for service in workers:
        monkeypatch.setattr(service.worker.purging, "_count", counted.append)
    ids = []
    for number in range(6):
        identity = an_id()
        ids.append(identity)
        for turn in range(4):
            request = {"request_id": f"{number}-{turn}"} if number else {}
            await workers[0].chat(
                "x" * (30 * number + 1), conversation_id=identity, allow_missing=True, **request
            )

    await asyncio.gather(*(workers[n % 2].delete(i) for n, i in enumerate(ids)))
    await until_true(lambda: stages(database_url) == ["TOMBSTONE"] * 6)

    assert 6 * 8 == sum(counted)
    assert max(counted) <= 3
    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute("UPDATE deletion SET due_time = now()")
    for service in workers:
        service.worker.purging.wake()
    await until_true(lambda: not stages(database_url))
    assert [{}] * 6 == [rows_of(database_url, i) for i in ids]


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_long_queue_goes_in_parts(start_service: StartService, database_url: str) -> None:
    """Fails when one statement removes all of it: ten thousand messages may be gigabytes.

    Fails when what is left is still there once the conversation is back, or gone for good.
    """
    service = await start_service(trash_days=1)
    identity = an_id()
    await service.create(conversation_id=identity)
    store_queue(database_url, ADA, identity, 1200)

    await service.delete(identity)

    assert [(700,)] == run(database_url, LEFT_IN_QUEUES)
    assert [("CANCELLED", 1200)] == run(database_url, "SELECT state, count(*) FROM turn GROUP BY 1")
    back = await service.undelete(identity)
    assert (identity, [(0,)]) == (back.conversation_id, run(database_url, LEFT_IN_QUEUES))
    started = await service.start("hello", conversation_id=identity)
    await service.until_turn(started.turn, "COMPLETED")

    store_queue(database_url, ADA, identity, 1200)
    await service.delete(identity)
    assert [(700,)] == run(database_url, LEFT_IN_QUEUES)
    run(database_url, "UPDATE deletion SET due_time = now()")
    service.worker.purging.wake()

    await until_true(lambda: stages(database_url) == ["TOMBSTONE"])
    assert [(0,)] == run(database_url, LEFT_IN_QUEUES)


@pytest.mark.slow
async def test_purging_goes_on_once_the_database_is_back(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service()
    identity = (await service.chat()).conversation_id
    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute("LOCK TABLE message")
        await service.delete(identity)
        await until_true(lambda: bool(service.worker.store.pools()["claims"].in_use()))
        await asyncio.sleep(2.5)  # longer than a statement waits for a lock
    service.worker.purging.wake()

    await until_true(lambda: stages(database_url) == ["TOMBSTONE"])

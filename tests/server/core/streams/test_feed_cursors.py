"""What a cursor of the feed promises: each end of a turn once, none missed, or it is told so."""

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc
import psycopg
import pytest
from structlog.testing import capture_logs

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import BEGINNING, FeedCursor, FeedPlace, FeedScope, Owner
from parley_server.rpc import page_tokens
from support.databases import as_superuser
from support.processes import ServerProcess
from support.services import Service, StartService, an_id, details_of, info_of, metadata, refused
from support.streams import Stream, until_progress

WRITERS, TURNS = 50, 6


def run(database_url: str, statement: str, *values: Any) -> list[Any]:
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


class Told:
    """What a consumer was told, as it stored it together with its cursor."""

    def __init__(self) -> None:
        self.turns: list[cpb.Turn] = []
        self.cursor = ""

    async def read(self, watch: Stream, count: int, pause_s: float) -> None:
        """Read some updates, slowly, and leave."""
        for _ in range(count):
            update = await watch.read()
            if not isinstance(update, pb.WatchTurnsResponse):
                return
            if update.HasField("turn"):
                self.turns.append(update.turn)
            self.cursor = update.cursor
            await asyncio.sleep(pause_s)

    async def consume(self, watches: list[Any], expected: int) -> None:
        """Read from one worker after the other until everything was told."""
        chance = random.Random(len(watches))
        while len(self.turns) < expected:
            watch = chance.choice(watches)(after_cursor=self.cursor)
            try:
                async with asyncio.timeout(chance.choice([0.05, 0.3, 2])):
                    await self.read(watch, chance.randrange(1, 60), chance.choice([0, 0, 0.01]))
            except (TimeoutError, grpc.aio.AioRpcError):
                pass
            watch.cancel()

    def check(self, expected: dict[str, list[str]]) -> None:
        """Each turn once, those of a conversation in the order in which they ended."""
        found: dict[str, list[str]] = defaultdict(list)
        for turn in self.turns:
            found[turn.conversation_id].append(turn.turn_id)
        assert expected == dict(found)


async def crowd(chats: list[Any], into: dict[str, list[str]]) -> None:
    """Have many conversations at once, each turn on any worker, again where one has died."""

    async def writer(number: int) -> None:
        conversation_id = an_id()
        for n in range(TURNS):
            key = an_id()
            while True:
                try:
                    answer = await chats[(number + n) % len(chats)](
                        f"m{n}",
                        conversation_id=conversation_id,
                        allow_missing=True,
                        request_id=key,
                        on_busy=pb.ON_BUSY_WAIT,
                    )
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)
            into.setdefault(conversation_id, []).append(answer.turn_id)
            await asyncio.sleep(random.random() * 0.05)

    await asyncio.gather(*(writer(number) for number in range(WRITERS)))


@pytest.mark.slow
@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_each_turn_of_fifty_writers_is_told_once_and_in_order(
    start_service: StartService, notify: str
) -> None:
    """Fails when rows at and above the horizon are told: see the test with the protection gone."""
    services = [await start_service(notify=notify) for _ in range(2)]
    expected: dict[str, list[str]] = {}
    consumers = [Told() for _ in range(4)]
    async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
        tasks.create_task(crowd([service.chat for service in services], expected))
        for told in consumers:
            watches = [service.watch_turns for service in services]
            tasks.create_task(told.consume(watches, WRITERS * TURNS))

    for told in consumers:
        told.check(expected)
        assert [t.turn_id for t in consumers[0].turns] == [t.turn_id for t in told.turns]


@pytest.mark.slow
async def test_feed_survives_a_worker_that_is_killed(
    start_service: StartService, database_url: str
) -> None:
    """The consumer keeps its cursor, the writers their request ids."""
    service = await start_service(lease_s=2)
    expected: dict[str, list[str]] = {}
    told = Told()
    with ServerProcess(database_url, lease_s=2) as doomed:

        def watch(**fields: Any) -> Stream:
            request = pb.WatchTurnsRequest(**fields)
            return doomed.stub.WatchTurns(request, timeout=20, metadata=metadata("ada"))

        chats = [doomed.chat, service.chat]
        async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(crowd(chats, expected))
            tasks.create_task(told.consume([watch, service.watch_turns], WRITERS * TURNS))
            while len(told.turns) < WRITERS:
                await asyncio.sleep(0.05)
            doomed.kill()
            chats[:] = [service.chat, service.chat]
            await writing
    rest = await until_progress(service.watch_turns(after_cursor=told.cursor))
    told.turns += [update.turn for update in rest if update.HasField("turn")]
    ended = [t for t in told.turns if t.state == cpb.TURN_STATE_COMPLETED]
    told.turns = ended

    told.check(expected)


async def ended_in_an_open_transaction(
    service: Service, database_url: str
) -> tuple[psycopg.AsyncConnection[Any], str]:
    """End a turn by hand in a transaction that is left open. Returns: the two."""
    chat = await service.chat("by hand", user="ada")
    row = run(
        database_url,
        "DELETE FROM turn_feed WHERE turn_id = %s RETURNING owner_id, turn_id, tenant",
        chat.turn_id,
    )[0]
    held = await psycopg.AsyncConnection.connect(as_superuser(database_url))
    await held.execute(
        """INSERT INTO turn_feed (owner_id, turn_id, tenant, xid, attempt)
           VALUES (%s, %s, %s, pg_current_xact_id()::text::bigint, 1)""",
        row,
    )
    return held, chat.turn_id


async def test_what_a_long_transaction_may_still_write_is_waited_for(
    service: Service, database_url: str
) -> None:
    """Fails when the horizon is not asked: the later turn is told first, the earlier one never."""
    held, early = await ended_in_an_open_transaction(service, database_url)
    watch = service.watch_turns(only_new=True)
    await until_progress(watch)
    late = (await service.chat("late")).turn_id
    first = asyncio.ensure_future(watch.read())
    beside = asyncio.ensure_future(until_progress(service.watch_turns(user="bob")))
    await asyncio.wait([first], timeout=1)
    assert not first.done()
    assert 1 == len(await beside), "a feed in which nothing has ended has nothing to wait for"
    await held.commit()
    await held.close()
    told = [(await first).turn.turn_id]
    while len(told) < 2:
        told.append((await watch.read()).turn.turn_id)

    assert [early, late] == told


async def test_without_the_horizon_the_turn_of_a_long_transaction_is_missed(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protection of the test above, removed: the earlier turn is behind the cursor for ever."""
    everything = 2**62
    read = service.worker.feed_store._connections.repeat  # noqa: SLF001 - what is removed is inside

    async def unguarded(statement: Any, parameters: Any) -> list[Any]:
        found = await read(statement, parameters)
        if "page.xid" not in statement.text:
            return found
        return [(*row[:2], everything, everything, *row[4:]) for row in found]

    monkeypatch.setattr(service.worker.feed_store._connections, "repeat", unguarded)  # noqa: SLF001
    held, early = await ended_in_an_open_transaction(service, database_url)
    late = (await service.chat("late")).turn_id
    told = await service.watch_turns().read()
    await held.commit()
    await held.close()

    assert late == told.turn.turn_id
    behind = await until_progress(service.watch_turns(after_cursor=told.cursor))
    assert early not in [update.turn.turn_id for update in behind]


async def epoch_of(service: Service) -> UUID:
    scope = FeedScope(Owner.of("", "ada"), is_tenant=False)
    return (await service.worker.feed_store.feed(scope, BEGINNING, limit=1)).epoch


def aged(database_url: str, turn_id: str, days: float) -> None:
    """Have a turn have ended some days ago."""
    run(database_url, "UPDATE feed_state SET begin_time = 'epoch'")
    run(
        database_url,
        "UPDATE turn_feed SET create_time = now() - %s, end_time = now() - %s WHERE turn_id = %s",
        timedelta(days=days),
        timedelta(days=days),
        turn_id,
    )


@pytest.mark.writes_rows
async def test_older_cursors_are_told_what_is_kept(service: Service, database_url: str) -> None:
    """Fails without removed_xid: the second turn is missing behind the cursor, and not told so."""
    chats = [await service.chat(f"m{n}") for n in range(4)]
    cursors = [u.cursor for u in await until_progress(service.watch_turns())]
    for chat, days in zip(chats, (9, 8, 6, 0), strict=True):
        aged(database_url, chat.turn_id, days)
    await service.worker.trimming.trim()
    kept = [u.turn.turn_id for u in await until_progress(service.watch_turns())][:-1]

    assert [chat.turn_id for chat in chats[2:]] == kept
    watch = service.watch_turns(after_cursor=cursors[0])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()
    info = info_of(caught.value)
    assert "CURSOR_EXPIRED" == info.reason
    oldest = datetime.fromisoformat(info.metadata["oldest_time"])
    assert timedelta(days=5.9) < datetime.now(UTC) - oldest < timedelta(days=6.1)
    for n in (1, 2):  # nothing behind these is missing
        told = await until_progress(service.watch_turns(after_cursor=cursors[n]))
        assert [chat.turn_id for chat in chats[n + 1 :]] == [u.turn.turn_id for u in told[:-1]][
            -(3 - n) :
        ]
    assert details_of(caught.value)


@pytest.mark.writes_rows
async def test_several_workers_remove_each_row_once(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley_server.core.streams.trimming.BATCH", 100)
    services = [await start_service() for _ in range(3)]
    run(database_url, "UPDATE feed_state SET begin_time = 'epoch'")
    run(
        database_url,
        """INSERT INTO turn_feed (owner_id, xid, turn_id, tenant, attempt, create_time)
           SELECT gen_random_uuid(), n, gen_random_uuid(),
               ('00000000-0000-0000-0000-00000000000' || n %% 10)::uuid, 1,
               now() - interval '8 days' * (n %% 2)
           FROM generate_series(1, 2000) n""",
    )
    counted = 0
    for service in services:
        store = service.worker.feed_store
        trim = store.trim

        async def counting(keep: timedelta, *, limit: int, trim: Any = trim) -> int:
            nonlocal counted
            count: int = await trim(keep, limit=limit)
            counted += count
            return count

        monkeypatch.setattr(store, "trim", counting)
    await asyncio.gather(*(service.worker.trimming.trim() for service in services))
    await services[0].worker.trimming.trim()

    assert 1000 == counted
    assert [(1000, 1999)] == run(
        database_url, "SELECT count(*), (SELECT removed_xid FROM feed_state) FROM turn_feed"
    )


@pytest.mark.writes_rows
async def test_cursor_of_another_server_or_of_a_later_state_is_expired(
    start_service: StartService, database_url: str
) -> None:
    """Fails without an epoch: transaction ids begin anew where a dump is restored."""
    service = await start_service()
    await service.chat("before")
    cursor = (await until_progress(service.watch_turns()))[-1].cursor
    run(database_url, "UPDATE feed_state SET system_identifier = 1")
    restored = await start_service()
    expired = ("FAILED_PRECONDITION", "CURSOR_EXPIRED")

    assert expired == await refused(restored.watch_turns(after_cursor=cursor).read())
    assert 1 == len(await until_progress(restored.watch_turns())), "of another epoch"
    after = await restored.chat("after")
    told = await until_progress(restored.watch_turns())
    assert [after.turn_id] == [u.turn.turn_id for u in told[:-1]]
    later = FeedCursor((await epoch_of(restored)), FeedPlace(2**40))
    scope = FeedScope(Owner.of("", "ada"), is_tenant=False)
    cursor = page_tokens.encode_feed(scope, later)
    assert expired == await refused(restored.watch_turns(after_cursor=cursor).read())


@pytest.mark.writes_rows
async def test_only_a_feed_that_another_server_has_written_is_told_of(
    start_service: StartService, database_url: str
) -> None:
    """Fails when the first start of all tells of cursors that there cannot be."""
    with capture_logs() as lines:
        await start_service()
        assert not [line for line in lines if line["event"].startswith("feed begun")]
        run(database_url, "UPDATE feed_state SET system_identifier = 1")
        await start_service()
    assert 1 == len([line for line in lines if line["event"].startswith("feed begun")])


@pytest.mark.writes_rows
async def test_with_no_days_no_feed_is_kept(start_service: StartService, database_url: str) -> None:
    """Fails when cursors of before still count: turns are missing behind them."""
    service = await start_service()
    await service.chat("one")
    cursor = (await until_progress(service.watch_turns()))[-1].cursor
    off = await start_service(feed_days=0)
    await off.chat("two")
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(off.watch_turns().read())
    await off.worker.trimming.trim()

    assert [(0,)] == run(database_url, "SELECT count(*) FROM turn_feed")
    expired = ("FAILED_PRECONDITION", "CURSOR_EXPIRED")
    assert expired == await refused(service.watch_turns(after_cursor=cursor).read())


@pytest.mark.writes_rows
async def test_worker_with_no_days_leaves_it_open_whose_the_feed_is(
    start_service: StartService, database_url: str
) -> None:
    """Fails when it asks all the same: a cluster refuses that, and the worker would not start."""
    known = "SELECT system_identifier = 1 FROM feed_state"
    run(database_url, "UPDATE feed_state SET system_identifier = 1")
    await start_service(feed_days=0)

    assert [(True,)] == run(database_url, known)
    await start_service()
    assert [(False,)] == run(database_url, known)


async def test_watches_of_a_feed_share_their_reads(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    feed = service.worker.feed_store.feed

    async def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal reads
        reads += 1
        return await feed(*arguments, **named)

    watches = [service.watch_turns() for _ in range(50)]
    for watch in watches:
        await until_progress(watch)
    monkeypatch.setattr(service.worker.feed_store, "feed", counted)
    chat = await service.chat()
    for watch in watches:
        assert chat.turn_id == (await watch.read()).turn.turn_id

    assert 50 == service.worker.feeds.open
    assert reads < 10, "one or two looks, not one for each watch"

"""Owners that are erased: hidden when the call ends, and then nothing is left but a receipt."""

import asyncio
import logging
import uuid
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from parley_server.core.owners import erasing
from parley_server.storage.statements.erasing import ERASED_TABLES
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.many_conversations import store_conversations, store_queue
from support.owned_rows import rows_of, run
from support.services import (
    GONE,
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    a_token,
    an_id,
    gathered,
    refused,
    until_true,
)

ADA, BOB = Owner.of("", "ada").id, Owner.of("", "bob").id
PATIENCE_S = 30


def counts(receipt: pb.EraseOwnerResponse) -> tuple[int, int, int]:
    return receipt.conversations, receipt.messages, receipt.turns


def test_every_table_with_an_owner_is_erased_but_for_receipts(database_url: str) -> None:
    """Fails when a table is added and an erasure leaves its rows."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            """SELECT table_name FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name = 'owner_id'"""
        ).fetchall()

    assert {table for (table,) in found} == {t.name for t in ERASED_TABLES} | {"erasure"}


@pytest.mark.slow
@WITH_AND_WITHOUT_ROW_SECURITY
async def test_nothing_is_left_of_an_owner_but_the_receipt(
    start_service: StartService, database_url: str
) -> None:
    """Live, trashed and purged conversations; side rows of each kind; and another owner's."""
    service = await start_service(trash_days=1)
    for user in ("ada", "bob"):
        for number in range(3):
            made = {"labels": {"a": "b"}, "instructions": "i", "user": user}
            identity = (await service.create(request_id=f"c{number}", **made)).conversation
            for turn in range(2):
                await service.chat(
                    conversation_id=identity.conversation_id,
                    request_id=f"r{number}-{turn}",
                    user=user,
                )
            if number:
                await service.delete(identity.conversation_id, user=user)
            if number == 1:
                run(database_url, "UPDATE deletion SET due_time = now() WHERE stage = 'TRASHED'")
                service.worker.purging.wake()
                await until_true(lambda: rows_of(database_url, BOB).get("message", 4) == 4)
        await service.chat("alone", user=user)
    before = rows_of(database_url, BOB)

    receipt = await service.erased()

    assert {"erasure": 1} == rows_of(database_url, ADA)
    assert before == rows_of(database_url, BOB)
    assert (4, 7) == (receipt.conversations, receipt.turns)
    assert receipt.start_time.ToDatetime() < receipt.end_time.ToDatetime()
    assert receipt == await service.erase()
    assert not (await service.conversations()).conversations
    assert not (await service.create(request_id="c0", labels={"a": "b"})).replayed


async def test_erased_owner_is_found_by_no_call_from_the_moment_of_ok(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the call answers before all is hidden. Nothing is removed here meanwhile."""
    monkeypatch.setattr(erasing, "HIDE", 3)
    service = await start_service(trash_days=1)
    monkeypatch.setattr(service.worker.erasing, "wake", lambda: None)
    ids = [(await service.chat(request_id=f"r{n}")).conversation_id for n in range(10)]
    await service.delete(ids[4])

    receipt = await service.erase()

    assert pb.ERASURE_STATE_RUNNING == receipt.state
    assert not receipt.HasField("end_time")
    assert not (await service.conversations()).conversations
    for identity in ids:
        assert GONE == await refused(service.conversation(identity))
        assert GONE == await refused(service.history(identity))
        assert GONE == await refused(service.undelete(identity))
        assert GONE == await refused(service.chat(conversation_id=identity, allow_missing=True))


@pytest.mark.parametrize("at_once", [1, 2, 3], ids="{} at once".format)
async def test_conversation_is_erased_whatever_its_id(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Fails when the look for conversations begins behind the lowest id that callers may choose."""
    monkeypatch.setattr(erasing, "HIDE", at_once)
    service = await start_service()
    ids = [str(uuid.UUID(int=number)) for number in (0, 1, 2**128 - 1)]
    for identity in ids:
        await service.chat(conversation_id=identity, allow_missing=True)

    await service.erase()

    for identity in ids:
        assert GONE == await refused(service.history(identity))
    assert (3, 6, 3) == counts(await service.erased())


async def test_what_is_created_afterwards_stays(start_service: StartService) -> None:
    """Fails when rows are told apart by their owner alone."""
    service = await start_service()
    await service.chat("old", request_id="r")
    began = await service.erase()
    await service.chat("new", request_id="s")

    receipt = await service.erased()

    assert began.start_time == receipt.start_time
    assert (1, 2, 1) == counts(receipt)
    assert (await service.chat("new", request_id="s")).replayed
    assert 1 == len((await service.conversations()).conversations)
    assert not (await service.chat("newer", request_id="r")).replayed
    assert (2, 4, 2) == counts(await service.erased("again"))
    assert (1, 2, 1) == counts(await service.erase())
    assert not (await service.conversations()).conversations


@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_erasure_ends_what_is_under_way_on_every_worker(
    start_service: StartService, notify: str
) -> None:
    gate, speaker = Gate(), Gate()
    here = await start_service(notify=notify)
    there = await start_service(ScriptedAgent(gate), notify=notify)
    beside = await start_service(ScriptedAgent(speaker), notify=notify)
    identity, other = an_id(), an_id()
    await here.create(conversation_id=identity)
    chat = asyncio.ensure_future(there.chat(conversation_id=identity, request_id="asked"))
    await gate.entered.wait()

    async def read(stream: Any) -> list[Any]:
        return [event async for event in stream]

    streamed = asyncio.ensure_future(
        read(beside.stream(conversation_id=other, allow_missing=True, request_id="streamed"))
    )
    await speaker.entered.wait()
    watch = asyncio.ensure_future(read(there.watch(identity)))

    await here.erase()

    for call in (chat, streamed, watch):
        assert GONE == await refused(call)
    await gate.closed.wait()
    await speaker.closed.wait()
    assert (2, 2, 2) == counts(await here.erased())


async def test_token_must_name_the_scope(service: Service) -> None:
    """Fails when a token without scopes may erase, as it may do everything else but act."""
    lacks = ("PERMISSION_DENIED", "SCOPE_MISSING")
    for scope in (None, "", "parley.read parley.write", "parley.act", "parley.erased"):
        assert lacks == await refused(service.erase(scope=scope)), scope
    assert (await service.erase(scope="parley.read parley.erase")).HasField("start_time")


async def test_owner_with_nothing_is_erased_too(service: Service, database_url: str) -> None:
    assert (0, 0, 0) == counts(await service.erased())
    assert {"erasure": 1} == rows_of(database_url, ADA)


async def test_two_erasures_at_once_on_two_workers_count_each_thing_once(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of three, while turns begin: every call is answered, and nothing old is left."""
    monkeypatch.setattr(erasing, "BATCH", 3)
    monkeypatch.setattr(erasing, "HIDE", 4)
    workers = [await start_service(), await start_service()]
    for number in range(12):
        await workers[0].chat("x", request_id=f"r{number}")
    await workers[0].chat("theirs", user="bob")

    came = await gathered(
        *(workers[n % 2].erase(f"e{n % 4}") for n in range(8)),
        *(workers[n % 2].chat("y", request_id=f"s{n}") for n in range(10)),
    )
    assert [] == [one for one in came if isinstance(one, BaseException)]
    last = await workers[0].erased("last")
    receipts = [await workers[1].erased(f"e{n}") for n in range(4)]

    total = [sum(column) for column in zip(*map(counts, [*receipts, last]), strict=True)]
    assert [22, 44, 22] == total
    assert {"erasure": 5} == rows_of(database_url, ADA)
    assert 1 == len((await workers[0].conversations(user="bob")).conversations)


@pytest.mark.parametrize("name", ["parley-claims", "psql"])
@pytest.mark.writes_rows
async def test_conversation_that_is_being_created_is_waited_for(
    start_service: StartService, database_url: str, name: str
) -> None:
    """Fails without the wait: it is committed behind the last look, older than the erasure.

    Others' transactions are not waited for, or one that is forgotten would hold erasures up.
    """
    service = await start_service()
    identity = an_id()
    async with await psycopg.AsyncConnection.connect(database_url, application_name=name) as held:
        await held.execute(
            """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                   preview, fence) VALUES (%s, %s, '', 'ada', '', 0, '', 0)""",
            [ADA, identity],
        )
        call = asyncio.ensure_future(service.erase())
        await asyncio.wait([call], timeout=1)
        assert (name == "psql") == call.done()
    receipt = await call

    if name == "psql":
        assert pb.ERASURE_STATE_UNSPECIFIED != receipt.state
    else:
        assert GONE == await refused(service.conversation(identity))
        assert (1, 0, 0) == counts(await service.erased())


async def test_fork_that_is_made_meanwhile_goes_with_its_source(
    start_service: StartService, database_url: str
) -> None:
    """Fails when forks are told apart by their own time alone: what they copied was there before.

    The erasure is held up between its beginning and its first look.
    """
    service = await start_service()
    source = (await service.chat("secret", request_id="r")).conversation_id
    async with await psycopg.AsyncConnection.connect(as_superuser(database_url)) as held:
        await held.execute("SELECT FROM conversation FOR UPDATE")
        call = asyncio.ensure_future(service.erase())
        await until_true(lambda: "erasure" in rows_of(database_url, ADA))
        fork = (await service.fork(source)).conversation.conversation_id
        another = (await service.fork(fork)).conversation.conversation_id
        created = (await service.create()).conversation.conversation_id
    await call

    for identity in (source, fork, another):
        assert GONE == await refused(service.history(identity))
    assert (3, 6, 1) == counts(await service.erased())
    assert {"erasure": 1, "conversation": 1, "owner": 1} == rows_of(database_url, ADA)
    assert created == (await service.conversation(created)).conversation_id


@pytest.mark.writes_rows
async def test_fork_that_is_being_made_while_its_source_is_hidden_is_waited_for(
    start_service: StartService, database_url: str
) -> None:
    """Fails when transactions are waited for that began before the erasure alone."""
    service = await start_service()
    source = (await service.chat("secret")).conversation_id
    fork = an_id()
    async with await psycopg.AsyncConnection.connect(
        database_url, application_name="parley-claims"
    ) as forking:
        async with await psycopg.AsyncConnection.connect(as_superuser(database_url)) as held:
            await held.execute("SELECT FROM conversation FOR UPDATE")
            call = asyncio.ensure_future(service.erase())
            await until_true(lambda: "erasure" in rows_of(database_url, ADA))
            await forking.execute(
                """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                       preview, fence, forked_from_id, forked_from_sequence)
                   VALUES (%s, %s, '', 'ada', '', 0, '', 0, %s, 0)""",
                [ADA, fork, source],
            )
        await asyncio.wait([call], timeout=1)
        assert not call.done()
    await call

    assert GONE == await refused(service.conversation(fork))
    assert (2, 2, 1) == counts(await service.erased())


async def test_erasure_that_lasts_beyond_midnight_leaves_no_usage(
    start_service: StartService, database_url: str
) -> None:
    """Fails when usage goes up to the day of its beginning: what is open then is closed later."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    identity = an_id()
    await service.create(conversation_id=identity, labels={"name": "ada"})
    chat = asyncio.ensure_future(service.chat(conversation_id=identity))
    await gate.entered.wait()
    run(database_url, "UPDATE conversation SET create_time = now() - interval '2 days'")
    run(
        database_url,
        """INSERT INTO erasure (owner_id, request_id, start_time)
           VALUES (%s, 'erase', now() - interval '1 day')""",
        ADA,
    )

    assert (1, 1, 1) == counts(await service.erased())
    assert GONE == await refused(chat)
    assert {"erasure": 1} == rows_of(database_url, ADA)


async def test_worker_that_closes_leaves_an_erasure_that_waits_to_another(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a worker waits with its shutdown for others' transactions."""
    service = await start_service()
    identity = (await service.chat()).conversation_id
    async with await psycopg.AsyncConnection.connect(
        database_url, application_name="parley-claims"
    ) as held:
        await held.execute("SELECT pg_current_xact_id()")
        run(database_url, "INSERT INTO erasure (owner_id, request_id) VALUES (%s, 'erase')", ADA)
        service.worker.erasing.wake()
        await until_true(lambda: "deletion" in rows_of(database_url, ADA))

        await asyncio.wait_for(service.worker.erasing.close(), 2)
    other = await start_service()

    assert (1, 2, 1) == counts(await other.erased())
    assert GONE == await refused(service.conversation(identity))


async def test_long_queues_are_erased_in_parts(
    start_service: StartService, database_url: str
) -> None:
    """Fails when what one statement leaves of a queue stays."""
    service = await start_service()
    for _ in range(2):
        identity = (await service.create()).conversation.conversation_id
        store_queue(database_url, ADA, identity, 700)

    assert (2, 0, 1400) == counts(await service.erased())
    assert {"erasure": 1} == rows_of(database_url, ADA)


@pytest.mark.writes_rows
async def test_erasure_of_little_does_not_wait_for_one_of_much(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a worker carries out one erasure to its end before it looks for others."""
    monkeypatch.setattr(erasing, "BATCH", 2)
    store_conversations(database_url, ADA, 20, 100)
    service = await start_service()
    await service.chat(user="bob")
    await service.erase()

    assert (1, 2, 1) == counts(await service.erased(user="bob"))
    assert pb.ERASURE_STATE_RUNNING == (await service.erase()).state


async def test_call_whose_time_is_over_is_carried_on(start_service: StartService) -> None:
    service = await start_service()
    identity = (await service.chat()).conversation_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.erase(timeout=0.001)
    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    await service.erase()

    await service.erased()

    assert GONE == await refused(service.conversation(identity))


async def test_turns_of_many_attempts_leave_no_events(
    start_service: StartService, database_url: str
) -> None:
    """A turn that is abandoned keeps its events until it is run again."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    stream = service.stream(request_id="r")
    reading = asyncio.ensure_future(anext(aiter(stream)))
    await gate.entered.wait()
    await reading
    turn = await service.turn(request_id="r")
    assert cpb.TURN_STATE_RUNNING == turn.state
    run(
        database_url,
        """INSERT INTO turn_event (owner_id, turn_id, attempt, index, text)
           VALUES (%s, %s, 1, 0, 'x')""",
        ADA,
        turn.turn_id,
    )

    assert (1, 1, 1) == counts(await service.erased())
    assert {"erasure": 1} == rows_of(database_url, ADA)


async def test_request_id_is_required_and_checked(service: Service) -> None:
    """Before anything is stored, and after the scope."""
    wrong = ("INVALID_ARGUMENT", "INVALID_REQUEST")
    for request_id in ("", "x" * 129, "a b", "ä", "a/b"):
        assert wrong == await refused(service.erase(request_id)), request_id
        lacks = ("PERMISSION_DENIED", "SCOPE_MISSING")
        assert lacks == await refused(service.erase(request_id, scope=None))
    identity = (await service.chat()).conversation_id
    assert (await service.conversation(identity)).last_sequence


async def test_backend_erases_the_user_it_acts_for(service: Service) -> None:
    await service.chat(user="ada")
    theirs = (await service.chat(user="backend")).conversation_id
    token = a_token("backend", scope="parley.act parley.erase")

    await service.stub.EraseOwner(
        pb.EraseOwnerRequest(request_id="erase"),
        timeout=20,
        metadata=(("authorization", f"Bearer {token}"), ("parley-user", "ada")),
    )

    assert not (await service.conversations(user="ada")).conversations
    assert (await service.conversation(theirs, user="backend")).last_sequence


async def test_erasure_is_logged_and_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parley.upkeep")
    counted: list[int] = []
    monkeypatch.setattr(service.worker.erasing, "_count", counted.append)
    await service.chat("a secret")

    await service.erased()

    assert 2 == sum(counted)
    (record,) = [one for one in caplog.records if one.message == "owner erased"]
    known = ("owner_id", "request_id", "conversations", "messages", "turns")
    assert (str(ADA), "erase", 1, 2, 1) == tuple(getattr(record, name) for name in known)
    assert "secret" not in caplog.text

"""WatchTurns: every turn that ends, once each, on any worker, from any cursor."""

import asyncio

import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentRefused
from parley_server.core.streams import feed
from parley_server.storage.signals import PostgresSignals
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.messages import system
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    a_token,
    an_id,
    reason_of,
    refused,
    until_true,
)
from support.streams import until_progress

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY

Update = pb.WatchTurnsResponse
STATES = {
    "COMPLETED": cpb.TURN_STATE_COMPLETED,
    "FAILED": cpb.TURN_STATE_FAILED,
    "CANCELLED": cpb.TURN_STATE_CANCELLED,
}


def run(database_url: str, statement: str) -> None:
    """Do something to the rows, as somebody whom no policy holds."""
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(statement)


async def test_feed_tells_what_has_ended_and_then_what_ends(service: Service) -> None:
    first = await service.chat("one")
    watch = service.watch_turns()
    told = await until_progress(watch)
    second = await service.chat("two")
    live = await watch.read()

    assert [first.turn_id] == [u.turn.turn_id for u in told[:-1]]
    assert STATES["COMPLETED"] == told[0].turn.state
    assert first.conversation_id == told[0].turn.conversation_id
    assert "" == told[0].user
    assert second.turn_id == live.turn.turn_id
    behind = await until_progress(service.watch_turns(after_cursor=told[0].cursor))
    assert [second.turn_id] == [u.turn.turn_id for u in behind[:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_feed_tells_of_turns_of_other_workers_within_a_second(
    start_service: StartService, notify: str
) -> None:
    one, two = [await start_service(notify=notify) for _ in range(2)]
    watch = one.watch_turns()
    await until_progress(watch)
    for n in range(3):
        chat = await two.chat(f"m{n}")
        async with asyncio.timeout(1.5):
            assert chat.turn_id == (await watch.read()).turn.turn_id


async def test_feed_tells_how_turns_ended(start_service: StartService) -> None:
    """A turn that failed and was run again is told twice, whenever the feed is read."""
    gate = Gate()
    tries = 0

    async def script(run):
        nonlocal tries
        said = run.window.messages[-1].content
        tries += said == "again"
        if said == "refused" or (said == "again" and tries == 1):
            raise AgentRefused
        if said == "cancelled":
            async for event in gate(run):
                yield event
            return
        async for event in ScriptedAgent().run(run):
            yield event

    service = await start_service(ScriptedAgent(script))
    watch = service.watch_turns()
    await until_progress(watch)
    assert "AGENT_REFUSED" == (await refused(service.chat("refused", request_id="r1")))[1]
    call = asyncio.ensure_future(service.chat("cancelled", request_id="r2"))
    await gate.entered.wait()
    await service.cancel(request_id="r2")
    await call
    assert "AGENT_REFUSED" == (await refused(service.chat("again", request_id="r3")))[1]
    failed = [await watch.read() for _ in range(3)]
    await service.chat("again", request_id="r3")
    live = [(u.turn.request_id, u.turn.state) for u in [*failed, await watch.read()]]
    late = (await until_progress(service.watch_turns()))[:-1]

    expected = ["FAILED", "CANCELLED", "FAILED", "COMPLETED"]
    assert [STATES[name] for name in expected] == [state for _, state in live]
    assert ["r1", "r2", "r3", "r3"] == [request_id for request_id, _ in live]
    assert live == [(u.turn.request_id, u.turn.state) for u in late]
    assert [1, 1, 1, 2] == [u.turn.attempt for u in late]
    assert "AGENT_REFUSED" == reason_of(late[2].turn)
    assert not late[2].turn.response_sequence


@pytest.mark.parametrize("is_same", [False, True])
async def test_feed_tells_an_abandoned_turn_once_another_call_finds_it(
    start_service: StartService, database_url: str, is_same: bool
) -> None:
    """Fails when the claim that overruns a lease, or the retry that takes it, leaves no row."""
    gate = Gate()
    one, two = await start_service(ScriptedAgent(gate)), await start_service()
    conversation_id = an_id()
    fields = {"conversation_id": conversation_id, "allow_missing": True}
    lost = asyncio.ensure_future(one.chat("lost", request_id="r1", **fields))
    await gate.entered.wait()
    run(database_url, "UPDATE conversation SET lease_expires_at = now() - interval '1 second'")
    if is_same:
        await two.chat("lost", request_id="r1", **fields)
    else:
        await two.chat("next", request_id="r2", **fields)
    gate.opened.set()
    await asyncio.gather(lost, return_exceptions=True)
    told = (await until_progress(two.watch_turns()))[:-1]

    assert ["TURN_ABANDONED", "UNSPECIFIED"] == [reason_of(u.turn) for u in told]
    assert ["r1", "r1" if is_same else "r2"] == [u.turn.request_id for u in told]
    assert [STATES["FAILED"], STATES["COMPLETED"]] == [u.turn.state for u in told]


async def test_feed_tells_at_once_of_a_started_turn_that_is_refused(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when no bell says that a turn has ended in the place of beginning."""
    monkeypatch.setattr(feed, "LOOK_WITH_SIGNALS_S", 10_000)
    service = await start_service()
    there = (await service.chat()).conversation_id
    watch = service.watch_turns(only_new=True)
    await until_progress(watch)

    late = (await service.start("late", conversation_id=there, expected_sequence=9)).turn

    told = await asyncio.wait_for(watch.read(), 5)
    assert (late.turn_id, "SEQUENCE_MISMATCH") == (told.turn.turn_id, reason_of(told.turn))


async def test_feed_tells_at_once_of_an_abandoned_turn_that_is_queued_again(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when StartTurn tells of it to the conversation's watches alone."""
    monkeypatch.setattr(feed, "LOOK_WITH_SIGNALS_S", 10_000)
    lost, held = Gate(), Gate()
    one, two = await start_service(ScriptedAgent(lost)), await start_service(ScriptedAgent(held))
    call = asyncio.ensure_future(one.chat("lost", request_id="r"))
    await lost.entered.wait()
    signals = [worker.worker.signals for worker in (one, two)]
    heard = [each for each in signals if isinstance(each, PostgresSignals)]  # none by pgbouncer
    await until_true(lambda: all(each.peers and each.is_quiet for each in heard))
    watch = two.watch_turns(only_new=True)
    await until_progress(watch)
    run(database_url, "UPDATE conversation SET lease_expires_at = now() - interval '1 second'")

    await two.start("lost", request_id="r")

    told = await asyncio.wait_for(watch.read(), 5)
    assert ("r", "TURN_ABANDONED") == (told.turn.request_id, reason_of(told.turn))
    lost.opened.set()
    held.opened.set()
    await asyncio.gather(call, return_exceptions=True)
    await two.until_turn(told.turn, "COMPLETED")


async def test_feed_tells_at_once_of_an_abandoned_turn_that_an_append_overruns(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when appending tells of it to the conversation's watches alone."""
    monkeypatch.setattr(feed, "LOOK_WITH_SIGNALS_S", 10_000)
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    there = an_id()
    call = asyncio.ensure_future(
        service.chat("lost", conversation_id=there, allow_missing=True, request_id="r")
    )
    await gate.entered.wait()
    watch = service.watch_turns(only_new=True)
    await until_progress(watch)
    run(database_url, "UPDATE conversation SET lease_expires_at = now() - interval '1 second'")

    await service.append(there, system("noted"))

    told = await asyncio.wait_for(watch.read(), 5)
    assert ("r", "TURN_ABANDONED") == (told.turn.request_id, reason_of(told.turn))
    gate.opened.set()
    await asyncio.gather(call, return_exceptions=True)


async def test_only_new_tells_what_ends_from_then_on(service: Service) -> None:
    await service.chat("old")
    watch = service.watch_turns(only_new=True)
    assert 1 == len(await until_progress(watch))
    new = await service.chat("new")

    assert new.turn_id == (await watch.read()).turn.turn_id
    cursor = (await service.watch_turns().read()).cursor
    given = await until_progress(service.watch_turns(only_new=True, after_cursor=cursor))
    assert [new.turn_id] == [u.turn.turn_id for u in given[:-1]], "a cursor comes first"


async def test_feed_of_labels_tells_turns_of_conversations_that_have_them(
    service: Service,
) -> None:
    made = await service.create(labels={"team": "blue", "kind": "x"})
    conversation_id = made.conversation.conversation_id
    await service.chat("other")
    chat = await service.chat("labelled", conversation_id=conversation_id)
    await service.chat("other")

    for labels, expected in (
        (["team=blue"], [chat.turn_id]),
        (["team=blue", "kind=x"], [chat.turn_id]),
        (["team=red"], []),
        (["team=blue", "kind=y"], []),
    ):
        told = (await until_progress(service.watch_turns(labels=labels)))[:-1]
        assert expected == [u.turn.turn_id for u in told], labels


async def test_feed_leaves_out_deleted_conversations(service: Service) -> None:
    """Fails without IS_THERE in FED_TURNS."""
    gone = await service.chat("gone")
    kept = await service.chat("kept")
    await service.delete(gone.conversation_id)
    told = await until_progress(service.watch_turns())

    assert [kept.turn_id] == [u.turn.turn_id for u in told[:-1]]


async def test_cursor_of_another_feed_or_altered_is_refused(service: Service) -> None:
    await service.chat("one")
    mine = (await until_progress(service.watch_turns()))[-1].cursor
    observer = a_token("ada", scope="parley.read parley.observe")
    theirs = (await until_progress(service.watch_turns(user="bob")))[-1].cursor
    tenants = await until_progress(service.watch_turns(token=observer, all_owners=True))
    wrong = ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")

    for cursor in (theirs, tenants[-1].cursor, mine[:-1] + "A" * (mine[-1] != "A"), "x", mine * 2):
        assert wrong == await refused(service.watch_turns(after_cursor=cursor).read()), cursor
    assert wrong == await refused(
        service.watch_turns(token=observer, all_owners=True, after_cursor=mine).read()
    )
    assert await until_progress(service.watch_turns(after_cursor=mine))


async def test_feed_of_a_tenant_needs_a_token_that_names_its_scope(service: Service) -> None:
    """Fails when a token without scopes, which may do everything else, may do this as well."""
    chats = {user: await service.chat(user=user) for user in ("ada", "bob")}
    for token in (a_token("eve"), a_token("eve", scope="parley.read parley.write")):
        call = service.watch_turns(token=token, all_owners=True)
        assert ("PERMISSION_DENIED", "SCOPE_MISSING") == await refused(call.read())
    observer = a_token("eve", scope="parley.observe")
    watch = service.watch_turns(token=observer, all_owners=True)
    told = (await until_progress(watch))[:-1]
    live = await service.chat(user="cid")

    assert {(user, c.turn_id) for user, c in chats.items()} == {
        (u.user, u.turn.turn_id) for u in told
    }
    assert ("cid", live.turn_id) == ((update := await watch.read()).user, update.turn.turn_id)
    assert ("PERMISSION_DENIED", "SCOPE_MISSING") == await refused(
        service.watch_turns(token=observer).read()
    )


async def test_no_other_owners_or_tenants_turns_are_told(start_service: StartService) -> None:
    """Promise 8. Fails without the owner, or without the tenant, in the feed's statements."""
    service = await start_service(auth_tenant_claim="tenant")

    async def chat(tenant: str, user: str) -> None:
        given = (("authorization", f"Bearer {a_token(user, tenant=tenant)}"),)
        await service.stub.Chat(pb.ChatRequest(message=f"{tenant} {user}"), metadata=given)

    everyone = [(tenant, user) for tenant in ("north", "south") for user in ("ada", "bob")]
    for tenant, user in everyone:
        await chat(tenant, user)
    for tenant in ("north", "south"):
        observer = a_token("eve", tenant=tenant, scope="parley.observe")
        told = await until_progress(service.watch_turns(token=observer, all_owners=True))
        assert ["ada", "bob"] == [u.user for u in told[:-1]]
        own = service.watch_turns(token=a_token("ada", tenant=tenant))
        assert 2 == len(await until_progress(own))


async def test_wrong_labels_are_named_before_anything_is_read(service: Service) -> None:
    for labels in (["team"], ["team=blue", "team=red"], ["Team=blue"], ["k=v", "x"]):
        call = service.watch_turns(labels=labels)
        assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(call.read()), labels

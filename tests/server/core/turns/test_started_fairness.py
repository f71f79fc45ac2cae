"""Who comes first where started turns wait: owners in turn, and callers before all of them."""

import asyncio

import psycopg
import pytest

from parley.v1 import conversation_pb2 as messages
from parley_server.core.model import Owner, QueueKey
from parley_server.core.turns.starting import BEGINS
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.services import PATIENCE_S, StartService, until_true

GREEDY = Owner.of("", "greedy").id
QUEUED = 10_000

_BACKLOG = """
CREATE TEMPORARY TABLE backlog AS
SELECT gen_random_uuid() AS id, gen_random_uuid() AS turn_id FROM generate_series(1, %(turns)s);
INSERT INTO owner (owner_id) VALUES (%(owner)s);
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    queue_length, queue_number)
SELECT %(owner)s, id, '', 'greedy', '', 0, '', 0, 1, 1 FROM backlog;
INSERT INTO turn (owner_id, id, conversation_id, fingerprint, agent, state, attempt, user_sequence,
    is_started)
SELECT %(owner)s, turn_id, id, '', '', 'QUEUED', 0, 0, true FROM backlog;
INSERT INTO turn_queue (owner_id, turn_id, conversation_id, position, message)
SELECT %(owner)s, turn_id, id, 1, 'hello' FROM backlog;
INSERT INTO queue_due (owner_id, conversation_id, turns) SELECT %(owner)s, id, 1 FROM backlog;
"""


def store_backlog(database_url: str) -> None:
    """Store what so many calls of StartTurn leave behind, each in a conversation of its own."""
    with psycopg.connect(
        as_superuser(database_url), cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute(_BACKLOG, {"turns": QUEUED, "owner": GREEDY})


def ended(database_url: str) -> int:
    with psycopg.connect(as_superuser(database_url)) as connection:
        found = connection.execute("SELECT count(*) FROM turn_feed WHERE owner_id = %s", [GREEDY])
        return int(found.fetchall()[0][0])


async def test_owner_with_10_000_turns_does_not_hold_up_another_owners_first(
    start_service: StartService, database_url: str
) -> None:
    """Fails when workers look at what is due the longest, whoever's it is: it comes last then."""
    store_backlog(database_url)
    service = await start_service(max_open_chats=8)
    async with asyncio.timeout(PATIENCE_S):
        while not ended(database_url):
            await asyncio.sleep(0.05)
    before = ended(database_url)
    async with asyncio.timeout(PATIENCE_S):
        turn = (await service.start("mine", user="modest")).turn
        await service.until_turn(turn, "COMPLETED", user="modest")

    assert ended(database_url) - before < QUEUED / 10


async def test_queues_that_meet_a_defect_keep_no_other_from_its_turn(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails when one ends the look: those that are due the longest come first in the next one."""
    service = await start_service(max_open_chats=20)
    starting = service.worker.starting
    with monkeypatch.context() as full:
        full.setattr(starting, "_most", 0)
        bad = [(await service.start(user=f"bad-{n}")).turn for n in range(BEGINS)]
        good = (await service.start("mine", user="modest")).turn
    begin, owners = starting._queue.begin, {Owner.of("", f"bad-{n}").id for n in range(BEGINS)}  # noqa: SLF001 - the test's subject

    async def broken(key: QueueKey) -> object:
        if key.owner_id in owners:
            raise KeyError("what was said")
        return await begin(key)

    with monkeypatch.context() as patched:
        patched.setattr(starting._queue, "begin", broken)  # noqa: SLF001 - the same
        starting.wake()
        async with asyncio.timeout(PATIENCE_S):
            await service.until_turn(good, "COMPLETED", user="modest")
        assert {"started turn not begun"} == {r.message for r in caplog.records if r.exc_info}
    for n, turn in enumerate(bad):
        await service.until_turn(turn, "COMPLETED", user=f"bad-{n}")


async def test_started_turn_waits_while_callers_have_all_places(
    start_service: StartService,
) -> None:
    """Fails when started turns have places of their own beside those of calls."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), max_open_chats=2, owner_share=1)
    calls = [asyncio.ensure_future(service.chat("hello")) for _ in range(2)]
    await until_true(lambda: len(service.worker.turns.attempts) == 2)
    turn = (await service.start("later")).turn
    await asyncio.sleep(0.3)
    named = {"conversation_id": turn.conversation_id, "turn_id": turn.turn_id}
    waiting = await service.turn(**named)
    gate.opened.set()
    for call in calls:
        await call
    await service.until_turn(turn, "COMPLETED")

    assert messages.TURN_STATE_QUEUED == waiting.state

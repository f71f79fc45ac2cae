"""Started turns beside what else happens to a conversation: appends, erasures, and the feed."""

import asyncio

import psycopg
import pytest
import uuid_utils.compat

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import ConversationNotFound
from parley_server.core.model import NewTurn, Owner, TurnRequest
from parley_server.storage.queue import PostgresQueue
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.messages import system
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    refused,
)

ADA = Owner.of("", "ada").id


async def running_and_queued(service: Service, gate: Gate) -> list[messages.Turn]:
    """Start two turns of one conversation, of which the first runs until the gate opens."""
    conversation_id = an_id()
    turns = [
        (
            await service.start(
                f"m{n}", conversation_id=conversation_id, request_id=f"r{n}", allow_missing=True
            )
        ).turn
        for n in range(2)
    ]
    await gate.entered.wait()
    return turns


async def test_acceptance_that_is_repeated_behind_a_deletion_comes_to_an_end(
    start_service: StartService,
) -> None:
    """Fails when it tries until the turn is found: it is not, for as long as its id is kept."""
    service = await start_service()
    store = service.worker.store
    queue = PostgresQueue(store, lease_s=30)
    new = NewTurn.of(TurnRequest(None, "hello"), b"", uuid_utils.compat.uuid7)
    owner = Owner.of("", "ada")
    accepted = await queue.accept(owner, new)
    await service.delete(str(accepted.conversation_id))

    with pytest.raises(ConversationNotFound):
        await asyncio.wait_for(queue.accept(owner, new), 5)


async def test_append_waits_for_started_turns_that_were_first(start_service: StartService) -> None:
    """Fails when an append asks only whether a turn is open: it gets between the two turns."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    turns = await running_and_queued(service, gate)
    conversation_id = turns[0].conversation_id
    waiting = asyncio.ensure_future(
        service.append(conversation_id, system("noted"), on_busy=pb.ON_BUSY_WAIT)
    )
    in_progress = ("ABORTED", "TURN_IN_PROGRESS")
    assert in_progress == await refused(service.append(conversation_id, system("refused")))
    gate.opened.set()

    added = await waiting
    said = [m.content for m in (await service.history(conversation_id)).messages]
    assert ["m0", "M0", "m1", "M1", "noted"] == said
    assert (5, 5) == (added.first_sequence, added.last_sequence)


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_erasure_ends_started_turns_and_leaves_nothing_of_them(
    start_service: StartService, database_url: str
) -> None:
    """Fails when the queue of an erased conversation is forgotten: its turns would begin."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    turns = await running_and_queued(service, gate)
    await service.erased()

    gone = ("NOT_FOUND", "TURN_NOT_FOUND")
    for turn in turns:
        named = {"conversation_id": turn.conversation_id, "turn_id": turn.turn_id}
        assert gone == await refused(service.turn(**named))
    with psycopg.connect(as_superuser(database_url)) as connection:
        for table in ("turn", "turn_queue", "queue_due", "turn_feed"):
            count = f"SELECT count(*) FROM {table} WHERE owner_id = %s"
            assert (0,) == connection.execute(count.encode(), [ADA]).fetchone(), table


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_feed_tells_how_started_turns_ended(start_service: StartService) -> None:
    """Answered, cancelled before it began, and refused when it was to begin."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    watch = service.watch_turns()
    assert (await watch.read()).HasField("progress")
    first, second = await running_and_queued(service, gate)
    refused_turn = (
        await service.start("late", conversation_id=first.conversation_id, expected_sequence=1)
    ).turn
    await service.cancel(conversation_id=second.conversation_id, turn_id=second.turn_id)
    cancelled = (await watch.read()).turn
    gate.opened.set()
    told = {turn.turn_id: turn for turn in [(await watch.read()).turn for _ in range(2)]}

    assert (second.turn_id, messages.TURN_STATE_CANCELLED) == (cancelled.turn_id, cancelled.state)
    assert messages.TURN_STATE_COMPLETED == told[first.turn_id].state
    assert messages.TURN_STATE_FAILED == told[refused_turn.turn_id].state

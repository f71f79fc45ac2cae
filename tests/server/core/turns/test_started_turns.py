"""Turns that are started: accepted now, run by any worker, without a caller."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentRefused
from parley_server.core.model import AgentEvent, AgentRun
from parley_server.storage.queue import PostgresQueue
from support.agents import Gate, ScriptedAgent, Speaker, say_back
from support.databases import as_superuser
from support.services import (
    GONE,
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    info_of,
    reason_of,
    refused,
)

DONE = ("COMPLETED", "FAILED", "CANCELLED")
QUEUED = messages.TURN_STATE_QUEUED


class Held:
    """A script that holds what is said as "hold", and notes what it was asked in which order."""

    def __init__(self, *others: str) -> None:
        """Hold what begins like others, too."""
        self.held = ("hold", *others)
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.asked: list[tuple[str, str]] = []
        self.fails: list[Exception] = []

    async def __call__(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        said = run.window.messages[-1].content
        self.asked.append((run.owner.user, said))
        if self.fails:
            raise self.fails.pop()
        if said.startswith(self.held):
            self.entered.set()
            await self.opened.wait()
        async for event in say_back(run):
            yield event


async def said_in(service: Service, conversation_id: str) -> list[str]:
    return [m.content for m in (await service.history(conversation_id)).messages]


async def held(service: Service, script: Held, **fields: Any) -> messages.Turn:
    """Start a turn that runs until the script is opened."""
    started = await service.start("hold", conversation_id=an_id(), allow_missing=True, **fields)
    await script.entered.wait()
    return started.turn


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_started_turn_is_answered_without_a_caller(start_service: StartService) -> None:
    service = await start_service()

    started = await service.start("hello", request_id="r")

    assert (QUEUED, 0, False) == (started.turn.state, started.turn.user_sequence, started.replayed)
    ended = await service.until_turn(started.turn, *DONE)
    assert (messages.TURN_STATE_COMPLETED, 1, 2) == (
        ended.state,
        ended.user_sequence,
        ended.response_sequence,
    )
    answer = await service.chat("hello", request_id="r")
    assert ("HELLO", True) == (answer.response, answer.replayed)
    listed = (await service.conversations()).conversations
    assert [("hello", "")] == [(c.title, c.open_turn_id) for c in listed]


async def test_turns_of_a_conversation_begin_in_the_order_of_their_acceptance(
    start_service: StartService,
) -> None:
    """Fails when a turn is begun that is not the first of its queue."""
    service, other = await start_service(), await start_service()
    conversation_id = an_id()
    turns = [
        (
            await (service, other)[n % 2].start(
                f"m{n}", conversation_id=conversation_id, allow_missing=True
            )
        ).turn
        for n in range(10)
    ]
    for turn in turns:
        await service.until_turn(turn, "COMPLETED")

    expected = [text for n in range(10) for text in (f"m{n}", f"M{n}")]
    assert expected == await said_in(service, conversation_id)


async def test_turns_accepted_at_once_are_each_run_once(start_service: StartService) -> None:
    """Fails when a queue is read as it was before its conversation was locked."""
    service, other = await start_service(), await start_service()
    conversation_id = an_id()

    async def start(n: int) -> messages.Turn:
        worker = (service, other)[n % 2]
        fields = {"conversation_id": conversation_id, "allow_missing": True}
        return (await worker.start(f"m{n}", **fields)).turn

    found = await asyncio.gather(*(start(n) for n in range(20)))
    for turn in found:
        await service.until_turn(turn, "COMPLETED")

    said = await said_in(service, conversation_id)
    assert {f"m{n}" for n in range(20)} == set(said[::2])
    assert [text.upper() for text in said[::2]] == said[1::2]
    assert 40 == len(said)


@pytest.mark.parametrize("limits", [{}, {"max_turns_per_minute": 100}])
async def test_accepted_turn_is_returned_as_it_is_read(
    start_service: StartService, limits: dict[str, int]
) -> None:
    """It is not read again. In a new conversation, one that is there, and one under a new id."""
    script = Held()
    service = await start_service(ScriptedAgent(script), max_open_chats=1, **limits)
    turn = await held(service, script)
    accepted = [
        await service.start("one", request_id="r"),
        await service.start("two", conversation_id=turn.conversation_id),
        await service.start("three", conversation_id=an_id(), allow_missing=True),
    ]
    for one in accepted:
        named = {"conversation_id": one.turn.conversation_id, "turn_id": one.turn.turn_id}
        assert (await service.turn(**named)) == one.turn
        assert not one.replayed
    script.opened.set()
    for one in accepted:
        await service.until_turn(one.turn, "COMPLETED")


async def test_late_worker_does_not_answer_a_turn_that_is_queued_again(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when its fence still holds: the turn is answered, and stays first in its queue."""

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    late = asyncio.ensure_future(refused(service.chat("hello", request_id="r")))
    await gate.entered.wait()
    with monkeypatch.context() as patched:
        patched.setattr(PostgresQueue, "due", nothing)
        with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
            connection.execute("UPDATE conversation SET lease_expires_at = now()")
        turn = (await service.start("hello", request_id="r")).turn
        gate.opened.set()
        assert ("ABORTED", "LEASE_LOST") == await late

    ended = await service.until_turn(turn, *DONE)
    assert (messages.TURN_STATE_COMPLETED, 2) == (ended.state, ended.attempt)
    assert "NEXT" == (await service.chat("next", conversation_id=turn.conversation_id)).response


async def test_chat_waits_for_started_turns_that_were_first(start_service: StartService) -> None:
    """Fails when a claim does not look whether turns are queued: "last" comes before "second"."""
    script = Held()
    service = await start_service(ScriptedAgent(script))
    turn = await held(service, script)
    conversation_id = turn.conversation_id
    await service.start("second", conversation_id=conversation_id)
    waiting = asyncio.ensure_future(
        service.chat("last", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
    )
    busy = await refused(service.chat("other", conversation_id=conversation_id))
    script.opened.set()
    answer = await waiting

    assert ("ABORTED", "TURN_IN_PROGRESS") == busy
    assert 5 == answer.user_sequence
    assert ["hold", "second", "last"] == [said for _, said in script.asked]


async def test_chat_is_told_which_queued_turn_is_first(start_service: StartService) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script), max_open_chats=1)
    await held(service, script)
    waiting = (await service.start("second", request_id="r")).turn
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat("third", conversation_id=waiting.conversation_id)
    script.opened.set()

    assert waiting.turn_id == info_of(caught.value).metadata["turn_id"]
    await service.until_turn(waiting, "COMPLETED")


async def test_started_turn_waits_for_a_turn_of_chat(start_service: StartService) -> None:
    """Fails when nobody looks at the queue once a caller's turn has ended."""
    script = Held()
    service = await start_service(ScriptedAgent(script), lease_s=60)
    conversation_id = an_id()
    chat = asyncio.ensure_future(
        service.chat("hold", conversation_id=conversation_id, allow_missing=True)
    )
    await script.entered.wait()
    turn = (await service.start("next", conversation_id=conversation_id)).turn
    await asyncio.sleep(0.5)  # it is looked at, and left, meanwhile
    script.opened.set()
    await chat
    async with asyncio.timeout(10):
        ended = await service.until_turn(turn, *DONE)

    assert (messages.TURN_STATE_COMPLETED, 3) == (ended.state, ended.user_sequence)


async def test_owner_with_many_turns_does_not_hold_up_another_owners_first(
    start_service: StartService,
) -> None:
    """Fails when the longest due is begun first, whoever's it is."""
    script = Held()
    service = await start_service(ScriptedAgent(script), max_open_chats=2)
    first = await held(service, script, user="greedy")
    for n in range(30):
        await service.start(f"m{n}", user="greedy")
    turn = (await service.start("mine", user="modest")).turn
    script.opened.set()
    await service.until_turn(turn, "COMPLETED", user="modest")

    asked = [user for user, _ in script.asked]
    assert asked.index("modest") <= 2, asked
    await service.until_turn(first, "COMPLETED", user="greedy")


async def test_started_turns_leave_places_to_callers(start_service: StartService) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script), max_open_chats=4, owner_share=1)
    turns = [(await service.start("hold")).turn for _ in range(5)]
    await script.entered.wait()
    answers = await asyncio.gather(*(service.chat("quick") for _ in range(4)))
    running = service.worker.starting.running
    script.opened.set()
    for turn in turns:
        await service.until_turn(turn, "COMPLETED")

    assert ["QUICK"] * 4 == [answer.response for answer in answers]
    assert 2 >= running


# One request id


async def test_request_id_is_shared_with_chat_and_stream(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    other = await start_service(ScriptedAgent(speaker))
    turn = (await service.start("hello", request_id="r")).turn
    await speaker.entered.wait()
    stream = other.stream("hello", request_id="r")
    waiting = asyncio.ensure_future(other.chat("hello", request_id="r"))
    events = aiter(stream)
    begun = await anext(events)
    speaker.say("one ")
    first = await anext(events)
    speaker.say("two", None)
    rest = [event async for event in events]
    again = await service.start("hello", request_id="r")

    assert turn.turn_id == begun.started.turn_id
    assert "one " == first.chunk.text
    assert "one two" == rest[-1].completed.response == (await waiting).response
    assert (turn.turn_id, messages.TURN_STATE_COMPLETED, True) == (
        again.turn.turn_id,
        again.turn.state,
        again.replayed,
    )
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(
        service.start("other", request_id="r")
    )


async def test_chat_waits_for_its_turn_to_begin(start_service: StartService) -> None:
    script = Held("second")
    service = await start_service(ScriptedAgent(script))
    turn = await held(service, script)
    fields = {"conversation_id": turn.conversation_id, "request_id": "r"}
    queued = (await service.start("second", **fields)).turn
    chat = asyncio.ensure_future(service.chat("second", **fields))
    stream = service.stream("second", **fields)
    again = await service.start("second", **fields)
    script.opened.set()
    script.opened.clear()  # the second turn is held as well, until the stream has seen it begin
    events = [await anext(following := aiter(stream))]
    script.opened.set()
    answer = await chat
    events += [event async for event in following]

    assert (QUEUED, True, queued.turn_id) == (
        again.turn.state,
        again.replayed,
        again.turn.turn_id,
    )
    assert ("SECOND", queued.turn_id) == (answer.response, answer.turn_id)
    assert 3 == events[0].started.user_sequence
    assert "SECOND" == events[-1].completed.response


@pytest.mark.parametrize("rpc", ["start", "chat"])
async def test_failed_turn_is_run_again_on_request_only(
    start_service: StartService, rpc: str
) -> None:
    script = Held()
    script.fails = [AgentRefused()]
    service = await start_service(ScriptedAgent(script))
    turn = (await service.start("hello", request_id="r")).turn
    failed = await service.until_turn(turn, *DONE)
    if rpc == "chat":
        await service.chat("hello", request_id="r")
    else:
        again = await service.start("hello", request_id="r")
        assert (turn.turn_id, True) == (again.turn.turn_id, again.replayed)
    ended = await service.until_turn(turn, "COMPLETED")

    assert (messages.TURN_STATE_FAILED, "AGENT_REFUSED") == (failed.state, reason_of(failed))
    assert (2, 1) == (ended.attempt, ended.user_sequence)


async def test_failed_turn_does_not_hold_up_the_next_one(start_service: StartService) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script))
    turn = await held(service, script)
    fields = {"conversation_id": turn.conversation_id}
    second = (await service.start("second", request_id="r", **fields)).turn
    third = (await service.start("third", **fields)).turn
    script.fails = [AgentRefused()]
    script.opened.set()
    await service.until_turn(second, "FAILED")
    await service.until_turn(third, "COMPLETED")

    superseded = ("FAILED_PRECONDITION", "TURN_SUPERSEDED")
    assert superseded == await refused(service.start("second", request_id="r", **fields))


async def test_turn_that_has_no_attempt_left_is_refused(start_service: StartService) -> None:
    script = Held()
    script.fails = [AgentRefused(), AgentRefused()]
    service = await start_service(ScriptedAgent(script), max_attempts=2)
    turn = (await service.start("hello", request_id="r")).turn
    await service.until_turn(turn, "FAILED")
    await service.start("hello", request_id="r")
    await asyncio.sleep(0)
    ended = await service.until_turn(turn, "FAILED")

    assert "ATTEMPTS_EXHAUSTED" == reason_of(ended)
    exhausted = ("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED")
    assert exhausted == await refused(service.start("hello", request_id="r"))


# What is asked of the conversation


async def test_expected_sequence_is_checked_when_the_turn_begins(
    start_service: StartService,
) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script))
    turn = await held(service, script)
    fields = {"conversation_id": turn.conversation_id}
    right = (await service.start("right", expected_sequence=2, **fields)).turn
    wrong = (await service.start("wrong", expected_sequence=2, request_id="w", **fields)).turn
    last = (await service.start("last", expected_sequence=4, **fields)).turn
    script.opened.set()
    failed = await service.until_turn(wrong, *DONE)
    for one in (right, last):
        await service.until_turn(one, "COMPLETED")

    assert (messages.TURN_STATE_FAILED, "SEQUENCE_MISMATCH", 0) == (
        failed.state,
        reason_of(failed),
        failed.user_sequence,
    )
    assert ["hold", "right", "last"] == [said for _, said in script.asked]
    mismatch = ("ABORTED", "SEQUENCE_MISMATCH")
    for call in (service.chat, service.start):
        again = call("wrong", expected_sequence=2, request_id="w", **fields)
        assert mismatch == await refused(again)


async def test_conversation_that_is_not_there_is_not_found(service: Service) -> None:
    assert GONE == await refused(service.start("hello", conversation_id=an_id()))
    wrong = await refused(service.start(""))
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == wrong


async def test_queued_turns_go_with_their_conversation(start_service: StartService) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script), trash_days=1)
    turn = await held(service, script)
    fields = {"conversation_id": turn.conversation_id}
    waiting = (await service.start("second", request_id="r", **fields)).turn
    await service.delete(turn.conversation_id)
    gone = await refused(service.turn(turn_id=waiting.turn_id, **fields))
    again = await refused(service.start("second", request_id="r", **fields))
    script.opened.set()
    await service.undelete(turn.conversation_id)
    found = await service.turn(turn_id=waiting.turn_id, **fields)

    assert ("NOT_FOUND", "TURN_NOT_FOUND") == gone
    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == again
    assert messages.TURN_STATE_CANCELLED == found.state
    assert ["hold"] == [said for _, said in script.asked]


async def test_purge_leaves_nothing_of_turns_that_never_began(
    start_service: StartService,
) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script), max_open_chats=1)
    await held(service, script)
    waiting = (await service.start("second", request_id="r")).turn
    await service.delete(waiting.conversation_id)
    script.opened.set()

    again = await refused(service.start("second", request_id="r"))
    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == again


# Cancelling


async def test_cancel_before_a_turn_begins_leaves_no_message(start_service: StartService) -> None:
    """Fails when a turn that has not begun is given an answer, as a running one is."""
    script = Held()
    service = await start_service(ScriptedAgent(script))
    turn = await held(service, script)
    fields = {"conversation_id": turn.conversation_id}
    second = (await service.start("second", request_id="r", **fields)).turn
    third = (await service.start("third", **fields)).turn
    waiting = asyncio.ensure_future(service.chat("second", request_id="r", **fields))
    await asyncio.sleep(0.1)
    cancelled = await service.cancel(turn_id=second.turn_id, **fields)
    never_began = await refused(waiting)
    replayed = await service.start("second", request_id="r", **fields)
    again = await refused(service.chat("second", request_id="r", **fields))
    script.opened.set()
    await service.until_turn(third, "COMPLETED")

    assert (messages.TURN_STATE_CANCELLED, 0, 0) == (
        cancelled.state,
        cancelled.user_sequence,
        cancelled.response_sequence,
    )
    assert ("FAILED_PRECONDITION", "TURN_SUPERSEDED") == never_began == again
    assert (cancelled, True) == (replayed.turn, replayed.replayed)
    assert ["hold", "HOLD", "third", "THIRD"] == await said_in(service, turn.conversation_id)


async def test_cancel_while_a_started_turn_runs_and_after(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    turn = (await service.start("hello")).turn
    await speaker.entered.wait()
    speaker.say("so far")
    await asyncio.sleep(0.1)
    fields = {"conversation_id": turn.conversation_id, "turn_id": turn.turn_id}
    stopped = await service.cancel(**fields)
    again = await service.cancel(**fields)

    assert messages.TURN_STATE_CANCELLED == stopped.state == again.state
    assert ["hello", "so far"] == await said_in(service, turn.conversation_id)


async def test_cancel_against_a_begin_has_one_winner(start_service: StartService) -> None:
    service, other = await start_service(), await start_service()
    turns = await asyncio.gather(*(service.start(f"m{n}") for n in range(20)))
    ended = await asyncio.gather(
        *(
            other.cancel(conversation_id=t.turn.conversation_id, turn_id=t.turn.turn_id)
            for t in turns
        )
    )

    for turn in ended:
        said = await said_in(service, turn.conversation_id)
        never_began = (turn.state, turn.user_sequence) == (messages.TURN_STATE_CANCELLED, 0)
        assert (0 if never_began else 2) == len(said)


# Limits


async def test_queue_of_an_owner_is_bounded(start_service: StartService) -> None:
    script = Held()
    service = await start_service(ScriptedAgent(script), max_queued_turns=3)
    turn = await held(service, script)
    fields = {"conversation_id": turn.conversation_id}
    last = [(await service.start(f"m{n}", **fields)).turn for n in range(2)][-1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.start("beyond")
    assert (await service.start("hello", user="grace")).turn.turn_id
    script.opened.set()
    await service.until_turn(last, "COMPLETED")
    await service.until_turn((await service.start("again")).turn, "COMPLETED")

    info = info_of(caught.value)
    assert ("RESOURCE_EXHAUSTED", "QUEUE_FULL") == (caught.value.code().name, info.reason)
    assert "3" == info.metadata["max_queued_turns"]


async def test_queue_is_bounded_although_it_is_not_counted_each_time(
    start_service: StartService,
) -> None:
    """Fails when a worker counts once, and then no more: two workers get past the limit."""
    script = Held()
    limit = 80
    workers = [await start_service(ScriptedAgent(script), max_queued_turns=limit) for _ in range(2)]
    turn = await held(workers[0], script)
    fields = {"conversation_id": turn.conversation_id}
    accepted = 1
    for n in range(2 * limit):
        try:
            await workers[n % 2].start(f"m{n}", **fields)
        except grpc.aio.AioRpcError as error:
            assert "QUEUE_FULL" == info_of(error).reason
            break
        accepted += 1
    script.opened.set()
    await workers[0].until_turn(turn, "COMPLETED")

    assert limit == accepted


async def test_limits_of_turns_hold_at_the_acceptance(start_service: StartService) -> None:
    service = await start_service(max_turns_per_minute=2)
    turns = [(await service.start("hello", request_id=f"r{n}")).turn for n in range(2)]

    reached = ("RESOURCE_EXHAUSTED", "TURN_LIMIT_REACHED")
    assert reached == await refused(service.start("third"))
    assert (await service.start("hello", request_id="r0")).replayed
    for turn in turns:
        await service.until_turn(turn, "COMPLETED")

"""What ends the wait of a turn, and what becomes of one whose conversation or worker goes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner, WaitEnd, WaitKey
from support.databases import as_superuser
from support.messages import user
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    reason_of,
    refused,
    until_true,
)
from support.streams import Stream, rest_of
from support.waiting import WEATHER, AskingAgent, result

WAITING = messages.TURN_STATE_WAITING
CANCELLED = messages.TURN_STATE_CANCELLED
ADA = Owner.of("", "ada")
Condition = Callable[[], Awaitable[bool]]


async def asked(service: Service, **fields: Any) -> pb.ChatResponse:
    """Begin a turn that waits."""
    return await service.chat("hello", **{"request_id": "r", "tools": [WEATHER], **fields})


async def until(service: Service, state: int, **name: Any) -> messages.Turn:
    """Have a worker look for what is due until a turn has a state."""
    async with asyncio.timeout(20):
        while (turn := await service.turn(**(name or {"request_id": "r"}))).state != state:
            service.worker.expiring.wake()
            await asyncio.sleep(0.05)
    return turn


async def next_fed(feed: Stream) -> messages.Turn:
    """Return the next turn that a feed tells."""
    while not (update := await feed.read()).HasField("turn"):
        pass
    return update.turn


def rows_of(url: str, table: str) -> int:
    with psycopg.connect(as_superuser(url)) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.slow
@WITH_AND_WITHOUT_ROW_SECURITY
async def test_turn_that_has_waited_too_long_is_cancelled_by_any_worker(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service(AskingAgent(), waiting_s=1)
    other = await start_service(AskingAgent(), waiting_s=1)
    waits = await asked(service)

    turn = await until(other, CANCELLED)

    assert 2 == turn.response_sequence
    (call,) = (await service.history(waits.conversation_id)).messages[-1].tool_calls
    assert (
        "The turn waited too long for a result of this call and was cancelled.",
        True,
    ) == (call.result, call.is_error)
    assert ("FAILED_PRECONDITION", "CALL_NOT_PENDING") == await refused(
        service.resume(result(waits.pending_calls[0]), request_id="r")
    )
    assert 0 == rows_of(database_url, "wait_due")
    assert 0 == rows_of(database_url, "turn_wait WHERE calls IS NOT NULL OR content IS NOT NULL")


async def test_turn_that_meets_a_defect_keeps_no_other_one_waiting(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it ends the look: it is the first that is due at the next one, too."""
    service = await start_service(AskingAgent(), waiting_s=1)
    first = await asked(service, request_id="first")
    await asked(service, request_id="second")
    waits = service.worker.expiring.waits
    find = waits.find

    async def broken(key: WaitKey) -> object:
        if str(key.turn_id) == first.turn_id:
            raise KeyError("what was said")
        return await find(key)

    with monkeypatch.context() as patched:
        patched.setattr(waits, "find", broken)
        await until(service, CANCELLED, request_id="second")
        assert WAITING == (await service.turn(request_id="first")).state
    await until(service, CANCELLED, request_id="first")


async def test_turn_that_waits_anew_is_not_ended_for_its_earlier_wait(
    start_service: StartService,
) -> None:
    """Fails when a wait is ended without asking until when it lasts."""
    service = await start_service(AskingAgent((("weather",),) * 2))
    (pending,) = (await asked(service)).pending_calls
    await service.resume(result(pending), request_id="r")
    waits, store = service.worker.turns.attempts.ending, service.worker.store
    turn = await store.find(ADA, "r")
    assert turn is not None

    ended = await waits.end_cancelled(ADA, turn, WaitEnd.EXPIRED, only_if_over=True)

    assert ended is None
    assert WAITING == (await service.turn(request_id="r")).state


async def test_cancel_that_misses_an_attempt_is_recorded_with_the_next_one(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it is recorded once only: the turn waits at that moment, and then runs on."""
    entered, opened, again = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(run: Any) -> None:
        if run.attempt == 1:
            entered.set()
            await opened.wait()
        else:
            again.set()
            await asyncio.sleep(60)

    service = await start_service(AskingAgent(before=hold))
    asking = asyncio.ensure_future(asked(service))
    await entered.wait()
    record = service.worker.store.request_cancel
    calls: list[asyncio.Future[pb.ChatResponse]] = []

    async def late(*turn: Any) -> None:
        """Record it while the turn waits; then it is given what it waits for."""
        if not calls:
            opened.set()
            (pending,) = (await asking).pending_calls
            await record(*turn)
            calls.append(asyncio.ensure_future(service.resume(result(pending), request_id="r")))
            await again.wait()
        else:
            await record(*turn)

    monkeypatch.setattr(service.worker.store, "request_cancel", late)

    assert CANCELLED == (await service.cancel(request_id="r")).state
    assert messages.FINISH_REASON_CANCELLED == (await calls[0]).finish_reason


async def test_resumed_turn_that_is_cancelled_at_once_keeps_what_was_given(
    start_service: StartService,
) -> None:
    """Fails when the answer is only what the last attempt had told by then."""
    entered = asyncio.Event()

    async def hold(run: Any) -> None:
        if run.attempt == 2:
            entered.set()
            await asyncio.sleep(60)

    service = await start_service(AskingAgent(before=hold))
    (pending,) = (await asked(service)).pending_calls
    resuming = asyncio.create_task(service.resume(result(pending), request_id="r"))
    await entered.wait()
    await service.cancel(request_id="r")

    answer = await resuming
    assert (messages.FINISH_REASON_CANCELLED, "1. ") == (answer.finish_reason, answer.response)
    assert ["sunny"] == [call.result for call in answer.tool_calls]


async def test_worker_that_dies_while_it_ends_a_wait_leaves_that_to_others(
    start_service: StartService,
) -> None:
    """Between taking the turn and its answer: the calls get what they would have got."""
    service = await start_service(AskingAgent((("weather", "weather"),)), lease_s=1)
    waits = await asked(service)
    await service.resume(result(waits.pending_calls[0]), request_id="r")
    store, keeper = service.worker.store, service.worker.expiring
    turn = await store.find(ADA, "r")
    assert turn is not None
    assert await keeper.waits.end(ADA, turn, WaitEnd.REPLACED) is not None

    await until(service, CANCELLED)

    calls = (await service.history(waits.conversation_id)).messages[-1].tool_calls
    assert ["sunny", True] == [calls[0].result, "another message" in calls[1].result]
    assert [False, True] == [call.is_error for call in calls]


async def test_answer_of_a_wait_that_is_ended_is_no_larger_than_any_other(
    start_service: StartService,
) -> None:
    """Fails when all that was given is kept: no message has room for it, to be read or exported."""
    longest = 65_536
    service = await start_service(AskingAgent((("weather",) * 64,)))
    waits = await asked(service)
    for first in range(0, 63, 21):
        given = [result(call, "é" * (longest // 2)) for call in waits.pending_calls[first:][:21]]
        await service.resume(*given, request_id="r")

    await service.cancel(request_id="r")

    page = await service.history(waits.conversation_id, after_sequence=1)
    (answer,) = page.messages
    calls = answer.tool_calls
    texts = [answer.content, *(t for c in calls for t in (c.id, c.name, c.arguments, c.result))]
    assert 1024 * 1024 - longest < sum(len(text.encode()) for text in texts) <= 1024 * 1024
    assert 64 == len(calls)
    assert all(call.result for call in calls)
    assert [longest // 2, True] == [len(calls[0].result), calls[62].result.endswith("…[cut]")]
    assert "The turn was cancelled before this call had a result." == calls[63].result
    await service.append(an_id(), answer, allow_missing=True)


async def test_deletion_ends_the_wait(start_service: StartService, database_url: str) -> None:
    service = await start_service(AskingAgent())
    waits = await asked(service)

    await service.delete(waits.conversation_id)

    given = result(waits.pending_calls[0])
    assert ("NOT_FOUND", "TURN_NOT_FOUND") == await refused(service.resume(given, request_id="r"))
    assert 0 == rows_of(database_url, "wait_due")
    await until_true(lambda: rows_of(database_url, "turn_wait") == 0)


async def test_turn_of_a_conversation_that_is_brought_back_can_be_given_its_results(
    start_service: StartService,
) -> None:
    agent = AskingAgent((("weather", "weather"),))
    service = await start_service(agent, trash_days=1)
    waits = await asked(service)
    first, second = waits.pending_calls
    await service.resume(result(first), request_id="r")

    await service.delete(waits.conversation_id)
    await service.undelete(waits.conversation_id)

    turn = await service.turn(request_id="r")
    assert messages.TURN_STATE_FAILED == turn.state
    answer = await service.resume(result(first), result(second, "rainy"), request_id="r")
    assert "1. done: sunny, rainy" == answer.response
    (used,) = await service.usage()
    assert (1, 3, 0) == (used.turns, used.attempts, used.failed_attempts)


async def test_turn_that_waits_again_each_time_it_is_brought_back_uses_up_no_attempt(
    start_service: StartService,
) -> None:
    """Fails when such an attempt counts as one that has failed."""
    agent = AskingAgent()
    service = await start_service(agent, trash_days=1, max_attempts=1)
    waits = await asked(service)
    for _ in range(2):
        await service.delete(waits.conversation_id)
        await service.undelete(waits.conversation_id)
        again = await asked(service)
        assert waits.pending_calls == again.pending_calls

    answer = await service.resume(result(waits.pending_calls[0]), request_id="r")

    assert (4, "1. done: sunny") == (len(agent.runs), answer.response)


async def test_erasure_removes_what_turns_wait_for(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service(AskingAgent())
    await asked(service)
    await service.start("behind", conversation_id=an_id(), allow_missing=True, tools=[WEATHER])

    async with asyncio.timeout(20):
        while (await service.erase("e")).state != pb.ERASURE_STATE_DONE:
            service.worker.erasing.wake()
            await asyncio.sleep(0.05)

    for table in ("turn_wait", "wait_due", "turn_queue", "turn_step", "turn"):
        assert 0 == rows_of(database_url, table), table


async def test_fork_ends_before_a_turn_that_waits(start_service: StartService) -> None:
    agent = AskingAgent(())
    service = await start_service(agent)
    first = await service.chat("hello")
    agent.rounds = (("weather",),)
    await asked(service, conversation_id=first.conversation_id)

    forked = await service.fork(first.conversation_id)

    assert 2 == forked.conversation.last_sequence


@pytest.mark.parametrize("is_appended", [False, True], ids=["chat", "append"])
async def test_message_behind_a_turn_that_has_failed_forgets_its_wait(
    start_service: StartService, database_url: str, is_appended: bool
) -> None:
    """Once the conversation has gone on, what the turn waited for is of no use."""
    service = await start_service(AskingAgent(), trash_days=1)
    waits = await asked(service)
    await service.delete(waits.conversation_id)
    await service.undelete(waits.conversation_id)

    if is_appended:
        await service.append(waits.conversation_id, user("behind"))
    else:
        await asked(service, conversation_id=waits.conversation_id, request_id="s")

    left = 0 if is_appended else 1
    await until_true(lambda: rows_of(database_url, "turn_wait WHERE calls IS NOT NULL") == left)
    given = result(waits.pending_calls[0])
    assert ("FAILED_PRECONDITION", "CALL_NOT_PENDING") == await refused(
        service.resume(given, request_id="r")
    )


@pytest.mark.slow
@WITH_AND_WITHOUT_ROW_SECURITY
async def test_started_turn_stays_first_while_it_waits(
    start_service: StartService, database_url: str
) -> None:
    agent = AskingAgent()
    service, other = await start_service(agent), await start_service(agent)
    there = an_id()
    started = (
        await service.start(
            "hello", conversation_id=there, allow_missing=True, tools=[WEATHER], request_id="r"
        )
    ).turn
    waits = await service.until_turn(started, "WAITING")
    behind = (await service.start("behind", conversation_id=there, tools=[WEATHER])).turn
    assert ["weather"] == [tool.name for tool in agent.runs[0].tools]

    # Nobody looks at the queue until the wait has ended.
    far_away = "queue_due WHERE due_time > now() + interval '1 year'"
    await until_true(lambda: rows_of(database_url, far_away) == 1)
    assert (
        messages.TURN_STATE_QUEUED
        == (await service.turn(conversation_id=there, turn_id=behind.turn_id)).state
    )

    answer = await other.resume(result(waits.pending_calls[0]), request_id="r")
    assert "1. done: sunny" == answer.response
    behind = await service.until_turn(behind, "WAITING")
    turn = await service.cancel(conversation_id=there, turn_id=behind.turn_id)
    assert CANCELLED == turn.state
    assert 0 == rows_of(database_url, "turn_queue")


async def test_started_turn_goes_on_without_the_caller_of_the_resume(
    start_service: StartService,
) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    async def hold(_: Any) -> None:
        entered.set()
        await opened.wait()

    agent = AskingAgent(at_end=hold)
    service = await start_service(agent)
    started = (await service.start("hello", tools=[WEATHER], request_id="r")).turn
    waits = await service.until_turn(started, "WAITING")

    resuming = asyncio.create_task(service.resume(result(waits.pending_calls[0]), request_id="r"))
    await entered.wait()
    resuming.cancel()
    await asyncio.wait([resuming])
    await asyncio.sleep(0.2)
    opened.set()

    assert 2 == (await service.until_turn(started, "COMPLETED")).attempt
    assert 2 == len(agent.runs)


@pytest.mark.parametrize("goes_on", [False, True], ids=["cancel", "continue"])
async def test_resumed_turn_whose_caller_is_lost_does_as_the_call_says(
    start_service: StartService, goes_on: bool
) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    async def hold(_: Any) -> None:
        entered.set()
        await opened.wait()

    agent = AskingAgent(at_end=hold)
    service = await start_service(agent)
    (pending,) = (await asked(service)).pending_calls
    mode = pb.ON_DISCONNECT_CONTINUE if goes_on else pb.ON_DISCONNECT_CANCEL
    resuming = asyncio.create_task(
        service.resume(result(pending), request_id="r", on_disconnect=mode)
    )
    await entered.wait()
    resuming.cancel()
    await asyncio.wait([resuming])
    if not goes_on:
        turn = await service.turn(request_id="r")
        while turn.state != messages.TURN_STATE_FAILED:
            await asyncio.sleep(0.02)
            turn = await service.turn(request_id="r")
        assert "CALLER_LOST" == reason_of(turn)
    opened.set()

    answer = await service.resume(result(pending), request_id="r")

    assert "1. done: sunny" == answer.response
    assert (2 if goes_on else 3) == len(agent.runs)


async def test_turn_behind_one_of_chat_that_waits_begins_once_that_has_ended(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service(AskingAgent())
    waits = await asked(service, conversation_id=(there := an_id()), allow_missing=True)
    behind = (await service.start("behind", conversation_id=there)).turn
    far_away = "queue_due WHERE due_time > now() + interval '1 year'"
    await until_true(lambda: rows_of(database_url, far_away) == 1)
    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(
        service.chat("x", conversation_id=there, on_busy=pb.ON_BUSY_REPLACE)
    )
    assert WAITING == (await service.turn(request_id="r")).state

    await service.resume(result(waits.pending_calls[0]), request_id="r")

    await service.until_turn(behind, "WAITING")


async def test_watches_and_the_feed_tell_that_a_turn_waits(start_service: StartService) -> None:
    service = await start_service(AskingAgent())
    waits = await asked(service)
    watch = service.watch(waits.conversation_id)
    feed = service.watch_turns()

    (pending,) = waits.pending_calls
    async for update in watch:
        if update.HasField("turn"):
            break
    assert (WAITING, [pending]) == (update.turn.state, list(update.turn.pending_calls))
    told = await next_fed(feed)
    assert (WAITING, [pending]) == (told.state, list(told.pending_calls))
    assert told.wait_end_time == update.turn.wait_end_time

    await service.resume(result(pending), request_id="r")

    async for update in watch:
        if update.HasField("turn") and update.turn.state == messages.TURN_STATE_COMPLETED:
            break
    ended = await next_fed(feed)
    assert (messages.TURN_STATE_COMPLETED, 2) == (ended.state, ended.attempt)
    later = service.watch_turns()
    states = [await next_fed(later) for _ in range(2)]
    assert [(WAITING, 1, 0), (messages.TURN_STATE_COMPLETED, 2, 0)] == [
        (turn.state, turn.attempt, len(turn.pending_calls)) for turn in states
    ]


async def test_stream_that_is_attached_ends_with_what_the_turn_waits_for(
    start_service: StartService,
) -> None:
    opened = asyncio.Event()

    async def hold(_: Any) -> None:
        await opened.wait()

    service, other = await start_service(AskingAgent(before=hold)), await start_service()
    first = service.stream("hello", request_id="r", tools=[WEATHER])
    await first.read()
    attached = other.stream("hello", request_id="r", tools=[WEATHER])
    seen = asyncio.create_task(rest_of(attached))
    await asyncio.sleep(0.2)
    opened.set()

    pending = list((await rest_of(first))[-1].completed.pending_calls)
    assert pending == list((await seen)[-1].completed.pending_calls)
    assert 1 == len(pending)

"""Promises 2, 3 and 4 under a crowd: once, one at a time, ordered."""

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core import bells
from parley_server.core import call as calls
from parley_server.core.bells import Bells
from support.agents import Gate, ScriptedAgent
from support.services import StartService, an_id, gathered, info_of, refused

CROWD = 200


async def test_crowd_that_does_not_wait_is_refused_and_told_who_holds_it(
    start_service: StartService,
) -> None:
    """Fails when the claim does not test the lock it took: two turns are then open at once."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    calls = [
        asyncio.ensure_future(
            service.chat(
                f"m{n}", conversation_id=conversation_id, allow_missing=True, request_id=f"r{n}"
            )
        )
        for n in range(CROWD)
    ]
    await gate.entered.wait()
    while sum(call.done() for call in calls) < CROWD - 1:
        await asyncio.sleep(0.02)
    gate.opened.set()
    answers = await gathered(*calls)

    errors = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    winners = [a for a in answers if isinstance(a, pb.ChatResponse)]
    assert (CROWD - 1, 1) == (len(errors), len(winners))
    assert {"TURN_IN_PROGRESS"} == {info_of(e).reason for e in errors}
    assert {winners[0].turn_id} == {info_of(e).metadata["turn_id"] for e in errors}
    assert 2 == (await service.history(conversation_id)).last_sequence


@pytest.mark.slow
async def test_crowd_that_waits_is_answered_in_order_each_seeing_all_before(
    start_service: StartService,
) -> None:
    agent = ScriptedAgent()
    service = await start_service(agent, context_messages=1000)
    conversation_id = (await service.chat("first")).conversation_id
    answers = await asyncio.gather(
        *(
            service.chat(
                f"m{n}", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT, timeout=60
            )
            for n in range(CROWD)
        )
    )

    assert list(range(3, 3 + 2 * CROWD, 2)) == sorted(a.user_sequence for a in answers)
    by_sequence = sorted(answers, key=lambda a: a.user_sequence)
    assert [a.user_sequence for a in by_sequence] == [a.context.message_count for a in by_sequence]
    for run in agent.runs[1:]:
        said = [m.content for m in run.window.messages]
        assert said[:-1:2] == [text.lower() for text in said[1::2]]


async def test_waiting_calls_of_a_worker_start_in_the_order_they_came(
    start_service: StartService,
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    first = asyncio.ensure_future(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    waiting = []
    for n in range(10):
        waiting.append(
            asyncio.ensure_future(
                service.chat(f"m{n}", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
            )
        )
        while service.worker.turns.queued < n + 1:
            await asyncio.sleep(0.005)
    gate.opened.set()
    answers = await asyncio.gather(*waiting)
    await first

    assert [3 + 2 * n for n in range(10)] == [a.user_sequence for a in answers]


async def test_one_request_id_over_two_workers_is_one_turn(start_service: StartService) -> None:
    """Fails when the claim's INSERT has no ON CONFLICT on the request id."""
    agents = ScriptedAgent(), ScriptedAgent()
    services = [await start_service(agent) for agent in agents]
    conversation_id = (await services[0].chat("first")).conversation_id
    answers = await asyncio.gather(
        *(
            services[n % 2].chat("again", conversation_id=conversation_id, request_id="one")
            for n in range(CROWD)
        )
    )

    assert {(3, 4)} == {(a.user_sequence, a.response_sequence) for a in answers}
    assert 1 == len({a.turn_id for a in answers})
    assert {False: 1, True: CROWD - 1} == Counter(a.replayed for a in answers)
    assert 2 == sum(len(agent.runs) for agent in agents)


async def test_one_request_id_for_a_new_conversation_makes_one(start_service: StartService) -> None:
    services = [await start_service(ScriptedAgent()) for _ in range(2)]
    answers = await asyncio.gather(
        *(services[n % 2].chat("hello", request_id="one") for n in range(CROWD))
    )

    assert 1 == len({(a.conversation_id, a.turn_id) for a in answers})
    assert 1 == len((await services[0].conversations()).conversations)


async def test_call_that_comes_as_its_turn_ends_learns_of_it(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it shares a read that began before it listened: its bell has rung by then."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    store = service.worker.store
    claim, turn = store.claim, store.turn
    is_read, is_claimed, goes_on, is_returned = (asyncio.Event() for _ in range(4))

    async def slow_turn(*args: Any, **fields: Any) -> Any:
        found = await turn(*args, **fields)
        is_read.set()
        await is_returned.wait()
        return found

    async def slow_claim(*args: Any) -> Any:
        found = await claim(*args)
        is_claimed.set()
        await goes_on.wait()
        return found

    runs = asyncio.ensure_future(service.chat(request_id="r"))
    await gate.entered.wait()
    monkeypatch.setattr(bells, "LOOK_WITH_SIGNALS_S", 10_000)
    monkeypatch.setattr(store, "turn", slow_turn)
    waits = asyncio.ensure_future(service.chat(request_id="r"))
    await is_read.wait()
    monkeypatch.setattr(store, "claim", slow_claim)
    comes = asyncio.ensure_future(service.chat(request_id="r"))
    await is_claimed.wait()
    gate.opened.set()
    await runs
    goes_on.set()
    await asyncio.sleep(0.1)  # it waits for the read that runs
    is_returned.set()

    assert ["HELLO", "HELLO"] == [(await asyncio.wait_for(c, 5)).response for c in (waits, comes)]


async def test_what_a_standby_says_refuses_no_call_that_waits(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it is asked: it may not know the conversation yet."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    there = an_id()
    first = asyncio.ensure_future(service.chat(conversation_id=there, allow_missing=True))
    await gate.entered.wait()

    async def behind(*_: Any) -> list[Any]:
        """Answer as a standby that has not come so far."""
        return []

    def wait() -> asyncio.Future[pb.ChatResponse]:
        call = service.chat(conversation_id=there, on_busy=pb.ON_BUSY_WAIT)
        return asyncio.ensure_future(call)

    second = wait()
    while not service.worker.turns.queued:
        await asyncio.sleep(0.02)
    monkeypatch.setattr(service.worker.store.claiming, "read", behind)
    third = wait()
    while not third.done() and service.worker.turns.queued < 2:
        await asyncio.sleep(0.02)
    gate.opened.set()

    answers = await gathered(first, second, third)
    assert ["HELLO"] * 3 == [answer.response for answer in answers]


async def test_turn_on_another_worker_is_waited_for(start_service: StartService) -> None:
    gate = Gate()
    one, two = await start_service(ScriptedAgent(gate)), await start_service()
    conversation_id = an_id()
    first = asyncio.ensure_future(
        one.chat("a", conversation_id=conversation_id, allow_missing=True, request_id="r")
    )
    await gate.entered.wait()
    same = asyncio.ensure_future(
        two.chat("a", conversation_id=conversation_id, allow_missing=True, request_id="r")
    )
    next_one = asyncio.ensure_future(
        two.chat("b", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
    )
    await asyncio.sleep(0.1)
    assert not same.done()
    assert not next_one.done()
    gate.opened.set()

    assert (await first).turn_id == (await same).turn_id
    assert 3 == (await next_one).user_sequence


async def test_caller_that_stops_waiting_leaves_its_place(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    first = asyncio.ensure_future(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    waiting = [
        asyncio.ensure_future(
            service.chat(f"m{n}", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT)
        )
        for n in range(3)
    ]
    while service.worker.turns.queued < 3:
        await asyncio.sleep(0.005)
    waiting[0].cancel()
    while service.worker.turns.queued > 2:
        await asyncio.sleep(0.005)
    gate.opened.set()
    await asyncio.gather(first, *waiting[1:])

    assert 6 == (await service.history(conversation_id)).last_sequence
    assert 0 == service.worker.turns.queued


async def test_call_that_has_waited_too_long_starts_no_turn(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only a call that arrives is asked for its time: its turn is begun and stored."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    first = asyncio.ensure_future(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    waits = asyncio.Event()
    next_look_s = Bells.next_look_s

    def seen_waiting(bells: Bells) -> float:
        waits.set()
        return next_look_s(bells)

    monkeypatch.setattr(Bells, "next_look_s", seen_waiting)
    waiting = asyncio.ensure_future(
        refused(service.chat("too late", conversation_id=conversation_id, on_busy=pb.ON_BUSY_WAIT))
    )
    await waits.wait()
    monkeypatch.setattr(calls, "TOO_SHORT_S", 3600)  # all but the last second has passed
    gate.opened.set()
    await first

    assert ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT") == await waiting
    assert 2 == (await service.history(conversation_id)).last_sequence


async def test_lost_caller_hands_its_turn_to_the_one_that_waits_for_it(
    start_service: StartService,
) -> None:
    gate = Gate()
    agent = ScriptedAgent(gate)
    service = await start_service(agent)
    first = asyncio.ensure_future(service.chat("hello", request_id="r"))
    await gate.entered.wait()
    second = asyncio.ensure_future(service.chat("hello", request_id="r"))
    while not service.worker.bells.listeners():
        await asyncio.sleep(0.01)
    first.cancel()
    await gate.closed.wait()
    gate.opened.set()
    answer = await second

    assert "HELLO" == answer.response
    assert not answer.replayed
    turn = await service.turn(request_id="r")
    assert (cpb.TURN_STATE_COMPLETED, 2) == (turn.state, turn.attempt)

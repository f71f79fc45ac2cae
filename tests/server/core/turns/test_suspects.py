"""Turns whose worker went away: run one at a time, but taken over in time."""

import asyncio
import math
from contextlib import ExitStack
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.core.failures import Stop
from parley_server.core.model import Owner
from parley_server.core.ports import NO_METER
from parley_server.core.turns import suspects
from parley_server.core.turns.suspects import Suspects
from parley_server.storage.statements import sql
from support.agents import Gate, ScriptedAgent
from support.databases import as_superuser
from support.services import StartService, gathered, refused

PROMISE_5_S = 5.0
ADA = Owner.of("", "ada")


async def test_place_is_had_in_the_order_of_the_line() -> None:
    line = Suspects()
    first, second, third = (ExitStack() for _ in range(3))
    places = [exits.enter_context(line.place(2)) for exits in (first, second, third)]
    assert [True, False, False] == [place.done() for place in places]
    second.close()  # it has waited long enough
    assert [True, False, False] == [place.done() for place in places]
    first.close()
    assert places[2].done()
    third.close()


async def test_turn_abandoned_once_waits_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without the bound: one hanging turn would hold up all turns of a worker that died."""
    monkeypatch.setattr(suspects, "WAIT_S", 0.01)
    line = Suspects()
    with line.place(1), line.place(1) as place:
        await asyncio.wait_for(place, 5)


async def test_turn_abandoned_twice_never_begins_beside_another_suspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even beside those that have waited long enough: it may well take them with it."""
    monkeypatch.setattr(suspects, "WAIT_S", 0.01)
    line = Suspects()
    first, impatient = ExitStack(), ExitStack()
    first.enter_context(line.place(1))
    with line.place(2) as repeated:
        await asyncio.wait_for(impatient.enter_context(line.place(1)), 5)
        first.close()
        assert not repeated.done()
        impatient.close()
        assert repeated.done()


steps = st.lists(st.tuples(st.sampled_from(["come", "go"]), st.integers(0, 9)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_place_is_never_lost_and_never_had_twice(steps: list[tuple[str, int]]) -> None:
    """Whoever comes and goes, in whatever order: one runs while any is there."""

    async def play() -> None:
        line = Suspects()
        inside: list[tuple[ExitStack, asyncio.Future[None]]] = []
        for what, index in steps:
            if what == "come":
                exits = ExitStack()
                inside.append((exits, exits.enter_context(line.place(2))))
            elif inside:
                inside.pop(index % len(inside))[0].close()
            assert min(1, len(inside)) == sum(place.done() for _, place in inside)
        while inside:
            inside.pop()[0].close()
        with line.place(2) as place:
            assert place.done()

    asyncio.run(play())


def test_waiting_leaves_time_for_promise_5() -> None:
    """A look finds the end of the lease within 2 s; then the turn waits; then it is retaken."""
    from parley_server.core import bells

    assert bells.LOOK_WITH_SIGNALS_S + suspects.WAIT_S <= PROMISE_5_S - 0.5
    assert math.inf == suspects.REPEATED_WAIT_S


async def test_suspects_that_wait_lose_no_attempt(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a turn is retaken before it has the place: both are on their second attempt."""
    monkeypatch.setattr(suspects, "WAIT_S", math.inf)
    gates = {"one": Gate(), "two": Gate()}

    async def script(run):
        async for event in gates[run.window.messages[-1].content](run):
            yield event

    agent = ScriptedAgent(script)
    doomed = await start_service(agent)
    calls = [asyncio.ensure_future(refused(doomed.chat(m, request_id=m))) for m in gates]
    for gate in gates.values():
        await gate.entered.wait()
        gate.entered.clear()
    leases_pass(database_url)
    heir = await start_service(agent)
    again = {m: asyncio.ensure_future(heir.chat(m, request_id=m)) for m in gates}
    entered = {m: asyncio.ensure_future(gate.entered.wait()) for m, gate in gates.items()}
    await asyncio.wait(entered.values(), return_when=asyncio.FIRST_COMPLETED)
    runs = next(m for m in gates if entered[m].done())
    waits = next(m for m in gates if m != runs)
    attempts = {m: (await heir.turn(request_id=m)).attempt for m in gates}
    assert {runs: 2, waits: 1} == attempts
    assert not entered[waits].done()

    gates[runs].opened.set()
    await entered[waits]
    gates[waits].opened.set()
    assert ["ONE", "TWO"] == [(await again[m]).response for m in gates]
    assert [2, 2] == [(await heir.turn(request_id=m)).attempt for m in gates]
    assert {("ABORTED", "LEASE_LOST")} == set(await asyncio.gather(*calls))


async def test_second_call_for_a_waiting_turn_follows_the_attempt_of_another_worker(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a call in the line looks at nothing: it would wait for the place."""
    monkeypatch.setattr(suspects, "WAIT_S", math.inf)
    slow, quick = Gate(), Gate()

    async def script(run):
        gate = slow if run.window.messages[-1].content == "slow" else quick
        async for event in gate(run):
            yield event

    agent = ScriptedAgent(script)
    doomed = await start_service(agent)
    lost = [asyncio.ensure_future(refused(doomed.chat(m, request_id=m))) for m in ("slow", "quick")]
    for gate in (slow, quick):
        await gate.entered.wait()
        gate.entered.clear()
    leases_pass(database_url)
    here, there = await start_service(agent), await start_service(agent)
    holds = asyncio.ensure_future(here.chat("slow", request_id="slow"))
    await slow.entered.wait()
    waits = asyncio.ensure_future(here.chat("quick", request_id="quick"))
    quick.opened.set()
    assert "QUICK" == (await there.chat("quick", request_id="quick")).response

    answer = await waits
    assert ("QUICK", True) == (answer.response, answer.replayed)
    slow.opened.set()
    await holds
    await gathered(*lost)


async def test_drained_turn_takes_no_suspects_place(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a started turn that is no suspect stands in their line: it may run for minutes."""
    monkeypatch.setattr(suspects, "WAIT_S", math.inf)
    gates = {"drained": Gate(), "died": Gate()}

    async def script(run):
        async for event in gates[run.window.messages[-1].content](run):
            yield event

    service = await start_service(ScriptedAgent(script))
    await service.start("drained", request_id="drained")
    died = asyncio.ensure_future(refused(service.chat("died", request_id="died")))
    for gate in gates.values():
        await gate.entered.wait()
        gate.entered.clear()
    attempts = {a.ask.message: a for a in service.worker.turns.attempts}
    attempts["drained"].stop(Stop.WORKER_DRAINED)
    await gates["drained"].entered.wait()
    leases_pass(database_url, of=attempts["died"].lease.conversation_id)
    again = asyncio.ensure_future(service.chat("died", request_id="died"))

    await asyncio.wait_for(gates["died"].entered.wait(), 10)
    for gate in gates.values():
        gate.opened.set()
    await again
    await gathered(died)


@pytest.mark.slow
async def test_turn_whose_last_worker_was_drained_is_no_suspect(
    start_service: StartService, database_url: str
) -> None:
    """Fails when attempts before the last one count: it waits for their place."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    calls = []
    for _ in range(2):
        leases_pass(database_url)
        calls.append(asyncio.ensure_future(refused(service.chat(request_id="r"))))
        await gate.entered.wait()
        gate.entered.clear()
    running = await service.worker.store.find(ADA, "r")
    (attempt,) = service.worker.turns.attempts
    attempt.stop(Stop.WORKER_DRAINED)
    await gathered(*calls)

    turn = await service.worker.store.find(ADA, "r")
    assert running is not None
    assert turn is not None
    assert (2, 1) == (running.attempt, running.abandoned_attempts)
    assert (2, 0) == (turn.attempt, turn.abandoned_attempts)


async def test_started_turn_of_a_dead_worker_counts_as_taken_over(
    start_service: StartService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only turns are known for such that show why they failed: started ones do not."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    counted: list[str] = []
    monkeypatch.setattr(type(NO_METER), "taken_over", lambda _: counted.append("taken over"))
    turn = (await service.start(request_id="r")).turn
    await gate.entered.wait()
    leases_pass(database_url)
    gate.entered.clear()
    service.worker.starting.wake()
    await service.worker.store.claiming.run(
        sql.WAKE_QUEUE, {"owner": ADA.id, "conversation": UUID(turn.conversation_id)}
    )
    await gate.entered.wait()
    gate.opened.set()

    assert 2 == (await service.until_turn(turn, "COMPLETED")).attempt
    assert ["taken over"] == counted


def leases_pass(database_url: str, of: UUID | None = None) -> None:
    """Have the leases pass of all conversations, or of one."""
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(
            "UPDATE conversation SET lease_expires_at = now() WHERE id = coalesce(%s, id)", (of,)
        )

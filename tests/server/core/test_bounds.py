"""How often a turn is run: attempts in a row are bounded, and what a turn's end shows of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import grpc
import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley_server.core.errors import AgentRefused
from parley_server.core.model import AgentEvent, AgentRun, Text
from support.agents import Gate, ScriptedAgent, say_back
from support.databases import as_superuser
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    gathered,
    info_of,
    reason_of,
    refused,
)
from support.streams import rest_of

MAX_ATTEMPTS = 3
EXHAUSTED = ("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED")

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY


class Failing:
    """A script that fails until it is told not to."""

    def __init__(self) -> None:
        self.is_over = False

    async def __call__(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        if not self.is_over:
            yield Text("half a ")
            raise AgentRefused
        async for event in say_back(run):
            yield event


async def a_service(start_service: StartService, script: Callable[..., object]) -> Service:
    return await start_service(ScriptedAgent(script), max_attempts=MAX_ATTEMPTS)


async def fails_for_good(service: Service, request_id: str = "r") -> None:
    for _ in range(MAX_ATTEMPTS):
        refusal = await refused(service.chat(request_id=request_id))
        assert ("FAILED_PRECONDITION", "AGENT_REFUSED") == refusal


async def test_turn_is_run_no_more_often_in_a_row_than_it_may(start_service: StartService) -> None:
    """Fails when a new attempt is made whatever the count: the agent then answers."""
    script = Failing()
    service = await a_service(start_service, script)
    await fails_for_good(service)
    script.is_over = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(request_id="r")

    turn = await service.turn(request_id="r")
    assert EXHAUSTED == (caught.value.code().name, info_of(caught.value).reason)
    assert {"turn_id": turn.turn_id, "attempts": "3"} == dict(info_of(caught.value).metadata)
    assert "failed 3 times in a row" in (caught.value.details() or "")
    assert (cpb.TURN_STATE_FAILED, "ATTEMPTS_EXHAUSTED", caught.value.details(), 3) == (
        turn.state,
        reason_of(turn),
        turn.error_text,
        turn.attempt,
    )
    assert turn.HasField("end_time")
    assert EXHAUSTED == await refused(service.stream(request_id="r").read())


async def test_conversation_of_a_turn_that_is_given_up_is_free(start_service: StartService) -> None:
    script = Failing()
    service = await a_service(start_service, script)
    await fails_for_good(service)
    script.is_over = True
    conversation_id = (await service.turn(request_id="r")).conversation_id
    answer = await service.chat("next", conversation_id=conversation_id)

    assert ("NEXT", 2, 3) == (answer.response, answer.user_sequence, answer.response_sequence)
    assert ("FAILED_PRECONDITION", "TURN_SUPERSEDED") == await refused(service.chat(request_id="r"))
    assert "ATTEMPTS_EXHAUSTED" == reason_of(await service.turn(request_id="r"))


async def test_watch_shows_a_turn_that_is_given_up(start_service: StartService) -> None:
    service = await a_service(start_service, Failing())
    await fails_for_good(service)
    watch = service.watch((await service.turn(request_id="r")).conversation_id)
    async for update in watch:
        if update.WhichOneof("update") == "turn":
            break
    watch.cancel()

    assert "ATTEMPTS_EXHAUSTED" == reason_of(update.turn)
    assert update.turn.error_text


async def test_cancel_leaves_a_turn_that_is_given_up_as_it_is(start_service: StartService) -> None:
    service = await a_service(start_service, Failing())
    await fails_for_good(service)

    assert "ATTEMPTS_EXHAUSTED" == reason_of(await service.cancel(request_id="r"))


async def test_lost_callers_and_drains_do_not_count(
    start_service: StartService, database_url: str
) -> None:
    """Fails when every attempt counts: a bad network would take a turn from its caller."""
    gate = Gate()
    service = await a_service(start_service, gate)
    for n in range(1, 2 * MAX_ATTEMPTS):
        gate.entered.clear()
        gate.closed.clear()
        call = asyncio.ensure_future(service.chat(request_id="r"))
        await gate.entered.wait()
        if n % 2:
            call.cancel()
        else:
            service.worker.turns.attempts.end_all()
            assert ("UNAVAILABLE", "WORKER_DRAINED") == await refused(call)
        await failed(service, n)
    gate.opened.set()
    answer = await service.chat(request_id="r")

    assert "HELLO" == answer.response
    assert 2 * MAX_ATTEMPTS == (await service.turn(request_id="r")).attempt
    assert [(0, 0)] == counts(database_url)


async def test_what_does_not_count_does_not_forgive_either(start_service: StartService) -> None:
    """Attempts that failed stay counted behind one whose caller was lost."""
    script, gate = Failing(), Gate()

    async def turns_about(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        async for event in (gate if run.attempt == 2 else script)(run):
            yield event

    service = await a_service(start_service, turns_about)
    await refused(service.chat(request_id="r"))
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await gate.entered.wait()
    call.cancel()
    await failed(service, 2)
    assert "CALLER_LOST" == reason_of(await service.turn(request_id="r"))
    for _ in range(MAX_ATTEMPTS - 1):
        await refused(service.chat(request_id="r"))

    assert EXHAUSTED == await refused(service.chat(request_id="r"))
    assert MAX_ATTEMPTS + 1 == (await service.turn(request_id="r")).attempt


async def test_abandoned_attempts_count(start_service: StartService, database_url: str) -> None:
    """A worker that goes away writes nothing down: the next attempt counts it."""
    gate = Gate()
    calls = []
    for n in range(1, MAX_ATTEMPTS + 1):
        gate.entered.clear()
        service = await a_service(start_service, gate)
        calls.append(asyncio.ensure_future(service.chat(request_id="r", timeout=60)))
        await gate.entered.wait()
        assert [(n - 1, n - 1)] == counts(database_url)
        lease_passes(database_url)
        turn = await service.turn(request_id="r")
        expected = "TURN_ABANDONED" if n < MAX_ATTEMPTS else "ATTEMPTS_EXHAUSTED"
        assert (cpb.TURN_STATE_FAILED, expected) == (turn.state, reason_of(turn))

    assert EXHAUSTED == await refused(service.chat(request_id="r"))
    answer = await service.turn(request_id="r")
    assert MAX_ATTEMPTS == answer.attempt
    gate.opened.set()
    await gathered(*calls)


async def test_call_that_waits_is_told_when_the_last_attempt_has_failed(
    start_service: StartService,
) -> None:
    gate = Gate()

    async def script(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        async for _ in gate(run):
            raise AgentRefused
        yield Text("")

    service = await start_service(ScriptedAgent(script), max_attempts=1)
    first = asyncio.ensure_future(refused(service.chat(request_id="r")))
    await gate.entered.wait()
    others = [asyncio.ensure_future(refused(service.chat(request_id="r"))) for _ in range(5)]
    others += [asyncio.ensure_future(refused(rest_of(service.stream(request_id="r"))))]
    gate.opened.set()

    assert ("FAILED_PRECONDITION", "AGENT_REFUSED") == await first
    assert {EXHAUSTED} == set(await asyncio.gather(*others))


async def test_many_retries_at_once_make_no_more_attempts_than_there_are(
    start_service: StartService,
) -> None:
    """Fails when the count is looked at before the row is locked."""
    agent = ScriptedAgent(Failing())
    services = [await start_service(agent, max_attempts=MAX_ATTEMPTS) for _ in range(2)]
    await refused(services[0].chat(request_id="r"))
    for _ in range(3):
        await gathered(*(services[n % 2].chat(request_id="r") for n in range(20)))

    assert MAX_ATTEMPTS == len(agent.runs)
    assert EXHAUSTED == await refused(services[0].chat(request_id="r"))


# What the tests need


async def failed(service: Service, attempt: int) -> None:
    """Return once an attempt is written down as failed."""
    while True:
        turn = await service.turn(request_id="r")
        if turn.attempt == attempt and turn.state == cpb.TURN_STATE_FAILED:
            return
        await asyncio.sleep(0.01)


def counts(database_url: str) -> list[tuple[int, int]]:
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        return connection.execute("SELECT spent_attempts, abandoned_attempts FROM turn").fetchall()


def lease_passes(database_url: str) -> None:
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now()")

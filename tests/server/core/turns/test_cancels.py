"""A cancel that was recorded is never lost: whatever ends the turn, it ends as cancelled."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley_server.core.errors import AgentRefused, AgentTimeout, AgentUnavailable
from parley_server.storage.statements import sql
from support.agents import ScriptedAgent, Speaker
from support.databases import as_superuser
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    gathered,
    reason_of,
)
from support.streams import next_of, rest_of
from support.two_owners import OPEN_TURN, parameters, twins, with_names  # noqa: F401 - a fixture

SAID = "half a "

End = Callable[[Service, Speaker, Any], Awaitable[None]]


async def caller_is_lost(service: Service, speaker: Speaker, call: Any) -> None:
    call.cancel()


async def worker_is_drained(service: Service, speaker: Speaker, call: Any) -> None:
    service.worker.turns.attempts.end_all()


async def agent_raises(service: Service, speaker: Speaker, call: Any) -> None:
    speaker.say(ValueError("as the test says"))


async def agent_is_refused(service: Service, speaker: Speaker, call: Any) -> None:
    speaker.say(AgentRefused())


async def agent_is_too_slow(service: Service, speaker: Speaker, call: Any) -> None:
    speaker.say(AgentTimeout())


async def agent_is_away(service: Service, speaker: Speaker, call: Any) -> None:
    speaker.say(AgentUnavailable())


async def finish_breaks(service: Service, speaker: Speaker, call: Any) -> None:
    finish = service.worker.store.finish

    async def once(*_: Any, **__: Any) -> None:
        service.worker.store.finish = finish  # type: ignore[method-assign]
        raise RuntimeError("as the test says")

    service.worker.store.finish = once  # type: ignore[assignment]
    speaker.say(None)


ENDS = [
    caller_is_lost,
    worker_is_drained,
    agent_raises,
    agent_is_refused,
    agent_is_too_slow,
    agent_is_away,
    finish_breaks,
]


@pytest.mark.parametrize("is_stream", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("end", ENDS)
@WITH_AND_WITHOUT_ROW_SECURITY
async def test_recorded_cancel_wins_over_whatever_ends_the_turn(
    start_service: StartService, database_url: str, end: End, is_stream: bool
) -> None:
    """Fails when FAIL does not look at the turn that it locked: the turn is then FAILED."""
    speaker = Speaker()
    agent = ScriptedAgent(speaker)
    service = await start_service(agent)
    call = service.stream(request_id="r") if is_stream else service.chat(request_id="r")
    running = asyncio.ensure_future(rest_of(call) if is_stream else call)
    await speaker.entered.wait()
    speaker.say(SAID)
    await has_said(service)
    other = asyncio.ensure_future(service.chat(request_id="r"))
    record_cancel(database_url)
    await end(service, speaker, call if is_stream else running)
    answer = await service.chat(request_id="r")

    assert (SAID, cpb.FINISH_REASON_CANCELLED) == (answer.response, answer.finish_reason)
    turn = await service.turn(request_id="r")
    assert (cpb.TURN_STATE_CANCELLED, "UNSPECIFIED", 1) == (
        turn.state,
        reason_of(turn),
        turn.attempt,
    )
    assert SAID == (await other).response  # a second caller, attached meanwhile
    if end is not caller_is_lost:
        told = await running
        assert SAID == (told[-1].completed if is_stream else told).response
    else:
        await gathered(running)
    assert 1 == len(agent.runs)


async def test_finish_that_comes_first_wins_over_a_recorded_cancel(
    start_service: StartService, database_url: str
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await speaker.entered.wait()
    record_cancel(database_url)
    speaker.say("whole", None)

    assert "whole" == (await call).response
    assert cpb.TURN_STATE_COMPLETED == (await service.turn(request_id="r")).state


@pytest.mark.off_ledger
@pytest.mark.parametrize("is_failed", [False, True], ids=["abandoned", "failed"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["chat", "stream"])
async def test_recorded_cancel_wins_over_a_retake(
    start_service: StartService, database_url: str, is_stream: bool, is_failed: bool
) -> None:
    """Fails when a retake forgets the cancel: the agent runs again.

    The release before writes FAILED beside a recorded cancel; that counts as well.
    """
    speaker = Speaker()
    doomed = await start_service(ScriptedAgent(speaker))
    stream = doomed.stream(request_id="r")
    await next_of(stream, "started")
    speaker.say(SAID)
    await next_of(stream, "chunk")
    blind(doomed)
    record_cancel(database_url)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now()")
        if is_failed:
            connection.execute(
                "UPDATE turn SET state = 'FAILED', error_reason = 'WORKER_DRAINED',"
                " error_text = 'x', end_time = now()"
            )
            connection.execute(
                "UPDATE conversation SET open_turn_id = NULL, lease_expires_at = NULL"
            )
    agent = ScriptedAgent()
    heir = await start_service(agent)
    if is_stream:
        answer = (await rest_of(heir.stream(request_id="r")))[-1].completed
    else:
        answer = await heir.chat(request_id="r")

    assert (SAID, cpb.FINISH_REASON_CANCELLED) == (answer.response, answer.finish_reason)
    turn = await heir.turn(request_id="r")
    assert (cpb.TURN_STATE_CANCELLED, 1) == (turn.state, turn.attempt)
    assert [] == agent.runs
    history = await heir.history(answer.conversation_id)
    assert ["hello", SAID] == [message.content for message in history.messages]
    stream.cancel()


async def test_cancelled_turn_without_a_stream_loses_what_its_dead_worker_had(
    start_service: StartService, database_url: str
) -> None:
    """Its pieces were in the worker's memory only. The agent does not run again all the same."""
    speaker = Speaker()
    doomed = await start_service(ScriptedAgent(speaker))
    call = asyncio.ensure_future(doomed.chat(request_id="r"))
    await speaker.entered.wait()
    speaker.say(SAID)
    blind(doomed)
    record_cancel(database_url)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now()")
    agent = ScriptedAgent()
    answer = await (await start_service(agent)).chat(request_id="r")

    assert ("", cpb.FINISH_REASON_CANCELLED, 0) == (
        answer.response,
        answer.finish_reason,
        len(agent.runs),
    )
    speaker.say(None)
    await gathered(call)


async def test_waiting_call_gets_the_cancelled_answer_when_the_worker_dies(
    start_service: StartService, database_url: str
) -> None:
    speaker = Speaker()
    doomed = await start_service(ScriptedAgent(speaker))
    stream = doomed.stream(request_id="r")
    await next_of(stream, "started")
    speaker.say(SAID)
    await next_of(stream, "chunk")
    agent = ScriptedAgent()
    heir = await start_service(agent)
    attached = heir.stream(request_id="r")
    await next_of(attached, "started")
    await next_of(attached, "chunk")
    blind(doomed)
    record_cancel(database_url)
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now()")

    assert SAID == (await rest_of(attached))[-1].completed.response
    assert [] == agent.runs
    stream.cancel()


async def test_cancel_whose_signal_is_lost_is_noticed_with_the_heartbeat(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a renewal says only whether the lease is ours: the turn then runs to its end."""
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker), lease_s=1)
    while not service.worker.signals.are_live:
        await asyncio.sleep(0.01)
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await speaker.entered.wait()
    speaker.say(SAID)
    await has_said(service)
    record_cancel(database_url)

    assert SAID == (await call).response
    assert speaker.closed.is_set()


async def test_cancel_is_noticed_soon_where_no_signals_come(
    start_service: StartService, database_url: str
) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker), lease_s=3600, notify="poll")
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await speaker.entered.wait()
    record_cancel(database_url)

    assert cpb.FINISH_REASON_CANCELLED == (await call).finish_reason


# The statements


def test_failure_and_cancel_at_the_same_moment_are_told_apart_on_the_locked_row(
    twins: psycopg.Connection[Any],  # noqa: F811 - the fixture
    database_url: str,
) -> None:
    """Fails when FAIL decides by a row that it read before it had the lock."""
    twins.commit()
    with psycopg.connect(database_url, cursor_factory=psycopg.ClientCursor) as canceller:
        canceller.execute(with_names(sql.REQUEST_CANCEL), parameters("REQUEST_CANCEL"))
        found: list[Any] = []
        failing = threading.Thread(target=run, args=(twins, found))
        failing.start()
        wait_for_a_lock(database_url)
        canceller.commit()
        failing.join(20)

    assert [(True, 0)] == found
    states = twins.execute("SELECT DISTINCT state FROM turn WHERE id = %s", [OPEN_TURN])
    assert [("RUNNING",)] == states.fetchall()


def run(connection: psycopg.Connection[Any], found: list[Any]) -> None:
    found += connection.execute(with_names(sql.FAIL), parameters("FAIL")).fetchall()


def wait_for_a_lock(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchall():
            pass


# What the tests need


def record_cancel(database_url: str) -> None:
    """Record a cancel whose signal is lost: the worker that recorded it died."""
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        changed = connection.execute(
            "UPDATE turn SET cancel_requested_time = now() WHERE state = 'RUNNING'"
        )
        assert 1 == changed.rowcount


def blind(service: Service) -> None:
    """Let a worker look no more whether its turns are to be stopped, as one that hangs."""

    keeping = service.worker.turns.attempts.keeping
    keeping.close()
    keeping.heard = lambda topic: None  # type: ignore[method-assign]
    keeping.missed = lambda: None  # type: ignore[method-assign]


async def has_said(service: Service) -> None:
    """Return once the worker has taken a piece of the answer."""
    attempts = service.worker.turns.attempts
    while not any(attempt.transcript.answer().text for attempt in attempts):
        await asyncio.sleep(0.005)

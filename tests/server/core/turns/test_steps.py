"""Steps in the turn machine: what they cost, how long they are kept, and what they count for."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, Connection
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.errors import AgentUnavailable, StoreUnavailable
from parley_server.storage.statements import sql
from support.databases import as_superuser
from support.postgres_wire import PostgresWire, a_turns
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    StartService,
    gathered,
    reason_of,
    refused,
)
from support.two_owners import (
    DUE,
    FENCE,
    OPEN_TURN,
    OURS,
    parameters,
    twins,  # noqa: F401 - a fixture
    with_names,
)

MAX_ATTEMPTS = 3
AWAY = ("UNAVAILABLE", "AGENT_UNAVAILABLE")


class Working:
    """An agent that calls a tool so many times, one after the other."""

    def __init__(self, calls: int = 2) -> None:
        self.calls = calls
        self.fails_at: int | None = None
        """With as many results told, the model is away."""
        self.ran: list[int] = []
        self.entered, self.opened = asyncio.Event(), asyncio.Event()
        self.opened.set()
        model = FunctionModel(stream_function=self._speak)
        self.agent = PydanticAgent(Agent(model, tools=[self.work]), model)

    async def _speak(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        told = 0
        for part in (p for m in messages if isinstance(m, ModelRequest) for p in m.parts):
            told = (
                0 if isinstance(part, UserPromptPart) else told + isinstance(part, ToolReturnPart)
            )
        if told == self.fails_at:
            raise AgentUnavailable
        if told < self.calls:
            yield {0: DeltaToolCall("work", f'{{"n": {told}}}', tool_call_id=f"c{told}")}
        else:
            yield "done"

    async def work(self, n: int) -> str:
        """Do some work."""
        self.ran.append(n)
        self.entered.set()
        await self.opened.wait()
        return f"worked on {n}"


def steps(database_url: str) -> list[str]:
    with psycopg.connect(as_superuser(database_url)) as connection:
        found = connection.execute("SELECT kind FROM turn_step ORDER BY turn_id, number")
        return [kind for (kind,) in found.fetchall()]


async def test_turn_with_tools_is_one_statement_a_step_more(
    wire: PostgresWire, start_service: StartService
) -> None:
    """Fails when anything is read or written for steps beside storing each of them."""
    service = await start_service(Working().agent, **wire.settings)
    conversation_id = (await service.chat("one")).conversation_id
    wire.clear()
    await service.chat("two", conversation_id=conversation_id)

    stored = [sql.STORE_STEP.text] * 4
    named = [sql.CLAIM.text, sql.WINDOW.text, *stored, sql.FINISH_WITH_EVENTS.text]
    assert named == a_turns(wire.executed)


@WITH_AND_WITHOUT_ROW_SECURITY
@pytest.mark.parametrize("is_stream", [False, True], ids=["chat", "stream"])
async def test_failed_turn_goes_on_from_its_steps(
    start_service: StartService, database_url: str, is_stream: bool
) -> None:
    """Fails when steps are not kept with a failure, or kept with an answer."""
    working = Working()
    service = await start_service(working.agent)
    working.fails_at = 2
    assert AWAY == await refused(service.chat(request_id="r"))
    assert ["RESPONSE", "RESULT"] * 2 == steps(database_url)
    working.fails_at = None
    if is_stream:
        answer = [event async for event in service.stream(request_id="r")][-1].completed
    else:
        answer = await service.chat(request_id="r")

    assert ("done", [0, 1]) == (answer.response, working.ran)
    assert ["worked on 0", "worked on 1"] == [call.result for call in answer.tool_calls]
    assert 3 == answer.usage.model_requests
    assert [] == steps(database_url)
    # What each attempt has used is counted once.
    (row,) = await service.usage()
    assert (3, 2, 1, 1) == (
        row.usage.model_requests,
        row.attempts,
        row.failed_attempts,
        row.turns,
    )


async def test_attempts_with_a_new_step_do_not_count(start_service: StartService) -> None:
    """Fails when each counts: an agent that gets on would be given up."""
    working = Working(calls=2 * MAX_ATTEMPTS)
    service = await start_service(working.agent, max_attempts=MAX_ATTEMPTS)
    for told in range(1, 2 * MAX_ATTEMPTS):
        working.fails_at = told
        assert AWAY == await refused(service.chat(request_id="r"))
    working.fails_at = None

    assert "done" == (await service.chat(request_id="r")).response
    assert list(range(2 * MAX_ATTEMPTS)) == working.ran


async def test_attempts_without_a_new_step_are_bounded(start_service: StartService) -> None:
    working = Working()
    working.fails_at = 1
    service = await start_service(working.agent, max_attempts=MAX_ATTEMPTS)
    for _ in range(1 + MAX_ATTEMPTS):
        assert AWAY == await refused(service.chat(request_id="r"))

    exhausted = ("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED")
    assert exhausted == await refused(service.chat(request_id="r"))
    assert "ATTEMPTS_EXHAUSTED" == reason_of(await service.turn(request_id="r"))
    assert [0] == working.ran


async def test_lost_caller_behind_a_step_gives_no_attempt_more(
    start_service: StartService, database_url: str
) -> None:
    """-1, for the attempt that has stored a step, is never taken along to the next one."""
    working = Working()
    service = await start_service(working.agent, max_attempts=MAX_ATTEMPTS)
    working.opened.clear()
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await working.entered.wait()
    call.cancel()
    await gathered(call)
    while not reason_of(await service.turn(request_id="r")):
        await asyncio.sleep(0.01)
    working.opened.set()
    working.fails_at = 1
    await refused(service.chat(request_id="r"))
    with psycopg.connect(as_superuser(database_url)) as connection:
        found = connection.execute("SELECT spent_attempts FROM turn").fetchall()

    assert [(-1,)] == found, "it has stored the result"


async def test_steps_of_a_turn_that_is_passed_over_go(
    start_service: StartService, database_url: str
) -> None:
    working = Working()
    working.fails_at = 1
    service = await start_service(working.agent)
    await refused(service.chat(request_id="r"))
    conversation_id = (await service.turn(request_id="r")).conversation_id
    working.fails_at, working.calls = None, 0
    await service.chat("next", conversation_id=conversation_id)
    while steps(database_url):
        await asyncio.sleep(0.01)


async def test_tool_does_not_begin_while_its_step_cannot_be_stored(
    start_service: StartService,
) -> None:
    """Fails when the step is stored beside the tool: after a crash nobody knew that it ran."""
    working = Working()
    service = await start_service(working.agent)
    store = service.worker.store
    kept, tries = store.store_step, list[int]()

    async def away(*given: Any) -> bool:
        tries.append(len(working.ran))
        if len(tries) < 3:
            raise StoreUnavailable
        store.store_step = kept  # type: ignore[method-assign]
        return await kept(*given)

    store.store_step = away  # type: ignore[assignment, method-assign]
    answer = await service.chat(request_id="r")

    assert ("done", [0, 0, 0], [0, 1]) == (answer.response, tries, working.ran)


async def test_attempt_that_has_lost_its_lease_runs_no_further_tool(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a step is stored without a look at the fence: two attempts go on at once."""
    working = Working()
    service = await start_service(working.agent)
    working.opened.clear()
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await working.entered.wait()
    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute("UPDATE conversation SET fence = fence + 1")
    working.opened.set()
    await refused(call)

    assert [0] == working.ran
    assert ["RESPONSE"] == steps(database_url)


# The statements


def test_late_step_of_an_earlier_attempt_is_not_stored(
    twins: Connection[tuple[Any, ...]],  # noqa: F811 - the fixture
    database_url: str,
) -> None:
    """Fails with a lock that RECLAIM does not wait for: a step would take another one's number."""
    twins.execute("UPDATE conversation SET lease_expires_at = now() - interval '1 s'")
    twins.commit()
    found: list[Any] = []
    with psycopg.connect(database_url, cursor_factory=ClientCursor) as other:
        assert other.execute(with_names(sql.RECLAIM), parameters("RECLAIM")).fetchall()

        def late() -> None:
            given = parameters("STORE_STEP")
            found.append(twins.execute(with_names(sql.STORE_STEP), given).fetchall())

        storing = threading.Thread(target=late)
        storing.start()
        wait_for_a_lock(database_url)
        other.commit()
        storing.join(20)
    twins.commit()

    assert [[]] == found
    assert 1 == count(twins, OPEN_TURN)


def test_step_is_stored_once(twins: Connection[tuple[Any, ...]]) -> None:  # noqa: F811
    for _ in range(2):
        given = parameters("STORE_STEP")
        assert [(FENCE,)] == twins.execute(with_names(sql.STORE_STEP), given).fetchall()
    assert 2 == count(twins, OPEN_TURN)
    kept = twins.execute(
        "SELECT spent_attempts, abandoned_attempts FROM turn WHERE owner_id = %s AND id = %s",
        [OURS, OPEN_TURN],
    ).fetchall()
    assert [(-1, 0)] == kept


def test_steps_go_with_the_messages_of_a_deleted_conversation(
    twins: Connection[tuple[Any, ...]],  # noqa: F811
) -> None:
    (gone,) = twins.execute(
        "SELECT id FROM turn WHERE owner_id = %s AND conversation_id = %s", [OURS, DUE]
    ).fetchone() or (None,)
    assert 1 == count(twins, gone)
    twins.execute(with_names(sql.PURGE), parameters("PURGE"))

    assert 0 == count(twins, gone)


def count(connection: Connection[tuple[Any, ...]], turn_id: object) -> int:
    query = "SELECT count(*) FROM turn_step WHERE owner_id = %s AND turn_id = %s"
    found = connection.execute(query, [OURS, turn_id]).fetchone()
    assert found is not None
    return int(found[0])


def wait_for_a_lock(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchall():
            pass

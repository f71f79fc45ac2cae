"""Agents, what one was shown, and rehearsals, through both clients."""

import asyncio
import uuid
from contextlib import aclosing
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AgentRefused,
    AgentUnavailable,
    AsyncParleyClient,
    DeadlineExceeded,
    NoRehearsal,
    ParleyClient,
    ParleyError,
    StoreUnavailable,
    TurnNotFound,
    Unavailable,
    WindowIncomplete,
)
from parley_client.retries import RehearsalTries
from support.both_clients import Ask, Streaming, ask_async, ask_sync, through_async, through_sync
from support.scripted_server import Code, Refusal, never, scripted
from support.scripted_streams import PushedBack, streaming

UNAVAILABLE = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
AGENT_DOWN = Refusal(reason="AGENT_UNAVAILABLE", retry_s=0.01)
NOT_FOUND = Refusal(Code.NOT_FOUND, "TURN_NOT_FOUND")
AGENTS = pb.ListAgentsResponse(
    agents=[
        pb.Agent(name="echo", description="Repeats.", is_default=True, can_rehearse=True),
        pb.Agent(name="far", description="Elsewhere."),
    ]
)
EXPLAINED = pb.ExplainTurnResponse(
    turn=parts.Turn(turn_id="t", conversation_id="c"),
    messages=[pb.ShownMessage(sequence=1, role=parts.ROLE_USER, preview="Hello.")],
    instructions_digest="00ff",
)
STARTED = pb.RehearseTurnResponse(started=pb.RehearsalStarted(agent="echo"))
PIECE = pb.RehearseTurnResponse(chunk=pb.TextChunk(text="HEL"))
CALLED = pb.RehearseTurnResponse(tool_call=parts.ToolCall(id="1", name="look_up"))
COMPLETED = pb.RehearseTurnResponse(
    completed=pb.RehearsalCompleted(
        response="HELLO",
        usage=parts.Usage(input_tokens=7),
        model="m",
        finish_reason=parts.FINISH_REASON_STOP,
    )
)


@pytest.fixture(params=[ask_async, ask_sync], ids=["async", "sync"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Make a call through either client: `await ask(address, method, …)`."""
    return request.param


@pytest.fixture(params=[through_async, through_sync], ids=["async", "sync"])
def through(request: pytest.FixtureRequest) -> Streaming:
    """Either client's streams."""
    return request.param


async def rehearsed(
    through: Streaming, address: str, **options: Any
) -> tuple[list[pb.RehearseTurnResponse], ParleyError | None]:
    """Rehearse to the end; return what came, and what it ended with."""
    came = []
    try:
        async for event in through(address, "rehearse_turn", **options):
            came.append(event)  # noqa: PERF401 - what came before the error counts
    except ParleyError as error:
        return came, error
    return came, None


# Agents, and explanations


async def test_agents_are_listed(ask: Ask) -> None:
    async with scripted(AGENTS) as server:
        assert AGENTS == await ask(server.address, "list_agents")
    assert 5 < server.asked[0].time_left_s < 11


@pytest.mark.parametrize(
    "name",
    [
        {"request_id": "order-7"},
        {"conversation_id": uuid.uuid4(), "turn_id": uuid.uuid4()},
    ],
    ids=["request_id", "ids"],
)
async def test_a_turn_is_explained_by_either_name(ask: Ask, name: dict[str, Any]) -> None:
    async with scripted(EXPLAINED) as server:
        assert EXPLAINED == await ask(server.address, "explain_turn", **name)
    texts = {field: str(value) for field, value in name.items()}
    assert pb.ExplainTurnRequest(**texts) == server.asked[0].request
    assert 5 < server.asked[0].time_left_s < 11


async def test_a_turn_that_there_is_not_is_not_explained(ask: Ask) -> None:
    async with scripted(NOT_FOUND) as server:
        with pytest.raises(TurnNotFound) as caught:
            await ask(server.address, "explain_turn", request_id="order-7")
    assert ("order-7", 1) == (caught.value.request_id, len(server.asked))


@pytest.mark.parametrize(
    ("method", "options", "response"),
    [
        ("list_agents", {}, AGENTS),
        ("explain_turn", {"request_id": "r"}, EXPLAINED),
    ],
)
async def test_a_read_is_tried_again_while_the_server_is_unavailable(
    ask: Ask, method: str, options: dict[str, Any], response: Any
) -> None:
    async with scripted(UNAVAILABLE, UNAVAILABLE, response) as server:
        assert response == await ask(server.address, method, **options)
    assert 3 == len(server.asked)


# Rehearsals


async def test_a_rehearsal_brings_its_events_in_order(through: Streaming) -> None:
    events = [STARTED, PIECE, CALLED, COMPLETED]
    turn = {"conversation_id": uuid.uuid4(), "turn_id": uuid.uuid4()}
    async with streaming(events) as server:
        came, error = await rehearsed(through, server.address, **turn, agent="echo")
    assert (events, None) == (came, error)
    texts = {field: str(value) for field, value in turn.items()}
    assert pb.RehearseTurnRequest(**texts, agent="echo") == server.asked[0].request
    assert 110 < server.asked[0].time_left_s < 121


async def test_a_rehearsal_begins_again_only_before_anything_has_come(through: Streaming) -> None:
    """Fails when the tries go on as those of a turn do: the agent would be asked again."""
    retried: list[ParleyError] = []
    steps = (UNAVAILABLE, AGENT_DOWN, [STARTED, COMPLETED])
    async with streaming(*steps) as server:
        options = {"request_id": "r", "on_retry": retried.append}
        came, error = await rehearsed(through, server.address, **options)
    assert ([STARTED, COMPLETED], None) == (came, error)
    assert [StoreUnavailable, AgentUnavailable] == [type(each) for each in retried]

    for refusal, kind in ((UNAVAILABLE, StoreUnavailable), (AGENT_DOWN, AgentUnavailable)):
        async with streaming([STARTED, refusal], [STARTED, COMPLETED]) as server:
            came, error = await rehearsed(through, server.address, request_id="r")
        assert ([STARTED], kind, 1) == (came, type(error), len(server.asked))


async def test_a_rehearsal_that_ends_without_its_last_event_is_lost(through: Streaming) -> None:
    async with streaming([STARTED, PIECE]) as server:
        came, error = await rehearsed(through, server.address, request_id="r")
    assert ([STARTED, PIECE], Unavailable, 1) == (came, type(error), len(server.asked))


@pytest.mark.slow
async def test_a_rehearsal_that_never_began_is_given_up(through: Streaming) -> None:
    """Fails when gRPC repeats the call as well: it is asked more often then."""
    async with streaming(UNAVAILABLE) as server:
        _, error = await rehearsed(through, server.address, request_id="r")
    assert (StoreUnavailable, 5) == (type(error), len(server.asked))

    async with streaming(PushedBack(reason="STORE_UNAVAILABLE", retry_s=90)) as server:
        _, error = await rehearsed(through, server.address, request_id="r")
    assert (StoreUnavailable, 1) == (type(error), len(server.asked))


@pytest.mark.parametrize(
    ("refusal", "kind", "attribute"),
    [
        ("WINDOW_INCOMPLETE", WindowIncomplete, "turn_id"),
        ("NO_REHEARSAL", NoRehearsal, "agent"),
        ("AGENT_REFUSED", AgentRefused, ""),
    ],
)
async def test_a_refused_rehearsal_says_what_it_is_about(
    through: Streaming, refusal: str, kind: type[ParleyError], attribute: str
) -> None:
    metadata = {attribute: "the one"} if attribute else {}
    refused = Refusal(Code.FAILED_PRECONDITION, refusal, metadata=metadata)
    async with streaming(refused) as server:
        _, error = await rehearsed(through, server.address, request_id="r")
    assert (kind, 1) == (type(error), len(server.asked))
    assert error is not None
    assert (False, "") == (error.is_retryable, error.request_id)
    if attribute:
        assert "the one" == getattr(error, attribute)


async def test_a_rehearsal_ends_at_its_deadline(through: Streaming) -> None:
    async with streaming([STARTED, never]) as server:
        came, error = await rehearsed(through, server.address, request_id="r", timeout_s=0.5)
    assert ([STARTED], DeadlineExceeded, 1) == (came, type(error), len(server.asked))


async def test_closing_a_rehearsal_ends_the_call(through: Streaming) -> None:
    async with streaming([STARTED, never]) as server:
        async with aclosing(through(server.address, "rehearse_turn", request_id="r")) as events:
            assert STARTED == await anext(events)
        await asyncio.wait_for(server.cancelled.wait(), 10)


def test_a_wrong_argument_is_raised_at_once() -> None:
    for client in (AsyncParleyClient(), ParleyClient()):
        with pytest.raises(ValueError, match=r"surrogates|UTF-8"):
            client.rehearse_turn(request_id="r", agent="\ud800")


def test_tries_of_a_rehearsal_end_with_the_first_thing_that_comes() -> None:
    error = StoreUnavailable("words", retry_after_s=0.01)
    tries = RehearsalTries(60)
    assert tries.pause_s(error) is not None
    tries.note_progress()
    assert tries.pause_s(error) is None

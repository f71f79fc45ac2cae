"""What another owner has looks exactly like what is not there; nothing said is ever logged."""

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.message import Message

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import OWNER_NAMESPACE, Finish, FinishReason, Text, ToolCall
from support.agents import Gate, ScriptedAgent
from support.messages import user
from support.services import (
    Service,
    StartService,
    a_token,
    an_id,
    details_of,
    gathered,
    info_of,
    metadata,
)

HERS, HIS = "ada", "bob"


async def error_of(service: Service, method: str, request: Message) -> grpc.aio.AioRpcError:
    """Return what he is told."""
    made = getattr(service.stub, method)(request, metadata=metadata(HIS), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (made.read() if hasattr(made, "read") else made)
    return caught.value


def shape_of(error: grpc.aio.AioRpcError, request: Message) -> str:
    """Return all that can be seen of an error, with what was asked for left out."""
    seen = str(
        (
            error.code(),
            error.details(),
            [(type(d).__name__, str(d)) for d in details_of(error)],
            [key for key, _ in error.trailing_metadata() or ()],  # type: ignore[has-type, misc]  # pairs
        )
    )
    asked = request.chat if isinstance(request, pb.StreamChatRequest) else request
    for descriptor, value in asked.ListFields():
        if descriptor.name.endswith("_id"):
            seen = seen.replace(value, f"<{descriptor.name}>")
    return seen


REQUESTS: dict[str, Callable[[str], Message]] = {
    "Chat": lambda id_: pb.ChatRequest(message="hello", conversation_id=id_),
    "Chat, waiting": lambda id_: pb.ChatRequest(
        message="hello", conversation_id=id_, on_busy=pb.ON_BUSY_WAIT
    ),
    "Chat, with a request id": lambda id_: pb.ChatRequest(
        message="hello", conversation_id=id_, request_id="r-new"
    ),
    "Chat, with her request id": lambda id_: pb.ChatRequest(
        message="hello", conversation_id=id_, request_id="open"
    ),
    "Chat, expecting her sequence": lambda id_: pb.ChatRequest(
        message="hello", conversation_id=id_, expected_sequence=3
    ),
    "Chat, expecting another": lambda id_: pb.ChatRequest(
        message="hello", conversation_id=id_, expected_sequence=9
    ),
    "StreamChat": lambda id_: pb.StreamChatRequest(
        chat=pb.ChatRequest(message="hello", conversation_id=id_)
    ),
    "GetHistory": lambda id_: pb.GetHistoryRequest(conversation_id=id_),
    "GetHistory, behind her end": lambda id_: pb.GetHistoryRequest(
        conversation_id=id_, min_sequence=99, after_sequence=99
    ),
    "WatchConversation": lambda id_: pb.WatchConversationRequest(conversation_id=id_),
    "AppendMessages": lambda id_: pb.AppendMessagesRequest(
        conversation_id=id_, messages=[user("hello")]
    ),
    "AppendMessages, waiting": lambda id_: pb.AppendMessagesRequest(
        conversation_id=id_, messages=[user("hello")], on_busy=pb.ON_BUSY_WAIT
    ),
    "ForkConversation": lambda id_: pb.ForkConversationRequest(conversation_id=id_),
    "ForkConversation, behind her end": lambda id_: pb.ForkConversationRequest(
        conversation_id=id_, up_to_sequence=99
    ),
}


@pytest.fixture
def gate() -> Gate:
    return Gate()


class Hers:
    """Her conversation: a turn that was answered, and an open one."""

    def __init__(self, service: Service, answered: pb.ChatResponse) -> None:
        self.service = service
        self.answered = answered
        self.conversation_id = answered.conversation_id
        self.open_turn_id = ""


@pytest.fixture
async def hers(start_service: StartService, gate: Gate) -> Any:
    async def script(run):
        if run.window.messages[-1].content == "wait for it":
            async for event in gate(run):
                yield event
        else:
            yield Text("an answer")
            yield Finish(FinishReason.STOP, "scripted-1")

    service = await start_service(ScriptedAgent(script))
    found = Hers(service, await service.chat("first", request_id="answered", user=HERS))
    call = asyncio.ensure_future(
        service.chat(
            "wait for it", conversation_id=found.conversation_id, request_id="open", user=HERS
        )
    )
    await gate.entered.wait()
    found.open_turn_id = (await service.turn(request_id="open", user=HERS)).turn_id
    yield found
    gate.opened.set()
    await call


async def test_her_conversation_looks_to_him_like_none(hers: Hers) -> None:
    """Promise 8. Fails when a check is made before the owner is: busy, overtaken, or elsewhere."""
    for name, of in REQUESTS.items():
        method = name.partition(",")[0]
        there, absent = of(hers.conversation_id), of(an_id())
        told = await error_of(hers.service, method, there)
        expected = await error_of(hers.service, method, absent)

        assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == (
            told.code().name,
            info_of(told).reason,
        ), name
        assert shape_of(expected, absent) == shape_of(told, there), name


@pytest.mark.parametrize("method", ["GetTurn", "CancelTurn", "ResumeTurn"])
async def test_her_turns_look_to_him_like_none(hers: Hers, method: str) -> None:
    given = [pb.CallResult(call_key=an_id(), result="sunny")]
    request: Any = {
        "GetTurn": pb.GetTurnRequest,
        "CancelTurn": pb.CancelTurnRequest,
        "ResumeTurn": partial(pb.ResumeTurnRequest, results=given),
    }[method]
    his = await hers.service.chat("his", request_id="his", user=HIS)
    absent = {"conversation_id": an_id(), "turn_id": an_id()}
    expected = await error_of(hers.service, method, request(**absent))
    expected_shape = shape_of(expected, request(**absent))

    for turn_id in (hers.open_turn_id, hers.answered.turn_id):
        for conversation_id in (hers.conversation_id, his.conversation_id, an_id()):
            named = request(conversation_id=conversation_id, turn_id=turn_id)
            told = await error_of(hers.service, method, named)
            assert ("NOT_FOUND", "TURN_NOT_FOUND") == (told.code().name, info_of(told).reason)
            assert expected_shape == shape_of(told, named)
    misplaced = request(conversation_id=hers.conversation_id, turn_id=his.turn_id)
    assert expected_shape == shape_of(await error_of(hers.service, method, misplaced), misplaced)
    for request_id in ("open", "answered"):
        named, unknown = request(request_id=request_id), request(request_id="unknown")
        assert shape_of(await error_of(hers.service, method, unknown), unknown) == shape_of(
            await error_of(hers.service, method, named), named
        )


async def test_he_stops_none_of_her_turns(hers: Hers, gate: Gate) -> None:
    """Fails when CancelTurn finds a turn by its id alone."""
    for named in (
        pb.CancelTurnRequest(conversation_id=hers.conversation_id, turn_id=hers.open_turn_id),
        pb.CancelTurnRequest(request_id="open"),
    ):
        await error_of(hers.service, "CancelTurn", named)

    turn = await hers.service.turn(request_id="open", user=HERS)
    assert cpb.TURN_STATE_RUNNING == turn.state
    assert not gate.closed.is_set()


async def test_her_conversations_are_not_in_his_list(hers: Hers) -> None:
    assert [] == list((await hers.service.conversations(user=HIS)).conversations)
    his = await hers.service.chat("his", user=HIS)

    listed = (await hers.service.conversations(user=HIS)).conversations
    assert [his.conversation_id] == [c.conversation_id for c in listed]


async def test_her_request_ids_are_free_for_him(hers: Hers) -> None:
    """Fails when request ids are unique over all owners: he learns of hers, or gets her answer."""
    same = await hers.service.chat("first", request_id="answered", user=HIS)
    other = await hers.service.chat("something else", request_id="open", user=HIS)

    for his in (same, other):
        assert not his.replayed
        assert hers.conversation_id != his.conversation_id
        assert 2 == (await hers.service.history(his.conversation_id, user=HIS)).last_sequence


async def test_her_page_tokens_are_to_him_like_made_up_ones(hers: Hers) -> None:
    token = (
        await hers.service.history(hers.conversation_id, page_size=1, user=HERS)
    ).next_page_token
    await hers.service.chat("another", user=HERS)
    list_token = (await hers.service.conversations(page_size=1, user=HERS)).next_page_token
    his = await hers.service.chat("his", user=HIS)
    assert token
    assert list_token

    for hers_or_not in (token, "made-up"):
        request = pb.GetHistoryRequest(
            conversation_id=his.conversation_id, page_size=1, page_token=hers_or_not
        )
        told = await error_of(hers.service, "GetHistory", request)
        assert "INVALID_PAGE_TOKEN" == info_of(told).reason
        assert hers_or_not not in str(details_of(told))
        listing = pb.ListConversationsRequest(page_size=1, page_token=hers_or_not)
        told_of_list = await error_of(hers.service, "ListConversations", listing)
        assert shape_of(told, request) == shape_of(told_of_list, listing)
    there = pb.GetHistoryRequest(conversation_id=hers.conversation_id, page_token="made-up")
    absent = pb.GetHistoryRequest(conversation_id=an_id(), page_token="made-up")
    assert shape_of(await error_of(hers.service, "GetHistory", absent), absent) == shape_of(
        await error_of(hers.service, "GetHistory", there), there
    )


async def test_he_may_have_a_conversation_of_the_same_id(hers: Hers) -> None:
    """Fails when an id belongs to whoever has it first: then he learns that it is taken."""
    his = await hers.service.chat(
        "his", conversation_id=hers.conversation_id, allow_missing=True, user=HIS
    )

    assert (hers.conversation_id, 1, 2) == (
        his.conversation_id,
        his.user_sequence,
        his.response_sequence,
    )
    history = await hers.service.history(hers.conversation_id, user=HIS)
    assert ["his", "an answer"] == [m.content for m in history.messages]
    hers_now = await hers.service.history(hers.conversation_id, user=HERS)
    assert ["first", "an answer", "wait for it"] == [m.content for m in hers_now.messages]


async def test_he_does_not_wait_behind_her(hers: Hers) -> None:
    """Fails when calls queue up by conversation id alone: he then waits for her turn to end, and
    whoever knows the id of a conversation can hold up its owner.
    """
    busy = {"conversation_id": hers.conversation_id, "on_busy": pb.ON_BUSY_WAIT}
    waiting = asyncio.ensure_future(hers.service.chat("next", user=HERS, **busy))
    while not hers.service.worker.turns.queued:
        await asyncio.sleep(0.005)
    his = await hers.service.chat("his", user=HIS, allow_missing=True, timeout=5, **busy)

    assert (1, 2) == (his.user_sequence, his.response_sequence)
    assert not waiting.done()
    waiting.cancel()


async def test_he_cannot_choose_an_id_that_makes_her_wait(hers: Hers) -> None:
    """Fails when the owner and the id are joined so that another pair comes to the same: he, who
    knows how owners are named, then finds one, and holds her conversation up with his.
    """
    owners = [uuid.uuid5(OWNER_NAMESPACE, f"0:{user}") for user in (HERS, HIS)]
    meeting = uuid.UUID(int=owners[0].int ^ owners[1].int ^ uuid.UUID(hers.conversation_id).int)
    busy = {"conversation_id": hers.conversation_id, "on_busy": pb.ON_BUSY_WAIT}
    waiting = asyncio.ensure_future(hers.service.chat("next", user=HERS, **busy))
    while not hers.service.worker.turns.queued:
        await asyncio.sleep(0.005)
    busy["conversation_id"] = str(meeting)
    his = await hers.service.chat("his", user=HIS, allow_missing=True, timeout=5, **busy)

    assert (1, 2) == (his.user_sequence, his.response_sequence)
    assert not waiting.done()
    waiting.cancel()


SECRET_WORDS = "nobody may repeat this"


async def test_nothing_that_was_said_is_logged(
    start_service: StartService, capfd: pytest.CaptureFixture[str], database_url: str
) -> None:
    """Promise 8. Fails when an exception's text is logged, a driver's or an agent's."""

    async def script(run):
        said = run.window.messages[-1].content
        yield ToolCall("c", "tool", f'"{SECRET_WORDS}"', SECRET_WORDS, False, 1)
        yield Text(SECRET_WORDS)
        if "fail" in said:
            raise RuntimeError(SECRET_WORDS)
        yield Finish(FinishReason.STOP, "scripted-1")

    service = await start_service(ScriptedAgent(script))
    answer = await service.chat(SECRET_WORDS, request_id="r")
    token = a_token()
    calls = [
        service.chat(SECRET_WORDS, request_id="r"),
        service.chat(f"another, {SECRET_WORDS}", request_id="r"),
        service.chat(f"fail: {SECRET_WORDS}", conversation_id=answer.conversation_id),
        service.chat(SECRET_WORDS, conversation_id=SECRET_WORDS, agent=SECRET_WORDS),
        service.history(answer.conversation_id, page_token=SECRET_WORDS),
        service.stub.Chat(
            pb.ChatRequest(message=SECRET_WORDS),
            metadata=(("authorization", f"Bearer {token}{SECRET_WORDS}"),),
        ),
    ]
    outcomes = await gathered(*calls)
    assert [True] + [False] * 5 == [isinstance(o, pb.ChatResponse) for o in outcomes]
    # What Postgres refuses, it repeats in its message's details.
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE message ADD CONSTRAINT short CHECK (length(content) < 5) NOT VALID"
        )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.chat(SECRET_WORDS)

    assert grpc.StatusCode.INTERNAL == caught.value.code()
    assert SECRET_WORDS not in str(caught.value.details()) + str(details_of(caught.value))
    written = capfd.readouterr()
    assert "CheckViolation" in written.err + written.out, "the defect is not in the log"
    assert SECRET_WORDS not in written.err + written.out
    assert token not in written.err + written.out

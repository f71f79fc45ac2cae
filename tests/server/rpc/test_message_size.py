"""How long a user's message may be: a setting, and whatever it is, every RPC still reads it."""

from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import REQUEST_ROOM_BYTES, BadSettings, Settings
from parley_server.core.attempts.transcript import (
    MAX_ARGUMENTS_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
)
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Text, ToolCall
from support.agents import ScriptedAgent, say_back
from support.services import StartService, details_of, settings_for

LONGEST = 900 * 1024
KIB = 1024
CALL_BYTES = MAX_ARGUMENTS_BYTES + MAX_RESULT_BYTES


async def say_all_that_fits(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Fill a message up to its limit: tool calls with long results, then the longest text."""
    room = MAX_MESSAGE_BYTES - MAX_TEXT_BYTES
    for number in range(room // (CALL_BYTES + KIB)):
        arguments, result = '"' * MAX_ARGUMENTS_BYTES, "\n" * MAX_RESULT_BYTES
        yield ToolCall(f"c{number}", "read", arguments, result, False, 1)
    yield Text("é" * (MAX_TEXT_BYTES // 2))
    yield Finish(FinishReason.STOP, "scripted-1")


async def violation(call: Awaitable[Any]) -> tuple[str, str, str]:
    """Return field, reason and description of the one that a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert grpc.StatusCode.INVALID_ARGUMENT == error.code()
    found = [d for d in details_of(error) if isinstance(d, error_details_pb2.BadRequest)]
    (only,) = found[0].field_violations
    return only.field, only.reason, only.description


@pytest.mark.parametrize("limit", [KIB, 5_000, LONGEST])
async def test_message_is_as_long_as_the_setting_says_and_no_longer(
    start_service: StartService, limit: int
) -> None:
    """Fails when the limit is a constant, or when the error names another one than holds."""
    service = await start_service(max_message_bytes=limit)
    wide = "é" * (limit // 2)

    answer = await service.chat(wide)
    stored = (await service.history(answer.conversation_id)).messages[0].content
    assert wide == stored
    said = f"has {limit + 1} bytes; the maximum is {limit}"
    chat, stream = service.chat(wide + "x"), service.stream(wide + "x").read()
    assert ("message", "TOO_LONG", said) == await violation(chat)
    assert ("chat.message", "TOO_LONG", said) == await violation(stream)


async def test_longest_messages_and_answers_are_read_by_every_rpc(
    start_service: StartService,
) -> None:
    """A client takes 4 MiB at once, by gRPC's default, and so the channel here.

    Fails when a page or an event holds more than that.
    """
    agent = ScriptedAgent(say_all_that_fits)
    service = await start_service(agent, max_message_bytes=LONGEST, context_tokens=4 * LONGEST)
    message = "𝄞" * (LONGEST // 4)
    first = await service.chat(message)
    events = [
        event async for event in service.stream(message, conversation_id=first.conversation_id)
    ]

    streamed = events[-1].completed
    assert first.response == streamed.response
    assert first.tool_calls == streamed.tool_calls
    assert MAX_TEXT_BYTES == len(first.response.encode())
    assert len(first.tool_calls) == sum(event.HasField("tool_call") for event in events) > 5
    for order in (pb.ORDER_OLDEST_FIRST, pb.ORDER_NEWEST_FIRST):
        read: list[Any] = []
        token = ""
        while not read or token:
            page = await service.history(
                first.conversation_id, page_size=1000, page_token=token, order=order
            )
            read += page.messages
            token = page.next_page_token
        assert [1, 2, 3, 4] == sorted(m.sequence for m in read)
        assert {message} == {m.content for m in read if not m.model}
    watched = []
    async for update in service.watch(first.conversation_id, include_events=True):
        if update.HasField("message"):
            watched.append(update.message.sequence)
        if update.HasField("progress"):
            break
    assert [1, 2, 3, 4] == watched
    (listed,) = (await service.conversations()).conversations
    assert message.startswith(listed.title)
    assert len(listed.title) + len(listed.preview) < KIB


async def test_long_message_is_shown_shortened_and_stored_whole(
    start_service: StartService,
) -> None:
    """Fails when a long message goes to a model with a small context as it is."""
    agent = ScriptedAgent(say_back)
    service = await start_service(agent, max_message_bytes=LONGEST, context_tokens=256)
    for letter in ("a", "é", "漢", "𝄞"):
        message = f"first {letter * (LONGEST // 4 - 20)} last"
        answer = await service.chat(message)

        (shown,) = agent.runs[-1].window.messages
        assert 1024 - 2 * 4 <= len(shown.content.encode()) <= 1024
        head, tail = shown.content.split("\n[…]\n")
        assert message.startswith(head)
        assert message.endswith(tail)
        stored = (await service.history(answer.conversation_id)).messages[0].content
        assert message == stored


@pytest.mark.parametrize(
    ("message_bytes", "receive_bytes", "is_right"),
    [
        (256 * KIB, 1024 * KIB, True),
        (LONGEST, 1024 * KIB, True),
        (256 * KIB, 256 * KIB + REQUEST_ROOM_BYTES, True),
        (256 * KIB, 256 * KIB + REQUEST_ROOM_BYTES - 1, False),
        (LONGEST, LONGEST, False),
        (32 * KIB, 64 * KIB, True),
    ],
)
def test_setting_that_grpc_would_not_let_through_is_refused(
    message_bytes: int, receive_bytes: int, is_right: bool
) -> None:
    settings = settings_for(
        "postgresql://x", max_message_bytes=message_bytes, grpc_max_receive_bytes=receive_bytes
    )
    if is_right:
        settings.check_serving()
        return
    with pytest.raises(BadSettings) as caught:
        settings.check_serving()
    needed = message_bytes + REQUEST_ROOM_BYTES
    assert (
        "PARLEY_GRPC_MAX_RECEIVE_BYTES leaves no room for a message of PARLEY_MAX_MESSAGE_BYTES: "
        f"set it to {needed} or more, or PARLEY_MAX_MESSAGE_BYTES to less"
    ) == str(caught.value)


async def test_message_a_byte_too_long_is_refused_by_name_with_the_least_room(
    start_service: StartService,
) -> None:
    """Fails when the room that is asked for is too small for a request: gRPC refuses it then."""
    limit = 100 * KIB
    service = await start_service(
        max_message_bytes=limit, grpc_max_receive_bytes=limit + REQUEST_ROOM_BYTES
    )
    _, reason, _ = await violation(service.chat("x" * (limit + 1), request_id="r" * 128))
    assert "TOO_LONG" == reason


@pytest.mark.parametrize("size", [0, 1023, LONGEST + 1, 2**40])
def test_size_outside_of_its_bounds_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="max_message_bytes"):
        Settings(max_message_bytes=size)

"""Streams that providers were reported to send, as the callers of their turns see them."""

import json
from pathlib import Path
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as cpb
from support.fake_openai import FakeOpenAI
from support.openai_script import Json, Step
from support.services import Service, StartService, reason_of, refused
from support.streams import next_of, rest_of
from support.wire_provider import a_stream, an_agent, is_after_tools, weather

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parent / "provider_streams.json").read_text())
}


def a_provider(case: Json) -> FakeOpenAI:
    def step(request: Json) -> Step:
        pieces = case["after_tool_result" if is_after_tools(request) else "stream"]
        return a_stream("".join(pieces))

    return FakeOpenAI([step])


def calls_of(message: cpb.Message) -> list[Any]:
    return [
        {
            "name": call.name,
            "arguments": json.loads(call.arguments),
            "result": call.result,
            "is_error": call.is_error,
        }
        for call in message.tool_calls
    ]


async def check_answer(service: Service, answered: Any, expected: Json) -> None:
    """Check an answer, and that everything that can be asked of it says the same."""
    history = await service.history(answered.conversation_id)
    message = history.messages[-1]
    turn = await service.turn(conversation_id=answered.conversation_id, turn_id=answered.turn_id)
    reason = cpb.FinishReason.Name(answered.finish_reason).removeprefix("FINISH_REASON_")
    assert cpb.TURN_STATE_COMPLETED == turn.state
    assert answered.response == message.content
    assert expected.get("response", answered.response) == answered.response
    assert expected.get("finish_reason", "STOP") == reason
    assert expected.get("calls", []) == calls_of(message)
    if "usage" in expected:
        usage = answered.usage
        assert expected["usage"] == [usage.input_tokens, usage.output_tokens]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
async def test_a_reported_stream_ends_right(start_service: StartService, name: str) -> None:
    """Fails when the boundary does not guard the client: for eight of the streams."""
    case, expected = CASES[name], CASES[name]["expect"]
    with a_provider(case) as fake:
        tools = [weather] if case["tools"] else []
        service = await start_service(an_agent(fake.base_url, *tools))
        if expected["code"] != "OK":
            failure = (expected["code"], expected["reason"])
            assert failure == await refused(service.chat(request_id="r"))
            stream = service.stream(request_id="s")
            started = (await next_of(stream, "started")).started
            assert failure == await refused(rest_of(stream))
            turn = await service.turn(
                conversation_id=started.conversation_id, turn_id=started.turn_id
            )
            assert (cpb.TURN_STATE_FAILED, failure[1]) == (turn.state, reason_of(turn))
            return

        answered = await service.chat(request_id="r")
        await check_answer(service, answered, expected)
        replayed = await service.chat(request_id="r")
        assert replayed.replayed
        assert answered.response == replayed.response
        streamed = await rest_of(service.stream(request_id="s"))
        await check_answer(service, streamed[-1].completed, expected)
        chunks = [event.chunk.text for event in streamed if event.HasField("chunk")]
        assert streamed[-1].completed.response.startswith("".join(chunks))

"""A provider's stream that breaks, as the callers of its turn see it."""

import dataclasses
import threading

import pytest

from parley.v1 import conversation_pb2 as cpb
from parley_server.agents.catalog import create_agent
from support.fake_openai import FakeOpenAI, Say
from support.services import StartService, reason_of, refused
from support.streams import next_of, rest_of

BEGINNING = "What was said"
ANSWER = f"{BEGINNING} before it broke."
UNAVAILABLE = ("UNAVAILABLE", "AGENT_UNAVAILABLE")
TIMEOUT = ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT")

BROKEN = {
    "cut": (Say(ANSWER, piece=len(BEGINNING), cut_after=2), UNAVAILABLE),
    "ended": (Say(ANSWER, piece=len(BEGINNING), end_after=2), UNAVAILABLE),
    "garbage": (Say(ANSWER, piece=len(BEGINNING), garbage_after=2), UNAVAILABLE),
    "error": (Say(ANSWER, piece=len(BEGINNING), error_after=2), UNAVAILABLE),
    "stalled": (Say(ANSWER, piece=len(BEGINNING), stall_after=2), TIMEOUT),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
async def test_callers_of_a_broken_stream_read_its_beginning_and_run_it_again(
    start_service: StartService, how: str
) -> None:
    step, expected = BROKEN[how]
    hold = threading.Event()
    with FakeOpenAI([dataclasses.replace(step, hold=hold), Say(ANSWER)]) as fake:
        one, two = [
            await start_service(
                create_agent("openai-chat:any", openai_base_url=fake.base_url), chat_timeout_s=4
            )
            for _ in range(2)
        ]
        running = one.stream(request_id="r")
        started = (await next_of(running, "started")).started
        attached = two.stream(request_id="r")
        await next_of(attached, "started")
        seen = [(await next_of(stream, "chunk")).chunk.text for stream in (running, attached)]
        hold.set()

        assert [BEGINNING, BEGINNING] == seen
        assert expected == await refused(rest_of(running))
        assert expected == await refused(rest_of(attached))
        name = {"conversation_id": started.conversation_id, "turn_id": started.turn_id}
        failed = await two.turn(**name)
        assert (cpb.TURN_STATE_FAILED, expected[1]) == (failed.state, reason_of(failed))
        again = await rest_of(two.stream(request_id="r"))
        assert [2] * len(again) == [event.attempt for event in again]
        completed = again[-1].completed
        assert (ANSWER, 2, False) == (
            completed.response,
            completed.response_sequence,
            completed.replayed,
        )
        history = await one.history(started.conversation_id)
        assert ["hello", ANSWER] == [message.content for message in history.messages]

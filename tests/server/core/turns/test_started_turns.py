"""Turns that are started: accepted now, run by any worker, without a caller."""

import asyncio
from collections.abc import AsyncGenerator

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import AgentEvent, AgentRun
from support.agents import Gate, ScriptedAgent, say_back
from support.services import StartService, an_id, reason_of, refused

DONE = ("COMPLETED", "FAILED", "CANCELLED")
QUEUED = messages.TURN_STATE_QUEUED


async def test_started_turn_is_answered_without_a_caller(start_service: StartService) -> None:
    service = await start_service()

    started = await service.start("hello", request_id="r")

    assert (QUEUED, 0, False) == (started.turn.state, started.turn.user_sequence, started.replayed)
    ended = await service.until_turn(started.turn, *DONE)
    assert (messages.TURN_STATE_COMPLETED, 1, 2) == (
        ended.state,
        ended.user_sequence,
        ended.response_sequence,
    )
    answer = await service.chat("hello", request_id="r")
    assert ("HELLO", True) == (answer.response, answer.replayed)

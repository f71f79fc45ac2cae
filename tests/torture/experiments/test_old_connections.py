"""Experiment 16: connections that are over their age while turns take four times as long.

Plain stubs of other languages are in tests/torture/test_retired_connections.py.
"""

import asyncio
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc
from support.services import an_id, metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet
from support.torture.load import reason_of

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

EXPERIMENT = Experiment(
    number=16,
    done="connections live for 1 s, turns and streams take 4 s (LONG: 5 s and 20 s)",
    holds="none is cut",
    protection="a connection over its age lets its calls end (its grace)",
    removal="a grace of half a second",
    short_s=4,
    long_s=20,
)
CALLS = 20
ALONE = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
"""A connection of the call's own, and no second try that would hide a first one that was cut."""


async def end_of(fleet: Fleet, *, is_stream: bool) -> str:
    """Make one turn. Returns: how it ended."""
    chat = pb.ChatRequest(message="hello", request_id=an_id())
    port = fleet.workers[0].port
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", ALONE) as channel:
        stub: Any = conversation_service_pb2_grpc.ConversationServiceStub(channel)
        how = {"timeout": 60, "metadata": metadata("ada")}
        try:
            if is_stream:
                stream = stub.StreamChat(pb.StreamChatRequest(chat=chat), **how)
                return str([event async for event in stream][-1].completed.response)
            return str((await stub.Chat(chat, **how)).response)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)


async def attack(trial: Trial) -> None:
    without = () if trial.is_protected else (trial.without,)
    async with trial.fleet(
        1, without=without, agent=f"echo:{trial.seconds}", grpc_connection_age_s=trial.seconds // 4
    ) as fleet:
        ends = await asyncio.gather(
            *(end_of(fleet, is_stream=bool(number % 2)) for number in range(CALLS))
        )
    trial.figures["calls"] = str(CALLS)
    cut = sorted(set(ends) - {"hello"})
    trial.expect(not cut, f"cut: calls ended with {cut}")


async def test_no_turn_is_cut_that_outlives_its_connections_age(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turns_that_are_cut_with_their_connection_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="calls.grace", because="cut")

"""Experiment 11: resets, loss and delay, between workers and Postgres, and callers and workers."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2_grpc
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.moved_postgres import url_of
from support.paths import to_port, to_socket
from support.standbys import folder_of
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet
from support.torture.weather import Weather

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

DELAY_S, LOSS, RESET_S = 0.2, 0.1, 0.5
LEASE_S = 6
"""A heartbeat takes a while in such a network."""
RECONNECT_SOON = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
]
CALLERS, CONVERSATIONS = 48, 24
CHANNELS = 6
"""Of the callers, to each worker: a reset ends the calls of one."""

EXPERIMENT = Experiment(
    number=11,
    done=f"resets, {LOSS:.0%} loss and {DELAY_S * 1000:.0f} ms delay each way, between workers "
    "and Postgres, and between callers and workers",
    holds="every OK is stored once, gapless, and in order; what is in doubt once or not at all",
    protection="the request id, which callers keep when they call again",
    removal="another request id each time",
    short_s=10,
    long_s=120,
)


@pytest.fixture
def database_url(primary: EmbeddedPostgres) -> str:
    return primary.start()


async def attack(trial: Trial) -> None:
    bad = {"delay_s": DELAY_S, "loss": LOSS, "reset_s": RESET_S}
    async with AsyncExitStack() as opened:
        behind = to_socket(folder_of(trial.database_url))
        path = await opened.enter_async_context(Weather(behind, **bad).running())
        fleet = Fleet(url_of(path), trial.log, lease_s=LEASE_S)
        await opened.enter_async_context(fleet.running())
        stubs: list[Any] = []
        wires = []
        for worker in fleet.workers:
            wire = await opened.enter_async_context(Weather(to_port(worker.port), **bad).running())
            wires.append(wire)
            for _ in range(CHANNELS):
                channel = grpc.aio.insecure_channel(f"127.0.0.1:{wire.port}", RECONNECT_SOON)
                await opened.enter_async_context(channel)
                stubs.append(conversation_service_pb2_grpc.ConversationServiceStub(channel))
        async with trial.load(
            lambda: random.choice(stubs),
            callers=CALLERS,
            conversations=CONVERSATIONS,
            keeps_request_ids=trial.is_protected,
        ):
            for each in (path, *wires):
                each.is_bad = True
            await asyncio.sleep(trial.seconds)  # the weather's own time is the subject
            for each in (path, *wires):
                each.is_bad = False
        await trial.settle()
    trial.figures["resets before Postgres"] = str(path.resets)
    trial.figures["resets before workers"] = str(sum(wire.resets for wire in wires))


async def test_answers_are_stored_once_in_a_bad_network(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_calls_that_are_repeated_under_another_id_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="request ids", because="doubled", seconds=6)

"""Which workers deploy/envoy/envoy.yaml avoids: those that are away, never those that refuse."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import AgentEvent, AgentRun
from support.agents import ScriptedAgent
from support.envoys import Caller, Change, Envoy
from support.processes import ServerProcess
from support.services import StartService, an_id, metadata, refused

EJECTIONS = "cluster.parley.outlier_detection.ejections_enforced_total"
DETECTED = "cluster.parley.outlier_detection.ejections_detected_consecutive_5xx"
BEYOND_EVERY_THRESHOLD = 12
RARE_CHECKS: tuple[Change, ...] = (
    (" interval: 2s", " interval: 60s"),
    ("no_traffic_interval: 2s", "no_traffic_interval: 60s"),
)
"""So that it is the calls that find out."""


async def provider_is_down(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    raise AgentUnavailable
    yield


async def test_workers_whose_provider_is_down_go_on_getting_calls(
    start_service: StartService, tmp_path: Path
) -> None:
    """Fails when consecutive 5xx may eject: UNAVAILABLE counts as 503, and DETECTED says so."""
    agent = ScriptedAgent(provider_is_down)
    ports = [(await start_service(agent)).port for _ in range(2)]
    async with Envoy(tmp_path, ports) as envoy:
        await envoy.until_healthy(*ports)
        async with Caller(envoy.address) as caller:
            for _ in range(2 * BEYOND_EVERY_THRESHOLD):
                call = caller.stub.Chat(pb.ChatRequest(message="hello"), metadata=metadata("ada"))
                assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(call)
        assert envoy.stat(DETECTED) > 0
        assert 0 == envoy.stat(EJECTIONS)
        assert [{}, {}] == [envoy.health_of(port) for port in ports]
    assert 2 * BEYOND_EVERY_THRESHOLD == len(agent.runs)


async def test_workers_that_are_full_go_on_getting_calls(
    start_service: StartService, tmp_path: Path
) -> None:
    ports = [(await start_service(max_watches=0)).port for _ in range(2)]
    async with Envoy(tmp_path, ports) as envoy:
        await envoy.until_healthy(*ports)
        async with Caller(envoy.address) as caller:
            for _ in range(2 * BEYOND_EVERY_THRESHOLD):
                watch = caller.stub.WatchConversation(
                    pb.WatchConversationRequest(conversation_id=an_id()), metadata=metadata("ada")
                )
                assert ("RESOURCE_EXHAUSTED", "OVERLOADED") == await refused(watch.read())
        assert 0 == envoy.stat(EJECTIONS)
        assert [{}, {}] == [envoy.health_of(port) for port in ports]


@pytest.mark.slow
async def test_worker_that_is_gone_is_avoided_before_a_health_check_finds_out(
    start_service: StartService, database_url: str, tmp_path: Path
) -> None:
    """Fails without consecutive_local_origin_failure, and without retries for connections."""
    survivor = await start_service()
    with ServerProcess(database_url) as gone:
        async with Envoy(tmp_path, [survivor.port, gone.port], *RARE_CHECKS) as envoy:
            await envoy.until_healthy(survivor.port, gone.port)
            gone.kill()
            async with Caller(envoy.address) as caller:
                found: dict[str, Any] = {}
                while not found:  # every call is answered meanwhile
                    await caller.stub.ListConversations(
                        pb.ListConversationsRequest(), metadata=metadata("ada"), timeout=20
                    )
                    found = envoy.health_of(gone.port)

    assert {"failed_outlier_check": True} == found


@pytest.mark.slow
async def test_without_a_healthy_worker_calls_are_told_why(
    start_service: StartService, tmp_path: Path
) -> None:
    """Readiness follows the database: without it no worker is healthy.

    With a panic threshold of 0, Envoy says "no healthy upstream", without reason and delay.
    """
    service = await start_service()
    async with Envoy(tmp_path, [service.port]) as envoy:
        service.worker.server.set_ready(False)
        await envoy.until_unhealthy(service.port)
        async with Caller(envoy.address) as caller:
            answer = await caller.stub.Chat(
                pb.ChatRequest(message="hello"), metadata=metadata("ada"), timeout=20
            )
    assert "HELLO" == answer.response

"""What deploy/envoy/envoy.yaml does when Envoy's memory runs out: refuse, and not be killed."""

import asyncio
from pathlib import Path

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from support.envoys import START_S, Caller, Change, Envoy
from support.services import StartService, metadata

LIMIT = "max_heap_size_bytes: 805306368"
TINY: Change = (LIMIT, "max_heap_size_bytes: 1048576")
ACTION = "overload.envoy.overload_actions.{}.active"


async def test_envoy_with_room_takes_calls(start_service: StartService, tmp_path: Path) -> None:
    service = await start_service()
    async with Envoy(tmp_path, [service.port]) as envoy:
        await envoy.until_healthy(service.port)
        async with Caller(envoy.address) as caller:
            request = pb.ChatRequest(message="hello")
            answer = await caller.stub.Chat(request, metadata=metadata("ada"))
        assert "HELLO" == answer.response
        assert envoy.stat("overload.envoy.resource_monitors.fixed_heap.pressure") < 85
        assert 0 == envoy.stat(ACTION.format("stop_accepting_requests"))


@pytest.mark.slow
async def test_envoy_without_room_refuses_calls_in_words(
    start_service: StartService, tmp_path: Path
) -> None:
    """Fails without a limit of the heap: it takes calls until the kernel ends it."""
    service = await start_service()
    async with Envoy(tmp_path, [service.port], TINY) as envoy:
        await envoy.until_healthy(service.port)
        for action in (
            "shrink_heap",
            "reset_high_memory_stream",
            "stop_accepting_requests",
            "stop_accepting_connections",
        ):
            async with asyncio.timeout(START_S):
                while 1 != envoy.stat(ACTION.format(action)):
                    await asyncio.sleep(0.05)
        async with Caller(envoy.address) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.stub.Chat(
                    pb.ChatRequest(message="hello"), metadata=metadata("ada"), timeout=2
                )
        assert caught.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )

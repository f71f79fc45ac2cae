"""What gRPC's core is told, where it would do harm by itself."""

import asyncio

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from parley.v1 import conversation_service_pb2 as pb
from parley.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley_server.process.wiring import server_options
from parley_server.rpc.server import SERVICE
from support.cut_connections import Wire
from support.services import StartService, metadata, settings_for


def test_no_call_is_cancelled_for_waiting_before_its_own_time_is_over() -> None:
    """gRPC's own limit is 30 s; tests/torture/test_bursts.py shows what it does."""
    settings = settings_for("postgresql://", chat_timeout_s=590)
    told = dict(server_options(settings, is_port_shared=False))
    assert 600 == told["grpc.server_max_unrequested_time_in_server"]


@pytest.mark.slow
async def test_a_caller_that_vanished_without_a_word_is_noticed(
    start_service: StartService,
) -> None:
    """Fails with `grpc.keepalive_timeout_ms` alone: core waits a minute for the reply to a ping."""
    service = await start_service(grpc_keepalive_s=1, grpc_keepalive_timeout_s=1)
    conversation_id = (await service.chat("hello")).conversation_id
    async with (
        Wire(service.port).running() as wire,
        grpc.aio.insecure_channel(wire.address) as channel,
    ):
        watch = ConversationServiceStub(channel).WatchConversation(
            pb.WatchConversationRequest(conversation_id=conversation_id), metadata=metadata("ada")
        )
        await watch.read()
        assert 1 == service.worker.admission.watches.in_use
        wire.go_silent()
        async with asyncio.timeout(10):
            while service.worker.admission.watches.in_use:
                await asyncio.sleep(0.01)


async def test_reflection_names_the_services_where_it_is_switched_on(
    start_service: StartService,
) -> None:
    service = await start_service(reflection=True)
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    named = [each.name for each in answer.list_services_response.service]

    assert SERVICE in named
    assert "HELLO" == (await service.chat()).response

"""gRPC's health service, which answers strangers: what it says, and whom it waits for."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley_server.rpc.server import LIVENESS, SERVICE
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.services import Service, StartService, health, refused

WATCH = "/grpc.health.v1.Health/Watch"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_watch_that_is_not_taken_keeps_nobody_from_the_truth(
    start_service: StartService,
) -> None:
    """Fails when a change of status waits for those who watch: readiness would stand still, and so
    would the worker's drain, for as long as one stranger likes."""
    service = await start_service()
    stub = health_pb2_grpc.HealthStub(service.channel)
    honest = stub.Watch(health_pb2.HealthCheckRequest())
    assert SERVING == (await honest.read()).status
    stranger = await Connection.opened(service.port, {INITIAL_WINDOW_SIZE: 0})
    await stranger.send(stranger.call(WATCH, [], message(b""))[1])
    while service.worker.admission.health_watches.in_use < 2:
        await asyncio.sleep(0.01)

    async with asyncio.timeout(10):
        service.worker.server.set_ready(False)
        assert "NOT_SERVING" == await health(service)
        assert NOT_SERVING == (await honest.read()).status
        service.worker.server.set_ready(True)
        assert SERVING == (await honest.read()).status
    honest.cancel()
    stranger.close()


async def test_services_are_listed(service: Service) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    found = await stub.List(health_pb2.HealthListRequest())

    expected = dict.fromkeys(("", LIVENESS, SERVICE), SERVING)
    assert expected == {name: answer.status for name, answer in found.statuses.items()}


async def test_watch_of_an_unknown_service_says_so(service: Service) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="none"))

    unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert unknown == (await watch.read()).status
    watch.cancel()


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_a_service_has_a_short_name(service: Service, method: str) -> None:
    """Fails when strangers' messages may be as long as others': 500 watches would hold 1 GB."""
    asked = health_pb2.HealthCheckRequest(service="x" * 2000)
    stub = health_pb2_grpc.HealthStub(service.channel)
    call = stub.Check(asked) if method == "Check" else stub.Watch(asked).read()

    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(call)
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await stub.Check(health_pb2.HealthCheckRequest(service="none"))

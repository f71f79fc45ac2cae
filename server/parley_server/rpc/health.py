"""gRPC's health service: what this worker says of itself, to anybody who asks.

The library's own servicer writes to a watch while it holds the lock that a change of status needs.
So one stranger that took nothing of its watch kept the worker from saying that it is not ready, and
from draining. Here a change waits for nothing.
"""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from parley_server.core.tasks import wait_any

Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer(pb_grpc.HealthServicer):  # type: ignore[misc] # its base has no types
    """Answers with the statuses that were set last.

    Source: the GRPC Health Checking Protocol, https://github.com/grpc/grpc/blob/master/doc/health-checking.md
    """

    def __init__(self) -> None:
        """Know no service yet."""
        self._statuses: dict[str, Any] = {}
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when any status has changed."""

    def set(self, service: str, status: Any) -> None:
        """Say from now on how a service is. Waits for nobody."""
        if self._statuses.get(service) == status:
            return
        self._statuses[service] = status
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    async def Check(  # noqa: N802
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return pb.HealthCheckResponse(status=status)

    async def List(  # noqa: N802
        self, _request: pb.HealthListRequest, _context: Context
    ) -> pb.HealthListResponse:
        statuses = {
            name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()
        }
        return pb.HealthListResponse(statuses=statuses)

    async def Watch(self, request: pb.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                await context.write(pb.HealthCheckResponse(status=status))
                told = status
            await wait_any(changed)

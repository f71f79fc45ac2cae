"""The gRPC server: options, services, health, and an orderly end."""

import asyncio

import grpc
from grpc_health.v1 import _async as aio_health
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley.v1 import conversation_service_pb2, conversation_service_pb2_grpc
from parley_server.core.ports import TokenVerifier
from parley_server.core.reads import Reads
from parley_server.core.turns import Turns
from parley_server.core.watches import Watches
from parley_server.rpc.layers import Layers
from parley_server.rpc.metering import CallMeter
from parley_server.rpc.servicer import ConversationServicer

SERVICE = conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"].full_name
MAX_RECEIVE_BYTES = 1024 * 1024
MAX_SEND_BYTES = 4 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024
LAST_WORDS_S = 1.0
"""How long answers that are ready may still take to be sent when the server stops."""


class Server:
    """A worker's gRPC server."""

    def __init__(
        self,
        turns: Turns,
        reads: Reads,
        watches: Watches,
        verifier: TokenVerifier,
        *,
        is_port_shared: bool,
        has_reflection: bool,
        meter: CallMeter | None = None,
    ) -> None:
        self._turns = turns
        self._watches = watches
        self._server = grpc.aio.server(
            interceptors=[Layers(verifier, meter)],
            options=[
                ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
                ("grpc.max_send_message_length", MAX_SEND_BYTES),
                # Room for a token that is too long to arrive, and to be refused in our words.
                ("grpc.max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
                # Two services that share a port by accident would each get half of the calls.
                ("grpc.so_reuseport", int(is_port_shared)),
                # gRPC's core thins a burst that the loop has not picked up yet, at random.
                ("grpc.server.max_pending_requests", 20_000),
                ("grpc.server.max_pending_requests_hard_limit", 40_000),
            ],
        )
        conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(
            ConversationServicer(turns, reads, watches), self._server
        )
        self._health = aio_health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if has_reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> int:
        """Listen. Returns: the port.

        Raises: RuntimeError: the address cannot be had.
        """
        port = self._server.add_insecure_port(address)
        await self._server.start()
        return port

    async def set_ready(self, is_ready: bool) -> None:
        """Tell health checks whether to send calls here."""
        serving = health_pb2.HealthCheckResponse
        status = serving.SERVING if is_ready else serving.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, let open turns end within the grace, then stop."""
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self._server.stop(grace_s + LAST_WORDS_S))
        self._watches.drain()
        await self._turns.drain(grace_s)
        await asyncio.wait([stopping], timeout=LAST_WORDS_S)
        await self._server.stop(0)
        await stopping

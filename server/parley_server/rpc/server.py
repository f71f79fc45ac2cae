"""The gRPC server: options, services, health, and an orderly end."""

import asyncio
from collections.abc import Sequence

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley.v1 import conversation_service_pb2, conversation_service_pb2_grpc
from parley_server.core.ports import NO_TRACER, TokenVerifier, Tracer
from parley_server.rpc import pickup
from parley_server.rpc.door import Door
from parley_server.rpc.health import HealthServicer
from parley_server.rpc.layers.admission import Admission
from parley_server.rpc.layers.metering import CallMeter
from parley_server.rpc.layers.stack import Layers
from parley_server.rpc.servicer import ConversationServicer
from parley_server.rpc.tls import Renewing
from parley_server.rpc.use_cases import UseCases

SERVICE = conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"].full_name
LIVENESS = "liveness"
"""The health service that says that this process runs, whatever becomes of what it needs."""
LAST_WORDS_S = 1.0
"""How long answers that are ready may still take to be sent when the server stops."""


class Server:
    """A worker's gRPC server."""

    def __init__(
        self,
        core: UseCases,
        verifier: TokenVerifier,
        admission: Admission,
        *,
        options: Sequence[tuple[str, int]],
        certificate: Renewing | None,
        has_reflection: bool,
        max_message_bytes: int,
        meter: CallMeter | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Put the server together.

        Args:
            certificate: to speak TLS with. None: plaintext.
            max_message_bytes: how long a user's message may be, in UTF-8.
        """
        self._core = core
        self._certificate = certificate
        self._is_draining = False
        self._door = Door()
        self._server = pickup.server(
            [Layers(verifier, admission, self._door, meter, tracer)], options
        )
        conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(
            ConversationServicer(core, admission, max_message_bytes=max_message_bytes), self._server
        )
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if has_reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self, address: str) -> int:
        """Listen. Returns: the port.

        Raises: RuntimeError: the address cannot be used.
        """
        if self._certificate is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, self._certificate.credentials())
        self.set_ready(False)
        await self._server.start()
        self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        return port

    def set_ready(self, is_ready: bool) -> None:
        """Tell health checks whether to send calls here. Once it drains, the answer stays no."""
        serving = health_pb2.HealthCheckResponse
        is_serving = is_ready and not self._is_draining
        status = serving.SERVING if is_serving else serving.NOT_SERVING
        for name in ("", SERVICE):
            self._health.set(name, status)

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, let open turns end within the grace, then stop.

        Calls that arrive meanwhile are refused in words, not cut: see `door`. Watches, exports and
        rehearsals end at once. Whatever is open when all turns have ended, such as health watches
        and streams that nobody reads, has a second to end and is then cut.
        """
        self._is_draining = True
        self.set_ready(False)
        self._door.hold()
        self._core.watches.drain()
        self._core.exports.drain()
        self._core.rehearsals.drain()
        if self._core.feeds is not None:
            self._core.feeds.drain()
        draining = asyncio.create_task(self._core.turns.drain(grace_s))
        await self._door.until_quiet()
        stopping = asyncio.create_task(self._server.stop(grace_s + LAST_WORDS_S))
        await asyncio.sleep(0)  # until connections are told: what is held must not be sooner
        self._door.release()
        await draining
        await asyncio.wait([stopping], timeout=LAST_WORDS_S)
        await self._server.stop(0)
        await stopping

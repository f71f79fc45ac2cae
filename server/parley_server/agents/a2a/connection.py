"""The connection to a remote agent: one channel for each worker, opened when it is first used."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from a2a.types import a2a_pb2, a2a_pb2_grpc
from a2a.utils.constants import PROTOCOL_VERSION_CURRENT, VERSION_HEADER

from parley_server.agents.a2a.access import Access, Address, Certificates
from parley_server.agents.a2a.failures import OutOfProtocol

MAX_EVENT_BYTES = 4 * 1024 * 1024
CANCEL_S = 5.0
"""How long an agent may take to hear that its task is cancelled."""

Headers = Sequence[tuple[str, str]]

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_EVENT_BYTES),
    ("grpc.max_send_message_length", -1),
    # Attempts are Parley's to make.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # A dead host is noticed when it does not acknowledge for 20 s. More pings than one in five
    # minutes are an offence to gRPC's servers as they are set by default.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # An agent that is back is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)


Response = TypeVar("Response")


class Connection:
    """Calls the methods of A2A. gRPC's errors go through: `failures` says what they are."""

    def __init__(self, address: Address, access: Access) -> None:
        """Read what the connection needs; connect to nothing.

        Raises: BadAgent.
        """
        access.check(address)
        self._address = address
        self._files = Certificates.read(access)
        self._headers = [(VERSION_HEADER.lower(), PROTOCOL_VERSION_CURRENT)]
        if access.token is not None:
            self._headers.append(("authorization", f"Bearer {access.token}"))
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    async def stream(
        self, request: a2a_pb2.SendMessageRequest, headers: Headers, timeout_s: float | None
    ) -> AsyncGenerator[a2a_pb2.StreamResponse, None]:
        """Call SendStreamingMessage. Guarantees: closing the generator cancels the call."""
        call = self._opened().SendStreamingMessage(
            request, metadata=[*self._headers, *headers], timeout=timeout_s
        )
        try:
            async for response in call:
                yield _parsed(response)
        finally:
            call.cancel()

    async def send(
        self, request: a2a_pb2.SendMessageRequest, headers: Headers, timeout_s: float | None
    ) -> AsyncGenerator[a2a_pb2.StreamResponse, None]:
        """Call SendMessage. Its answer is yielded as a stream of one event."""
        answer = await self._opened().SendMessage(
            request, metadata=[*self._headers, *headers], timeout=timeout_s
        )
        if _parsed(answer).WhichOneof("payload") == "task":
            yield a2a_pb2.StreamResponse(task=answer.task)
        else:
            yield a2a_pb2.StreamResponse(message=answer.message)

    async def cancel(self, task_id: str, headers: Headers) -> None:
        """Call CancelTask; what comes of it is the agent's affair."""
        with suppress(grpc.RpcError):
            await self._opened().CancelTask(
                a2a_pb2.CancelTaskRequest(id=task_id),
                metadata=[*self._headers, *headers],
                timeout=CANCEL_S,
            )

    async def close(self) -> None:
        """End all calls and disconnect."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    def _opened(self) -> Any:
        if self._channel is None:
            self._channel = self._opening()
            self._stub = a2a_pb2_grpc.A2AServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated without types
        return self._stub

    def _opening(self) -> grpc.aio.Channel:
        if not self._address.is_tls:
            return grpc.aio.insecure_channel(self._address.target, _OPTIONS)
        credentials = grpc.ssl_channel_credentials(
            self._files.ca, self._files.key, self._files.cert
        )
        return grpc.aio.secure_channel(self._address.target, credentials, _OPTIONS)


def _parsed(response: Response | None) -> Response:
    """Return a response; gRPC's library hands out None for one that it cannot parse."""
    if response is None:
        raise OutOfProtocol("an event that is no protobuf of A2A")
    return response

"""The connection to a remote agent: one channel for each worker, opened when it is first used.

If the agent's certificates are renewed, calls go over another channel from then on. Calls under way
keep theirs, which is closed after the last of them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import grpc
from a2a.types import a2a_pb2, a2a_pb2_grpc
from a2a.utils.constants import PROTOCOL_VERSION_CURRENT, VERSION_HEADER

from parley_server import proxies
from parley_server.agents.a2a.access import Access, Address
from parley_server.agents.a2a.failures import OutOfProtocol
from parley_server.certificates import Certificates

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


class _Channel:
    """A channel, and the certificates that it was opened with."""

    def __init__(self, address: Address, certificates: Certificates) -> None:
        """Open it; connect to nothing."""
        self.certificates = certificates
        self.calls = 0
        """How many are under way."""
        options = [*_OPTIONS, *proxies.options(address.host, is_encrypted=address.is_tls)]
        if address.is_tls:
            credentials = grpc.ssl_channel_credentials(
                certificates.ca, certificates.key, certificates.cert
            )
            self._channel = grpc.aio.secure_channel(address.target, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(address.target, options)
        self.stub: Any = a2a_pb2_grpc.A2AServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated without types

    async def close(self) -> None:
        """End all calls and disconnect."""
        await self._channel.close(None)


class Connection:
    """Calls the methods of A2A. gRPC's errors go through: `failures` says what they are."""

    def __init__(self, address: Address, access: Access) -> None:
        """Read what the connection needs; connect to nothing.

        Raises: BadAgent.
        """
        access.check(address)
        self._address = address
        self._certificates = access.certificates(address)
        self._headers = [(VERSION_HEADER.lower(), PROTOCOL_VERSION_CURRENT)]
        if access.token is not None:
            self._headers.append(("authorization", f"Bearer {access.token}"))
        self._channel: _Channel | None = None
        self._replaced: set[_Channel] = set()
        """Channels with certificates that were renewed since, until their last calls are over."""

    async def stream(
        self, request: a2a_pb2.SendMessageRequest, headers: Headers, timeout_s: float | None
    ) -> AsyncGenerator[a2a_pb2.StreamResponse, None]:
        """Call SendStreamingMessage. Guarantees: closing the generator cancels the call."""
        async with self._opened() as stub:
            call = stub.SendStreamingMessage(
                request, metadata=[*self._headers, *headers], timeout=timeout_s
            )
            responses = aiter(call)
            try:
                async for response in responses:
                    yield _parsed(response)
            finally:
                call.cancel()
                # Or each would keep the other, and the connection, until garbage is collected.
                await responses.aclose()

    async def send(
        self, request: a2a_pb2.SendMessageRequest, headers: Headers, timeout_s: float | None
    ) -> AsyncGenerator[a2a_pb2.StreamResponse, None]:
        """Call SendMessage. Its answer is yielded as a stream of one event."""
        async with self._opened() as stub:
            answer = await stub.SendMessage(
                request, metadata=[*self._headers, *headers], timeout=timeout_s
            )
        if _parsed(answer).WhichOneof("payload") == "task":
            yield a2a_pb2.StreamResponse(task=answer.task)
        else:
            yield a2a_pb2.StreamResponse(message=answer.message)

    async def cancel(self, task_id: str, headers: Headers) -> None:
        """Call CancelTask; what comes of it is the agent's affair."""
        async with self._opened() as stub:
            with suppress(grpc.RpcError):
                await stub.CancelTask(
                    a2a_pb2.CancelTaskRequest(id=task_id),
                    metadata=[*self._headers, *headers],
                    timeout=CANCEL_S,
                )

    async def close(self) -> None:
        """End all calls and disconnect."""
        channels = [*self._replaced, *([self._channel] if self._channel else [])]
        self._channel = None
        self._replaced.clear()
        for channel in channels:
            await channel.close()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Any]:
        """Yield what to call a method on."""
        channel = self._newest()
        channel.calls += 1
        try:
            yield channel.stub
        finally:
            channel.calls -= 1
            for unused in [old for old in self._replaced if not old.calls]:
                self._replaced.discard(unused)
                await unused.close()

    def _newest(self) -> _Channel:
        """Return a channel with the newest certificates."""
        certificates = self._certificates.newest()
        if self._channel is not None and self._channel.certificates is not certificates:
            self._replaced.add(self._channel)
            self._channel = None
        if self._channel is None:
            self._channel = _Channel(self._address, certificates)
        return self._channel


def _parsed(response: Response | None) -> Response:
    """Return a response; gRPC's library hands out None for one that it cannot parse."""
    if response is None:
        raise OutOfProtocol("an event that is no protobuf of A2A")
    return response

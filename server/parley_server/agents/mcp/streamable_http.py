"""A server that speaks streamable HTTP, read within bounds.

a body of JSON longer than MAX_MESSAGE_BYTES   → an error of the one call
an event of a stream that is longer            → the same
half a character, no UTF-8                     → U+FFFD, as over standard output
a compressed body                              → refused: its length would be anyone's guess
a redirect to another origin                   → not followed (the library's own rule)
another status, another content type           → an error of the one call (the library's)
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Unpack, cast
from urllib.request import getproxies, proxy_bypass

import httpx2
from fastmcp.client.transports.base import ClientTransport, SessionKwargs, TransportOptions
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from parley_server.agents.mcp.messages import (
    MAX_MESSAGE_BYTES,
    TOO_LONG,
    CleanedStream,
    Complain,
    readable,
)
from parley_server.proxies import is_on_this_machine

COMPRESSED = "The answer is compressed, which was not asked for."
CONNECT_S = 10.0


class HttpTransport(ClientTransport):
    """Holds one client for each session."""

    def __init__(
        self, url: str, headers: Mapping[str, str], silence_s: float, complain: Complain
    ) -> None:
        """Make a transport.

        Args:
            silence_s: how long a stream may say nothing.
        """
        self._url = url
        self._headers = headers
        self._silence_s = silence_s
        self._complain = complain

    @asynccontextmanager
    async def connect_session(
        self,
        *,
        transport_options: TransportOptions | None = None,
        **session_kwargs: Unpack[SessionKwargs],
    ) -> AsyncGenerator[ClientSession, None]:
        """Open a client for a session."""
        options = transport_options or TransportOptions()
        timeout = httpx2.Timeout(CONNECT_S, read=self._silence_s)
        headers = {**self._headers, "Accept-Encoding": "identity"}
        bounded = _Bounded(httpx2.AsyncHTTPTransport(proxy=_proxy_for(httpx2.URL(self._url))))
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, transport=bounded) as client,
            streamable_http_client(
                self._url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES
            ) as (arrived, send),
            options.session_class(
                CleanedStream(arrived, self._complain), send, **session_kwargs
            ) as session,
        ):
            yield session


def _proxy_for(url: httpx2.URL) -> str | None:
    """Return the proxy that the environment names: the library looks for none beside a transport.

    None: there is none, or it is not for this server.
    """
    if is_on_this_machine(url.host) or proxy_bypass(url.host):
        return None
    known = getproxies()
    found = known.get(url.scheme) or known.get("all")
    return found if not found or "://" in found else f"http://{found}"


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends bodies that are too long."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            del response.headers["content-encoding"]
            response.stream = _Refused(COMPRESSED)
        elif not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Whole(cast(httpx2.AsyncByteStream, response.stream))
        else:
            response.stream = _Lines(cast(httpx2.AsyncByteStream, response.stream))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body(httpx2.AsyncByteStream):
    """Stands before the body of a response."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Whole(_Body):
    """A body of JSON, which the library reads as a whole."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = bytearray()
        async for chunk in self._inner:
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                raise httpx2.StreamError(TOO_LONG)
        yield readable(bytes(body))


class _Lines(_Body):
    """A stream of events, line by line. The library bounds an event."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = bytearray()
        async for chunk in self._inner:
            end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
            if end or len(held) > MAX_MESSAGE_BYTES:
                yield readable(bytes(held) + chunk[:end])
                held.clear()
            held += chunk[end:]
        yield readable(bytes(held))


class _Refused(httpx2.AsyncByteStream):
    def __init__(self, complaint: str) -> None:
        self._complaint = complaint

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise httpx2.StreamError(self._complaint)
        yield b""

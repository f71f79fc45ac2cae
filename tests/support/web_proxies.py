"""A proxy, as `https_proxy` names one, that records what it is sent and passes nothing on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY")


class RecordingProxy:
    """Where it listens, and the first line of all that was asked of it."""

    def __init__(self, url: str) -> None:
        self.asked: list[str] = []
        self.variables = dict.fromkeys(PROXY_VARIABLES, url)


@asynccontextmanager
async def a_recording_proxy() -> AsyncIterator[RecordingProxy]:
    """Listen inside the block."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recording.asked.append((await reader.readline()).decode("latin-1").strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        recording = RecordingProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield recording


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RecordingProxy]:
    """A proxy that all variables name."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with a_recording_proxy() as proxy:
        for name, url in proxy.variables.items():
            monkeypatch.setenv(name, url)
        yield proxy

"""More turns at once than a worker gets done in half a minute."""

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc
from support.openai_script import Say, chat_chunks, sse
from support.processes import ServerProcess
from support.services import info_of, metadata

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

TURNS = 2_000
CONNECTIONS = 25
THINKING_S = 1.0
HEAD = b"HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER = b"".join([HEAD, *map(sse, chat_chunks(Say("Hello."), {})), sse("[DONE]"), b"0\r\n\r\n"])


@asynccontextmanager
async def a_slow_provider() -> AsyncIterator[str]:
    """Serve answers of a second by OpenAI's protocol. Yields: the base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                await asyncio.sleep(THINKING_S)
                writer.write(ANSWER)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, backlog=TURNS) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def ends_of_burst(port: int) -> Counter[str]:
    """Begin all turns at once, each once. Returns: how they ended.

    Asserts: a call that was not answered was told why, by Parley.
    """
    apart = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with AsyncExitStack() as opened:
        stubs: list[Any] = []
        for _ in range(CONNECTIONS):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", apart)
            await opened.enter_async_context(channel)
            stubs.append(conversation_service_pb2_grpc.ConversationServiceStub(channel))

        async def end(number: int) -> str:
            chat = stubs[number % CONNECTIONS].Chat
            try:
                await chat(pb.ChatRequest(message="hello"), timeout=300, metadata=metadata("ada"))
            except grpc.aio.AioRpcError as error:
                return info_of(error).reason
            return "OK"

        return Counter(await asyncio.gather(*(end(number) for number in range(TURNS))))


async def test_a_burst_of_turns_is_answered_or_refused_in_words_however_long_it_takes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails without grpc.server_max_unrequested_time_in_server: after 30 s gRPC's core ends what
    the worker's loop has not picked up as CANCELLED, some 300 of the 2,000."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the worker inherits it
    try:
        async with a_slow_provider() as url:
            monkeypatch.setenv("OPENAI_BASE_URL", url)
            monkeypatch.setenv("OPENAI_API_KEY", "any")
            with ServerProcess(database_url, agent="openai-chat:any") as server:
                ends = await ends_of_burst(server.port)
        busy = {"OVERLOADED", "STORE_UNAVAILABLE", "AGENT_UNAVAILABLE"}  # a busy machine's words
        assert set(ends) <= {"OK", *busy}, ends
        assert ends["OK"] > TURNS * 0.9, ends
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))

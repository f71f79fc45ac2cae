"""Workers that are replaced one by one behind Envoy, under load, with streams and watches open."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_client import AsyncParleyClient
from parley_client.channels import options
from support.envoys import Caller, Envoy
from support.processes import ServerProcess
from support.services import a_token, an_id, metadata

SERVICE_CONFIG = str(dict(options())["grpc.service_config"])
SAFE = (("parley-retry", "safe"),)
AGENT = "echo:0.2"
TOLD_S = 20
"""How long watches may take to tell the last turn."""

Chat = Callable[[str, str], Awaitable[Any]]
Pairs = tuple[tuple[str, str], ...]


def with_stubs(caller: Caller, safe: Pairs) -> Chat:
    """Chat by plain stubs."""

    async def chat(message: str, request_id: str) -> Any:
        return await caller.stub.Chat(
            pb.ChatRequest(message=message, request_id=request_id),
            timeout=60,
            metadata=(*metadata("ada"), *safe),
        )

    return chat


def with_streams(caller: Caller, safe: Pairs) -> Chat:
    """Chat by plain stubs, as a stream that is asked for once."""

    async def chat(message: str, request_id: str) -> Any:
        request = pb.StreamChatRequest(chat=pb.ChatRequest(message=message, request_id=request_id))
        call = caller.stub.StreamChat(request, timeout=60, metadata=(*metadata("ada"), *safe))
        return [event async for event in call][-1].completed

    return chat


def with_client(client: AsyncParleyClient) -> Chat:
    """Chat by the Python client."""

    async def chat(message: str, request_id: str) -> Any:
        return await client.chat(message, request_id=request_id, timeout_s=60)

    return chat


async def calls_until(over: asyncio.Event, chat: Chat, name: str) -> list[tuple[str, Any]]:
    """Make one turn after the other. Returns: what was said, and the answer or the error."""
    said: list[Any] = []
    for number in itertools.count():
        if over.is_set():
            return said
        message = f"{name} {number}"
        (answer,) = await asyncio.gather(chat(message, an_id()), return_exceptions=True)
        said.append((message, answer))
    raise AssertionError


async def told_of_turns(client: AsyncParleyClient, told: list[str]) -> None:
    """Watch the feed: note the request id of each turn that it says is answered."""
    async for update in client.watch_turns():
        if update.HasField("turn") and update.turn.state == cpb.TURN_STATE_COMPLETED:
            told.append(update.turn.request_id)  # noqa: PERF401 - it is read meanwhile


async def told_of_messages(client: AsyncParleyClient, identity: str, told: list[int]) -> None:
    """Watch a conversation: note the sequence of each message."""
    async for update in client.watch(identity):
        if update.HasField("message"):
            told.append(update.message.sequence)  # noqa: PERF401 - it is read meanwhile


async def replaced(worker: ServerProcess, envoy: Envoy, start: Callable[[str], Any]) -> Any:
    """Stop a worker as an orchestrator does, and start another one in its place."""
    assert 0 == await asyncio.to_thread(worker.stop)
    successor = await asyncio.to_thread(start, f"127.0.0.1:{worker.port}")
    await envoy.until_healthy(worker.port)
    return successor


async def restarted_under_load(
    url: str, folder: Path, *, callers: int, rounds: int, is_retried: bool = True
) -> int:
    """Replace both workers so many times, with so many callers of each kind.

    Args:
        is_retried: False: nobody sends a call again, neither Envoy nor a client.
    Returns: how many calls were made.
    Asserts: every call is answered, once, and in Postgres there is one turn for it, with two
        messages; a watch of the feed and one of a conversation tell each once, in order.
    """

    def start(listen: str = "127.0.0.1:0") -> ServerProcess:
        process = ServerProcess(url, agent=AGENT, listen=listen)
        started.enter_context(process)
        return process

    with ExitStack() as started:
        workers = [start(), start()]
        async with (
            Envoy(folder, [worker.port for worker in workers]) as envoy,
            Caller(envoy.address) as plain,
            Caller(envoy.address, SERVICE_CONFIG) as configured,
            AsyncParleyClient(envoy.address, token=a_token()) as client,
        ):
            await envoy.until_healthy(*(worker.port for worker in workers))
            safe = SAFE if is_retried else ()
            kinds = {"plain": with_stubs(plain, safe), "streams": with_streams(plain, safe)}
            if is_retried:
                kinds["configured"] = with_stubs(configured, safe)
                kinds["client"] = with_client(client)
            identity = (await client.create_conversation()).conversation.conversation_id
            turns: list[str] = []
            sequences: list[int] = []
            watching = [
                asyncio.ensure_future(told_of_turns(client, turns)),
                asyncio.ensure_future(told_of_messages(client, identity, sequences)),
            ]
            started.callback(lambda: [watch.cancel() for watch in watching])

            async def in_one_conversation(message: str, request_id: str) -> Any:
                return await client.chat(
                    message, conversation_id=identity, request_id=request_id, timeout_s=60
                )

            over = asyncio.Event()
            calling = [
                asyncio.ensure_future(calls_until(over, chat, f"{kind} {number}"))
                for kind, chat in kinds.items()
                for number in range(callers)
            ]
            calling.append(asyncio.ensure_future(calls_until(over, in_one_conversation, "one")))
            for _ in range(rounds):
                for place, worker in enumerate(workers):
                    workers[place] = await replaced(worker, envoy, start)
            over.set()
            said = [call for caller in await asyncio.gather(*calling) for call in caller]
            failed = [(what, end) for what, end in said if isinstance(end, Exception)]
            assert [] == failed, "a call was lost"
            in_one = [message for message, _ in said if message.startswith("one ")]
            with suppress(TimeoutError):
                async with asyncio.timeout(TOLD_S):
                    while len(turns) < len(said) or len(sequences) < 2 * len(in_one):
                        await asyncio.sleep(0.05)
            for watch in watching:
                watch.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
    assert [message for message, _ in said] == [answer.response for _, answer in said]
    with psycopg.connect(url) as connection:
        stored = connection.execute("SELECT count(*) FROM turn").fetchone()
        requests = connection.execute("SELECT request_id FROM turn").fetchall()
        contents = connection.execute("SELECT content FROM message").fetchall()
    assert (len(said),) == stored
    assert sorted(2 * [message for message, _ in said]) == sorted(text for (text,) in contents)
    assert sorted(name for (name,) in requests) == sorted(turns), "the feed"
    assert list(range(1, 2 * len(in_one) + 1)) == sequences, "the watch of a conversation"
    return len(said)

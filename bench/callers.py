"""The callers, in a process of their own: `python bench/callers.py JOB` prints a Result as JSON.

They measure what they wait for, and look at the CPU clocks of the server and of Postgres right
before their first turn that counts and right after the last one.
"""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice

import grpc
import uvloop
from cpu import clocks, used_s
from google.protobuf.empty_pb2 import Empty

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc

TEXT = ("What was said before is the start of what is said now. " * 4)[:200]
TIMEOUT_S = 120


@dataclass
class Job:
    conversations: str
    """A file of JSON: a list of [token, conversation id]."""
    in_flight: int
    turns: int
    warm_up: int = 0
    """How many turns before the first one that counts."""
    channels: int = 1
    ca_file: str = ""
    """Whom to trust, PEM. Empty: no TLS."""
    is_started: bool = False
    """Whether turns are started instead of waited for, of Parley."""

    # Against what; filled in when it is run.
    kind: str = ""
    """parley, plain, peer or empty."""
    port: int = 0
    start: int = 0
    """Where in the list of conversations to begin."""
    server_pid: int = 0
    postgres_pid: int = 0


@dataclass
class Result:
    turns: int
    failed: int
    turns_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    server_cpu_ms: float
    """For each turn, as the next one."""
    postgres_cpu_ms: float
    caller_cpu_ms: float
    """Of the callers themselves."""


Turn = Callable[[int, str, str], Awaitable[None]]
"""Makes a turn: number of the caller, token, conversation id. Raises what went wrong."""


@asynccontextmanager
async def channels_to(
    port: int, count: int, options: Sequence[tuple[str, int]] = (), ca_file: str = ""
) -> AsyncIterator[list[grpc.aio.Channel]]:
    address = f"127.0.0.1:{port}"
    own = [*options, ("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
    if ca_file:
        with open(ca_file, "rb") as file:  # noqa: ASYNC230 - nothing else runs yet
            trusted = grpc.ssl_channel_credentials(file.read())
        channels = [grpc.aio.secure_channel(address, trusted, own) for _ in range(count)]
    else:
        channels = [grpc.aio.insecure_channel(address, own) for _ in range(count)]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield channels
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


@asynccontextmanager
async def _parley(job: Job) -> AsyncIterator[Turn]:
    async with channels_to(job.port, job.channels, ca_file=job.ca_file) as channels:
        stubs = [pb_grpc.ConversationServiceStub(channel) for channel in channels]

        async def turn(caller: int, token: str, conversation_id: str) -> None:
            request = pb.ChatRequest(
                conversation_id=conversation_id, message=TEXT, request_id=str(uuid.uuid4())
            )
            answered = await stubs[caller % len(stubs)].Chat(
                request, timeout=TIMEOUT_S, metadata=(("authorization", f"Bearer {token}"),)
            )
            if answered.response != TEXT:
                raise AssertionError("not what was to be answered")

        async def start(caller: int, token: str, conversation_id: str) -> None:
            request = pb.ChatRequest(
                conversation_id=conversation_id, message=TEXT, request_id=str(uuid.uuid4())
            )
            accepted = await stubs[caller % len(stubs)].StartTurn(
                pb.StartTurnRequest(chat=request),
                timeout=TIMEOUT_S,
                metadata=(("authorization", f"Bearer {token}"),),
            )
            if accepted.replayed:
                raise AssertionError("not what was to be accepted")

        yield start if job.is_started else turn


@asynccontextmanager
async def _empty(job: Job) -> AsyncIterator[Turn]:
    async with channels_to(job.port, job.channels) as channels:
        calls = [
            channel.unary_unary("/bench.Empty/Call", Empty.SerializeToString, Empty.FromString)
            for channel in channels
        ]

        async def turn(caller: int, token: str, conversation_id: str) -> None:
            await calls[caller % len(calls)](Empty(), timeout=TIMEOUT_S)

        yield turn


@asynccontextmanager
async def _plain(job: Job) -> AsyncIterator[Turn]:
    """HTTP/1.1 with a connection for each caller, kept open, and no more of HTTP than is needed."""
    streams = [await asyncio.open_connection("127.0.0.1", job.port) for _ in range(job.in_flight)]

    async def turn(caller: int, token: str, conversation_id: str) -> None:
        reader, writer = streams[caller]
        body = json.dumps({"conversation_id": conversation_id, "message": TEXT})
        writer.write(
            f"POST /chat HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        answered = json.loads(await reader.readexactly(size))
        if not head.startswith(b"http/1.1 200") or answered["response"] != TEXT:
            raise AssertionError("not what was to be answered")

    yield turn
    for _, writer in streams:
        writer.close()


KINDS = {"parley": _parley, "plain": _plain, "peer": _plain, "empty": _empty}


async def _all_turns(
    turn: Turn, conversations: Iterator[list[str]], in_flight: int
) -> tuple[list[float], int]:
    """Make a turn on each conversation. Returns: how long each took, in s; how many failed."""
    took: list[float] = []
    failed: dict[str, int] = {}

    async def caller(number: int) -> None:
        for token, conversation_id in conversations:
            started = time.perf_counter()
            try:
                await turn(number, token, conversation_id)
            except (grpc.RpcError, AssertionError) as error:
                what = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                failed[str(what)] = failed.get(str(what), 0) + 1
            else:
                took.append(time.perf_counter() - started)

    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    for what, count in failed.items():
        print(f"{count} failed: {what}", file=sys.stderr)
    return took, sum(failed.values())


async def measure(job: Job) -> Result:
    with open(job.conversations) as file:  # noqa: ASYNC230 - nothing else runs yet
        everybody: list[list[str]] = json.load(file)
    conversations = islice(cycle(everybody), job.start, None)
    async with KINDS[job.kind](job) as turn:
        await _all_turns(turn, islice(conversations, job.warm_up), job.in_flight)
        server = clocks(job.server_pid)
        postgres = clocks(job.postgres_pid, with_children=True)
        started, own = time.perf_counter(), time.process_time()
        took, failed = await _all_turns(turn, islice(conversations, job.turns), job.in_flight)
        seconds, own_s = time.perf_counter() - started, time.process_time() - own
        server_s = used_s(server, clocks(job.server_pid))
        postgres_s = used_s(postgres, clocks(job.postgres_pid, with_children=True))
    took.sort()

    def percentile_ms(percent: int) -> float:
        return took[min(len(took) - 1, len(took) * percent // 100)] * 1000 if took else 0.0

    return Result(
        turns=job.turns,
        failed=failed,
        turns_per_s=len(took) / seconds,
        p50_ms=percentile_ms(50),
        p95_ms=percentile_ms(95),
        p99_ms=percentile_ms(99),
        server_cpu_ms=server_s / job.turns * 1000,
        postgres_cpu_ms=postgres_s / job.turns * 1000,
        caller_cpu_ms=own_s / job.turns * 1000,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(measure(Job(**json.loads(sys.argv[1])))))))

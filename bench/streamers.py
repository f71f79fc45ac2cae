"""Those who call StreamChat: `python bench/streamers.py JOB` prints a StreamResult as JSON.

A caller notes when each chunk came and looks into it when all is over, so that it
is not what is slow.
"""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice

import grpc
import uvloop
from callers import TIMEOUT_S, channels_to
from cpu import clocks, used_s
from pieces import Piece, Script, pieces_of

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc

Channels = Sequence[grpc.aio.Channel]


@dataclass
class StreamJob:
    conversations: str
    """A file of JSON: a list of [token, conversation id]."""
    streams: int
    """How many at once."""
    pieces: int
    """Of each turn."""
    per_s: float
    turns: int = 1
    """Of each stream, one after the other."""
    spread_s: float = 1.0
    """Over how long the streams begin."""
    channels: int = 4

    # Against what; filled in when it is run.
    port: int = 0
    other_port: int = 0
    """Of another worker, where a second caller attaches to each turn; 0: none does."""
    start: int = 0
    server_pid: int = 0
    postgres_pid: int = 0


@dataclass
class StreamResult:
    turns: int
    failed: int
    """Not ended well, or not a byte for a byte what was said."""
    pieces: int
    events: int
    first_p50_ms: float
    """From the agent's saying it to its caller, as all delays; of the first piece."""
    p50_ms: float
    p95_ms: float
    max_ms: float
    late_p95_ms: float
    """How late the agent itself was."""
    other_p50_ms: float
    """Of an attached caller on the other worker."""
    other_p95_ms: float
    seconds: float
    server_cpu_s: float
    postgres_cpu_s: float
    callers_cpu_s: float


@dataclass
class Heard:
    """What came through one call."""

    is_attached: bool = False
    began_ns: int = 0
    chunks: list[tuple[int, str]] = field(default_factory=list)
    completed: tuple[int, str] = (0, "")
    problem: str = ""

    def delays(self, script: Script) -> list[tuple[float, Piece]]:
        """Return how long each piece was under way, in ms. Raises: ValueError: any is wrong."""
        text = "".join(chunk for _, chunk in self.chunks)
        came_ns, response = self.completed
        if not response.startswith(text):
            raise ValueError("the answer is not what was streamed")
        came = [*self.chunks, (came_ns, response[len(text) :])]
        delays = [
            ((at_ns - piece.said_ns) / 1e6, piece)
            for at_ns, chunk in came
            for piece in pieces_of(chunk)
        ]
        if [piece.number for _, piece in delays] != list(range(script.pieces)):
            raise ValueError("pieces are missing")
        return delays


async def _hear(
    stub: "pb_grpc.ConversationServiceAsyncStub",
    request: pb.StreamChatRequest,
    token: str,
    started: asyncio.Event,
    heard: Heard,
) -> Heard:
    """Make the call; note what comes."""
    metadata = (("authorization", f"Bearer {token}"),)
    try:
        async for answer in stub.StreamChat(request, timeout=TIMEOUT_S, metadata=metadata):
            now_ns = time.monotonic_ns()
            match answer.WhichOneof("event"):
                case "chunk":
                    heard.chunks.append((now_ns, answer.chunk.text))
                case "completed":
                    heard.completed = (now_ns, answer.completed.response)
                case "started":
                    heard.began_ns = now_ns
                    started.set()
    except grpc.aio.AioRpcError as error:
        heard.problem = f"{error.code().name} {error.details()}"
    started.set()
    return heard


class Streamers:
    def __init__(self, job: StreamJob, here: Channels, there: Channels) -> None:
        self._script = Script(job.pieces, job.per_s)
        self._job = job
        self._here = [pb_grpc.ConversationServiceStub(channel) for channel in here]
        self._there = [pb_grpc.ConversationServiceStub(channel) for channel in there]
        self.heard: list[Heard] = []

    async def one(self, number: int, conversations: list[list[str]]) -> None:
        """Make the turns of one stream."""
        await asyncio.sleep(number * self._job.spread_s / self._job.streams)
        for token, conversation_id in conversations:
            chat = pb.ChatRequest(
                conversation_id=conversation_id,
                message=self._script.as_message(),
                request_id=str(uuid.uuid4()),
            )
            request = pb.StreamChatRequest(chat=chat)
            started = asyncio.Event()
            stub = self._here[number % len(self._here)]
            hearing = [asyncio.create_task(_hear(stub, request, token, started, Heard()))]
            if self._there:
                await started.wait()
                stub = self._there[number % len(self._there)]
                attached = Heard(is_attached=True)
                hearing.append(
                    asyncio.create_task(_hear(stub, request, token, asyncio.Event(), attached))
                )
            self.heard += await asyncio.gather(*hearing)


def _percentile(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0


async def measure(job: StreamJob) -> StreamResult:
    with open(job.conversations) as file:  # noqa: ASYNC230 - nothing else runs yet
        everybody: list[list[str]] = json.load(file)
    theirs = list(islice(cycle(everybody), job.start, job.start + job.streams * job.turns))
    async with (
        channels_to(job.port, job.channels) as here,
        channels_to(job.other_port, job.channels if job.other_port else 0) as there,
    ):
        streamers = Streamers(job, here, there)
        pids = ((job.server_pid, False), (job.postgres_pid, True), (os.getpid(), False))
        before = [clocks(pid, with_children=all_of_it) for pid, all_of_it in pids]
        began = time.perf_counter()
        await asyncio.gather(
            *(streamers.one(n, theirs[n :: job.streams]) for n in range(job.streams))
        )
        seconds = time.perf_counter() - began
        after = [clocks(pid, with_children=all_of_it) for pid, all_of_it in pids]
    server_s, postgres_s, callers_s = map(used_s, before, after)
    return _result(job, streamers.heard, seconds, server_s, postgres_s, callers_s)


def _result(job: StreamJob, everything: list[Heard], seconds: float, *cpu_s: float) -> StreamResult:
    script = Script(job.pieces, job.per_s)
    failed: dict[str, int] = {}
    first, here, late, there = [], [], [], []
    for heard in everything:
        try:
            if heard.problem:
                raise ValueError(heard.problem)
            delays = heard.delays(script)
        except ValueError as error:
            failed[str(error)] = failed.get(str(error), 0) + 1
            continue
        if heard.is_attached:
            there += [delay for delay, piece in delays if piece.said_ns > heard.began_ns]
        else:
            first.append(delays[0][0])
            here += [delay for delay, _ in delays]
            late += [piece.late_us / 1000 for _, piece in delays]
    for what, count in failed.items():
        print(f"{count} failed: {what}", file=sys.stderr)
    for values in (first, here, late, there):
        values.sort()
    return StreamResult(
        turns=job.streams * job.turns,
        failed=sum(failed.values()),
        pieces=len(here),
        events=sum(len(heard.chunks) for heard in everything if not heard.is_attached),
        first_p50_ms=_percentile(first, 50),
        p50_ms=_percentile(here, 50),
        p95_ms=_percentile(here, 95),
        max_ms=_percentile(here, 100),
        late_p95_ms=_percentile(late, 95),
        other_p50_ms=_percentile(there, 50),
        other_p95_ms=_percentile(there, 95),
        seconds=seconds,
        server_cpu_s=cpu_s[0],
        postgres_cpu_s=cpu_s[1],
        callers_cpu_s=cpu_s[2],
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(measure(StreamJob(**json.loads(sys.argv[1])))))))

"""Callers who do not wait for each other: `python bench/arrivals.py JOB`.

Turns arrive at a rate, whatever became of those before. Prints an ArrivalResult for each phase.
"""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle

import grpc
import uvloop
from callers import TEXT, TIMEOUT_S, channels_to

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc


@dataclass
class ArrivalJob:
    conversations: str
    """A file of JSON: a list of [token, conversation id]."""
    phases: list[tuple[float, float]]
    """Of each: turns a second, and seconds."""
    port: int
    channels: int = 40


@dataclass
class ArrivalResult:
    offered: int
    answered: int = 0
    refused: int = 0
    """RESOURCE_EXHAUSTED; of what else went wrong, `failed` counts."""
    failed: int = 0
    answered_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    last_refusal_s: float = 0.0
    """When the last turn arrived that was not answered, from the phase's start; 0: none was."""
    _took: list[float] = field(default_factory=list)

    def summed_up(self, seconds: float) -> dict[str, float]:
        self._took.sort()
        if self._took:
            self.p50_ms = self._took[len(self._took) // 2] * 1000
            self.p99_ms = self._took[len(self._took) * 99 // 100] * 1000
        self.answered_per_s = self.answered / seconds
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


class Arrivals:
    def __init__(
        self, job: ArrivalJob, stubs: "list[pb_grpc.ConversationServiceAsyncStub]"
    ) -> None:
        self._stubs = cycle(stubs)
        with open(job.conversations) as file:
            self._conversations: Iterator[list[str]] = cycle(json.load(file))
        self._under_way: set[asyncio.Task[None]] = set()

    async def phase(self, per_s: float, seconds: float) -> ArrivalResult:
        """Have turns arrive evenly. Returns before the last of them is answered."""
        result = ArrivalResult(offered=int(per_s * seconds))
        began = time.perf_counter()
        for number in range(result.offered):
            due_s = number / per_s - (time.perf_counter() - began)
            if due_s > 0:
                await asyncio.sleep(due_s)
            turn = asyncio.create_task(self._turn(result, began))
            self._under_way.add(turn)
            turn.add_done_callback(self._under_way.discard)
        return result

    async def _turn(self, result: ArrivalResult, phase_began: float) -> None:
        token, conversation_id = next(self._conversations)
        request = pb.ChatRequest(
            conversation_id=conversation_id, message=TEXT, request_id=str(uuid.uuid4())
        )
        began = time.perf_counter()
        try:
            await next(self._stubs).Chat(
                request, timeout=TIMEOUT_S, metadata=(("authorization", f"Bearer {token}"),)
            )
        except grpc.aio.AioRpcError as error:
            result.last_refusal_s = max(result.last_refusal_s, began - phase_began)
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                result.refused += 1
            else:
                result.failed += 1
                print(error.code().name, error.details(), file=sys.stderr)
        else:
            result.answered += 1
            result._took.append(time.perf_counter() - began)

    async def answered(self) -> None:
        """Wait for all that is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)


async def measure(job: ArrivalJob) -> list[dict[str, float]]:
    # gRPC's own retries would arrive besides, and hide what was refused.
    async with channels_to(job.port, job.channels, [("grpc.enable_retries", 0)]) as channels:
        arrivals = Arrivals(job, [pb_grpc.ConversationServiceStub(channel) for channel in channels])
        results = [await arrivals.phase(per_s, seconds) for per_s, seconds in job.phases]
        await arrivals.answered()
    return [
        result.summed_up(seconds) for result, (_, seconds) in zip(results, job.phases, strict=True)
    ]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(ArrivalJob(**json.loads(sys.argv[1]))))))

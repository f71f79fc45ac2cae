"""Those who watch conversations in which nothing happens: `python bench/watchers.py JOB`.

Says `ready` once each of them has been told what there is, then watches until its input ends, and
prints a WatchResult as JSON.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass

import grpc
import uvloop
from callers import channels_to

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc

WATCH_TIMEOUT_S = 200
READY = "ready"


@dataclass
class WatchJob:
    conversations: str
    watchers: int
    port: int
    after_sequence: int
    channels: int = 12


@dataclass
class WatchResult:
    failed: int
    """Of the watchers: those whose watch ended, or never began."""
    progress: int
    """How often they were told how far they are."""


class Watcher:
    def __init__(self) -> None:
        self.is_behind = asyncio.get_running_loop().create_future()
        self.progress = 0

    async def watch(
        self, stub: "pb_grpc.ConversationServiceAsyncStub", job: WatchJob, who: list[str]
    ) -> None:
        token, conversation_id = who
        request = pb.WatchConversationRequest(
            conversation_id=conversation_id, after_sequence=job.after_sequence
        )
        try:
            async for update in stub.WatchConversation(
                request, timeout=WATCH_TIMEOUT_S, metadata=(("authorization", f"Bearer {token}"),)
            ):
                if update.HasField("progress"):
                    self.progress += 1
                    if not self.is_behind.done():
                        self.is_behind.set_result(None)
        except grpc.aio.AioRpcError as error:
            print(error.code().name, error.details(), file=sys.stderr)
        finally:
            if not self.is_behind.done():
                self.is_behind.set_result(None)


async def watch(job: WatchJob) -> WatchResult:
    with open(job.conversations) as file:  # noqa: ASYNC230 - nothing else runs yet
        theirs: list[list[str]] = json.load(file)[: job.watchers]
    async with channels_to(job.port, job.channels) as channels:
        stubs = [pb_grpc.ConversationServiceStub(channel) for channel in channels]
        watchers = [Watcher() for _ in theirs]
        watching = [
            asyncio.create_task(one.watch(stubs[number % len(stubs)], job, who))
            for number, (one, who) in enumerate(zip(watchers, theirs, strict=True))
        ]
        await asyncio.gather(*(one.is_behind for one in watchers))
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        failed = sum(task.done() for task in watching)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return WatchResult(failed, sum(one.progress for one in watchers))


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(watch(WatchJob(**json.loads(sys.argv[1])))))))

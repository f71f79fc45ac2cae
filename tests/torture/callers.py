"""Makes so many calls at once, again and again, until it is killed. A process of its own.

Answers stay bytes, and the process gets what others leave of the machine, since an attacker would
have a machine of its own: what is measured is the worker, not who calls it.
"""

import asyncio
import json
import os
import sys
from typing import Any

import grpc

CALLS_OF_A_CONNECTION = 90


async def main(job: dict[str, Any]) -> None:
    os.nice(19)
    path = f"/parley.v1.ConversationService/{job['method']}"
    metadata = [tuple(pair) for pair in job["metadata"]]
    request = bytes.fromhex(job["request"])

    async def call(channel: grpc.aio.Channel) -> None:
        unary, stream = (
            channel.unary_unary(path, None, None),
            channel.unary_stream(path, None, None),
        )
        while True:
            try:
                if job["is_stream"]:
                    async for _ in stream(request, metadata=metadata, timeout=60):
                        pass
                else:
                    await unary(request, metadata=metadata, timeout=60)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.5)  # as RetryInfo asks for

    channels = [
        grpc.aio.insecure_channel(
            f"127.0.0.1:{job['port']}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(-(-job["times"] // CALLS_OF_A_CONNECTION))
    ]
    calls = [call(channels[n % len(channels)]) for n in range(job["times"])]
    print("calling", flush=True)
    await asyncio.wait_for(asyncio.gather(*calls), 120)


asyncio.run(main(json.loads(sys.argv[1])))

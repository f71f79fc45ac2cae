"""A worker whose agent asks its caller, as a process: `python -m support.asking_server [NAME …]`.

ASKING_HOLD: the attempt from which on the agent never comes to an end.
NAME: a protection to be without, see `support.torture.unprotected`.
"""

import asyncio
import os
import sys

from parley_server.config import load
from parley_server.core.model import AgentRun
from parley_server.process.worker import Worker
from support.torture.unprotected import remove
from support.waiting import AskingAgent


async def hold(run: AgentRun) -> None:
    if run.attempt >= int(os.environ.get("ASKING_HOLD", "99")):
        await asyncio.sleep(600)


async def serve() -> None:
    worker = Worker(load(), agent=AskingAgent((("weather", "weather"),), at_end=hold))
    async with worker.serving() as port:
        print(f"serves on 127.0.0.1:{port}", file=sys.stderr, flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        remove(name)
    asyncio.run(serve())

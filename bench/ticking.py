"""A worker whose agent is a clock: `python bench/ticking.py`, with the settings of `serve`.

Its turns say what Script asks for, evenly, and each piece says when it was said.
"""

import asyncio
import gc
import signal
import time
from collections.abc import AsyncGenerator

import uvloop
from pieces import Script, piece_text

from parley_server import config
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Text
from parley_server.process.worker import Worker
from parley_server.telemetry import logs


class TickingAgent:
    model = "ticking"
    context_tokens = None

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Say the pieces that the message asks for, each at its time."""
        script = Script.of(run.window.messages[-1].content)
        started_ns = time.monotonic_ns()
        for number in range(script.pieces):
            due_ns = started_ns + int(number / script.per_s * 1e9)
            await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            yield Text(piece_text(number, due_ns))
        yield Finish(FinishReason.STOP, self.model)


async def serve() -> None:
    settings = config.load()
    logs.set_up(settings.log_format)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Worker(settings, agent=TickingAgent()).serving() as port:
        # As the server's own workers do.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        print(f"serves on 127.0.0.1:{port}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    uvloop.run(serve())

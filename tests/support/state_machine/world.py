"""Two workers on one database, called through real channels, whose agents wait at a gate."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import grpc

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.attempts.roster import NamedAgent
from parley_server.process.worker import Worker
from support.services import Service, settings_for
from support.state_machine.asking import GatedAgent
from support.state_machine.values import AGENTS, MAX_ATTEMPTS, Run

SETTLED_S = 10.0
"""How long anything may take that has to happen; it takes milliseconds."""
WORKERS = (0, 1)
IDLE_DAYS, AGE_DAYS = 30, 90
"""After how long retention deletes a conversation."""

T = TypeVar("T")


class World:
    """Two workers for all examples. Each example has owners of its own, so it starts empty."""

    def __init__(self, database_url: str, usual: dict[str, Any]) -> None:
        self.database_url = database_url
        self.usual = usual
        self.runner = asyncio.Runner()
        self.services: list[Service] = []
        self.entered: asyncio.Queue[Run] = asyncio.Queue()
        self.calls: list[asyncio.Task[pb.ChatResponse]] = []
        self.examples = itertools.count(1)
        self._started = AsyncExitStack()

    async def clear(self) -> None:
        """Forget an example, and stop what it left running because it failed."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        self.calls.clear()
        while not self.entered.empty():
            self.entered.get_nowait()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    async def start(self) -> None:
        for number in WORKERS:
            # The lease ends when a rule says so, and never by itself.
            settings = settings_for(
                **self.usual,
                lease_s=3600,
                max_attempts=MAX_ATTEMPTS,
                trash_days=1,
                retention_idle_days=IDLE_DAYS,
                retention_age_days=AGE_DAYS,
            )
            gated = [GatedAgent(number, name, self.entered.put_nowait) for name in AGENTS]
            worker = Worker(settings, agent=gated[0])
            roster = worker.turns.roster
            window = roster.default.window
            roster.replace(
                [NamedAgent(name, of, window) for name, of in zip(AGENTS, gated, strict=True)],
                default=AGENTS[0],
            )
            port = await self._started.enter_async_context(worker.serving())
            channel = await self._started.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            )
            self.services.append(Service(worker, port, channel))
            # It looks for what is too old when a rule says so, and never by itself.
            await worker.retention.close()
            worker.retention.is_closing = False
        pause = now_and_then()
        while not all(service.worker.signals.are_live for service in self.services):
            await pause("the workers do not hear each other")

    def close(self) -> None:
        try:
            self.do(self._started.aclose())
        finally:
            self.runner.close()


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, SETTLED_S)


def now_and_then() -> Callable[[str], Awaitable[None]]:
    """Return a pause for loops that wait for something. It ends the test if that never comes."""
    deadline = time.monotonic() + SETTLED_S

    async def pause(what: str) -> None:
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.002)

    return pause

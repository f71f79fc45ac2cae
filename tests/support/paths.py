"""A path to a server that a test can point elsewhere, or have go silent while it stays open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], Awaitable[Ends]]


class Path:
    """Forwards bytes to whatever it is pointed at."""

    def __init__(self, destination: Open) -> None:
        self.destination = destination
        """Where new connections lead. Those that are there stay where they lead."""
        self.port = 0
        self.made = 0
        """How many connections were made so far."""
        self._is_passing = asyncio.Event()
        self._is_passing.set()
        self._dead: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers) // 2

    def go_silent(self) -> None:
        """Take everything, new connections too, and pass nothing on."""
        self._is_passing.clear()

    def pass_again(self) -> None:
        """Pass on what new connections say. What was silent stays silent, and open."""
        self._dead |= self._writers
        self._is_passing.set()

    def resume(self) -> None:
        """Pass everything on that was held back, as a pooler does that was paused."""
        self._is_passing.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.made += 1
        ends = {writer}
        self._writers.add(writer)
        forwarding: list[asyncio.Task[None]] = []
        with suppress(OSError, asyncio.CancelledError):  # a handler may not end as cancelled
            await self._is_passing.wait()
            behind_reader, behind = await self.destination()
            ends.add(behind)
            self._writers.add(behind)
            forwarding = [
                asyncio.create_task(self._forward(reader, behind)),
                asyncio.create_task(self._forward(behind_reader, writer)),
            ]
            await asyncio.wait(forwarding, return_when=asyncio.FIRST_COMPLETED)
        for each in forwarding:
            each.cancel()
        for end in ends:
            end.transport.abort()
        self._writers -= ends
        await asyncio.gather(*forwarding, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._is_passing.wait()
            if writer not in self._dead:
                writer.write(data)
                await writer.drain()


def to_socket(folder: str) -> Open:
    """Lead to an embedded Postgres."""
    return lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")


def to_port(port: int) -> Open:
    """Lead to a server on this machine."""
    return lambda: asyncio.open_connection("127.0.0.1", port)

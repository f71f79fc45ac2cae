"""Cuts TCP connections that lead to a server, at a chosen moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TcpCutter:
    """Passes bytes on between callers and a server, until it is told to cut."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._marks: list[bytes] = []
        self._server_port = 0

    @asynccontextmanager
    async def serving(self, server_port: int) -> AsyncIterator[int]:
        """Lead to a server inside the block. Returns: the port to connect to."""
        self._server_port = server_port
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            self.cut()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Cut every connection now."""
        for writer in list(self._writers):
            writer.close()

    def cut_behind(self, answer: bytes) -> None:
        """Cut the next connection over which this part of an answer goes, once it has gone."""
        self._marks.append(answer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        ends = {writer, to_server}
        self._writers |= ends
        ways = [
            asyncio.ensure_future(self._forward(reader, to_server)),
            asyncio.ensure_future(self._back(from_server, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in ends:
            end.close()
        self._writers -= ends

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                seen = (seen + data)[-(1 << 17) :]
                writer.write(data)
                await writer.drain()
                # What is sent compressed by nobody lies in HTTP/2's frames as it is.
                if mark := next((mark for mark in self._marks if mark in seen), None):
                    self._marks.remove(mark)
                    return

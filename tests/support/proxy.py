"""A proxy in front of Postgres that breaks a connection at a chosen statement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import parse_qs, urlsplit

BEFORE, AFTER = "before", "after"


class PostgresProxy:
    """Forwards bytes between a worker and Postgres.

    Statements are seen as text when the worker does not prepare them (PARLEY_DB_PREPARE=0).
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        host = query.get("host") or parts.hostname or "127.0.0.1"
        port = query.get("port") or str(parts.port or 5432)
        self._path = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else None
        self._address = (host, int(port))
        user = parts.username or "postgres"
        password = f":{parts.password}" if parts.password else ""
        self._login = f"{user}{password}"
        self._database = parts.path.lstrip("/")
        self._breaks: list[tuple[bytes, str]] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.broken = 0
        self.is_down = False

    @property
    def url(self) -> str:
        return f"postgresql://{self._login}@127.0.0.1:{self.port}/{self._database}?sslmode=disable"

    def break_at(self, statement: str, when: str, times: int = 1) -> None:
        """Cut the connection of the next statements that contain this text.

        Args:
            when: BEFORE Postgres sees it, or AFTER Postgres has carried it out and answered.
        """
        self._breaks += [(statement.encode(), when)] * times

    def go_down(self) -> None:
        """Cut every connection and take no more."""
        self.is_down = True
        for writer in list(self._writers):
            writer.close()

    def come_back(self) -> None:
        self.is_down = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.go_down()
            server.close()
            if self._serving:
                await asyncio.wait(self._serving)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        if self._path:
            behind_reader, behind = await asyncio.open_unix_connection(self._path)
        else:
            behind_reader, behind = await asyncio.open_connection(*self._address)
        ends = {writer, behind}
        self._writers |= ends
        is_muted = asyncio.Event()

        async def forward() -> None:
            while data := await reader.read(1 << 20):
                found = next((b for b in self._breaks if b[0] in data), None)
                if found:
                    self._breaks.remove(found)
                    self.broken += 1
                    if found[1] == BEFORE:
                        break
                    is_muted.set()
                behind.write(data)
                await behind.drain()

        async def back() -> None:
            while data := await behind_reader.read(1 << 20):
                if is_muted.is_set():
                    break  # it was carried out, and nobody is told
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.ensure_future(forward()), asyncio.ensure_future(back())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            end.close()
        self._writers -= ends

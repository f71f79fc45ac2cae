"""A line between a worker and Postgres on which every message is counted."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from parley_server.core.attempts import keeping
from parley_server.storage.statements import sql


class PostgresWire:
    """Stands between a worker and Postgres, and takes note of what is carried out.

    It reads the protocol's messages, so that it also sees what is prepared, and what a driver adds
    of its own accord.
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._host = query.get("host") or parts.hostname or "127.0.0.1"
        self._port = int(query.get("port") or parts.port or 5432)
        self._login = f"{parts.username}:{parts.password}" if parts.password else parts.username
        self._database = parts.path.lstrip("/")
        self.executed: list[str] = []
        """The text of each statement, in order."""
        self.round_trips: list[str] = []
        """What was prepared or carried out in each, as text."""
        self.received_bytes = 0

    @property
    def url(self) -> str:
        return f"postgresql://{self._login}@127.0.0.1:{self.port}/{self._database}?sslmode=disable"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a worker that is to be counted.

        Two connections, one for claims and one for ends, so that both are warm after two turns. It
        notifies nobody: one that has just begun does, until it knows that it is alone.
        """
        return {"database_url": self.url, "db_pool_size": 2, "notify": "poll"}

    def clear(self) -> None:
        self.executed.clear()
        self.round_trips.clear()
        self.received_bytes = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _accept(self, front: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        if self._host.startswith("/"):
            path = f"{self._host}/.s.PGSQL.{self._port}"
            back, send = await asyncio.open_unix_connection(path)
        else:
            back, send = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(front, send))
                both.create_task(self._back(back, reply))
        except* OSError:
            pass  # one end is gone

    async def _back(self, back: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        while data := await back.read(1 << 16):
            self.received_bytes += len(data)
            reply.write(data)
        reply.close()

    async def _forward(self, front: asyncio.StreamReader, send: asyncio.StreamWriter) -> None:
        texts: dict[bytes, str] = {}
        bound: dict[bytes, str] = {}
        sent: list[str] = []
        try:
            length = await front.readexactly(4)  # the first message has no kind
            send.write(length + await front.readexactly(struct.unpack(">I", length)[0] - 4))
            while True:
                head = await front.readexactly(5)
                body = await front.readexactly(struct.unpack(">I", head[1:])[0] - 4)
                self._note(head[:1], body, texts, bound, sent)
                send.write(head + body)
        except asyncio.IncompleteReadError:
            send.close()

    def _note(
        self,
        kind: bytes,
        body: bytes,
        texts: dict[bytes, str],
        bound: dict[bytes, str],
        sent: list[str],
    ) -> None:
        if kind == b"P":  # Parse: the statement's name, its text
            name, parsed, _ = body.split(b"\0", 2)
            texts[name] = parsed.decode()
            sent.append(texts[name])
        elif kind == b"B":  # Bind: the portal's name, the statement's
            portal, name, _ = body.split(b"\0", 2)
            bound[portal] = texts[name]
        elif kind == b"E":  # Execute: the portal's name
            text = bound[body.split(b"\0", 1)[0]]
            self.executed.append(text)
            sent.append(text)
        elif kind == b"Q":  # Query: its text
            self.executed.append(body.rstrip(b"\0").decode())
            self.round_trips.append(self.executed[-1])
        elif kind == b"S":
            self.round_trips.append("; ".join(sent))
            sent.clear()


@pytest.fixture
def no_looks_for_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without notifications a running turn is looked at each half a second: now and then here."""
    monkeypatch.setattr(keeping, "CANCEL_LOOK_S", 3600)


@pytest.fixture
async def wire(database_url: str, no_looks_for_cancels: None) -> AsyncIterator[PostgresWire]:
    async with PostgresWire(database_url).open() as wire:
        yield wire


LOOKS = {
    statement.text
    for statement in (
        sql.ADOPT_FEED,
        sql.BACKLOG,
        sql.DUE_DELETIONS,
        sql.DUE_OWNERS,
        sql.DUE_QUEUES,
        sql.DUE_WAITS,
        sql.RUNNING_ERASURES,
        sql.TRIM_FEED,
    )
}
"""What workers ask now and then, without a call."""


def a_turns(texts: list[str]) -> list[str]:
    """Leave out looks: at the database, which health checks follow, and for something to do."""
    return [text for text in texts if "parley_schema" not in text and text not in LOOKS]

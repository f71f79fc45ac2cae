"""Postgres behind TLS. The embedded one is built without; what ends TLS in front of it is like a
pooler: it answers libpq's request for TLS, and refuses everybody who does not ask."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import parse_qs, urlsplit

from support.certificates import Certificates

SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


class SecuredPostgres:
    """Ends TLS in front of a Postgres on a Unix socket, with the files' certificate of the time."""

    def __init__(self, database_url: str, files: Certificates) -> None:
        self._files = files
        parts = urlsplit(database_url)
        query = parse_qs(parts.query)
        self._socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self.database = parts.path.lstrip("/")
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def cut(self) -> None:
        """Drop every connection. New ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        behind = None
        try:
            if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                return
            writer.write(b"S")
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._files.cert, self._files.key)
            await writer.start_tls(context)
            behind_reader, behind = await asyncio.open_unix_connection(self._socket)
            await asyncio.gather(_forward(reader, behind), _forward(behind_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller does not trust the certificate, or the test has cut the connection
        finally:
            self._writers.discard(writer)
            for end in (writer, behind):
                if end is not None:
                    end.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()

"""Running a compiled statement on a connection: psycopg's own parts, without what a cursor adds.

A cursor parses each statement and looks at each parameter's type at every call, which was a quarter
of a turn's CPU (decision 0010). What is left is libpq, psycopg's generators, and its row loader.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, generators, waiting
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

Row = tuple[Any, ...]
Parameters = dict[str, Any]

_PLACEHOLDER = re.compile(r"\$(\d+)")

_ENCODERS: dict[type, Callable[[Any], tuple[bytes, Format]]] = {
    UUID: lambda value: (value.bytes, Format.BINARY),
    bytes: lambda value: (value, Format.BINARY),
    str: lambda value: (value.encode(), Format.TEXT),
    int: lambda value: (b"%d" % value, Format.TEXT),
    timedelta: lambda value: (b"%f seconds" % value.total_seconds(), Format.TEXT),
    datetime: lambda value: (value.isoformat().encode(), Format.TEXT),
}
"""How a parameter is sent. Its type is in the statement's text."""


class Statement:
    """A statement as Postgres takes it, with the names of its parameters in order."""

    _count = 0

    def __init__(self, text: str, names: tuple[str, ...] = ()) -> None:
        if {int(n) for n in _PLACEHOLDER.findall(text)} != set(range(1, len(names) + 1)):
            raise AssertionError(f"the placeholders are not those of {names}: {text}")
        Statement._count += 1
        self.text = text
        self.names = names
        self.sent = text.encode()
        self.prepared_name = b"parley_%d" % Statement._count

    def __repr__(self) -> str:
        return self.text


class Connection(AsyncConnection[Row]):
    """A connection that runs compiled statements."""

    is_preparing = True
    """Whether statements are prepared at their first use. Not behind poolers that lose them."""

    def __init__(self, pgconn: Any, *arguments: Any) -> None:
        super().__init__(pgconn, *arguments)
        self._known_names: set[bytes] = set()
        self._rows = Transformer.from_context(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched = -1
        """The socket that the loop watches."""
        self._ready: asyncio.Future[waiting.Ready] | None = None

    async def run(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Run a statement and return its rows. One round trip, once it is prepared.

        Args:
            parameters: by name; more than the statement takes are no matter.
        Raises: psycopg.Error.
        """
        values: list[bytes | None] = []
        formats: list[Format] = []
        for name in statement.names:
            value = parameters[name]
            if value is None:
                values.append(None)
                formats.append(Format.TEXT)
            else:
                sent, form = _ENCODERS[type(value)](value)
                values.append(sent)
                formats.append(form)
        if self.is_preparing:
            if statement.prepared_name not in self._known_names:
                self.pgconn.send_prepare(statement.prepared_name, statement.sent)
                await self._result()
                self._known_names.add(statement.prepared_name)
            self.pgconn.send_query_prepared(statement.prepared_name, values, formats, Format.BINARY)
        else:
            self.pgconn.send_query_params(
                statement.sent,
                values,
                param_formats=formats,
                result_format=Format.BINARY,
            )
        result = await self._result()
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, tuple)

    async def _result(self) -> PGresult:
        """Wait for what was sent to be answered."""
        results: list[PGresult] = await self.wait(generators.execute(self.pgconn))
        result = results[-1]
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise error_from_result(result)
        return result

    async def wait(  # psycopg's own hook, which all that it does on a connection goes through
        self,
        gen: Any,
        interval: float = 0.0,
        timeout: float | None = None,  # noqa: ASYNC109 - its signature
    ) -> Any:
        """Drive one of psycopg's generators, for a task that nobody cancels.

        The socket stays watched between statements: watching it anew for each one is two system
        calls, and a connection that ends while it is idle is noticed at once.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        socket = self.pgconn.socket
        if self._watched != socket:
            loop.add_reader(socket, self._readable)
            self._watched = socket
        try:
            wanted = next(gen)
            while True:
                ready = self._ready = loop.create_future()
                if wanted & waiting.WAIT_W:
                    loop.add_writer(socket, self._writable)
                state = await ready
                wanted = gen.send(state)
        except StopIteration as end:
            self._ready = None
            return end.value
        except BaseException:
            self._ready = None
            self._forget_socket()  # libpq may have closed it: its number is free for another one
            raise

    def _readable(self) -> None:
        if self._ready is None:
            # Nobody has asked for anything: the server ends the connection. The next use finds out.
            self._forget_socket()
        elif not self._ready.done():
            self._ready.set_result(waiting.READY_R)

    def _writable(self) -> None:
        if self._loop is not None:
            self._loop.remove_writer(self._watched)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(waiting.READY_W)

    def _forget_socket(self) -> None:
        if self._loop is not None and self._watched >= 0:
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._watched)
        self._watched = -1

    async def close(self) -> None:
        self._forget_socket()
        await super().close()

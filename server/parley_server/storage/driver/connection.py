"""Running a compiled statement on a connection: psycopg's own parts, without what a cursor adds.

A cursor parses each statement and looks at each parameter's type at every call, which was a quarter
of a turn's CPU (decision 0010). What is left is libpq, psycopg's generators, and its row loader.
"""

import asyncio
import math
import re
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, OperationalError, generators, waiting
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Row = tuple[Any, ...]
Parameters = dict[str, Any]

_Encoded = tuple[list[bytes | None], list[Format]]
"""What a statement's parameters are sent as, and how."""

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
        self.is_owned = "owner" in names
        self.sent = text.encode()
        self.prepared_name = b"parley_%d" % Statement._count

    def __repr__(self) -> str:
        return self.text


OWNER_SETTING = "parley.owner"
"""What the policies of row security compare a row's owner with."""

_SET_OWNER = Statement(f"SELECT set_config('{OWNER_SETTING}', $1::uuid::text, true)", ("owner",))
_FINE = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.PIPELINE_SYNC})


class NoAnswer(OperationalError):
    """The time for an answer is over. Whether the statement was carried out is unknown."""


class Server(NamedTuple):
    """What a connection leads to, as it was when it was made."""

    started: str
    """When the server was started, which tells servers apart."""
    takes_writes: bool
    """False: a standby, or a database that is set to be read only."""


class Connection(AsyncConnection[Row]):
    """A connection that runs compiled statements."""

    is_preparing = True
    """Whether statements are prepared at their first use. Not behind poolers that lose them."""
    answer_limit_s = math.inf
    """How long to wait for an answer before the connection counts as lost."""
    server = Server("", takes_writes=True)
    generation = 0
    """Which of its pool's generations it belongs to."""

    def __init__(self, pgconn: Any, *arguments: Any) -> None:
        super().__init__(pgconn, *arguments)
        self._known_names: set[bytes] = set()
        self._rows = Transformer.from_context(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[waiting.Ready] | None = None

    has_row_security = False
    """Whether Postgres is told whose statement it is, for policies to hold it to that owner."""

    @property
    def is_writable(self) -> bool:
        return self.server.takes_writes

    @property
    def is_usable(self) -> bool:
        """Whether another statement may be sent: it is not lost, and in no transaction."""
        return self.pgconn.transaction_status == TransactionStatus.IDLE

    async def run(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Run a statement and return its rows. One round trip, once it is prepared.

        Args:
            parameters: by name; more than the statement takes are no matter.
        Raises: psycopg.Error.
        Guarantees: with row security, a statement that takes an owner sees and writes no rows but
            that owner's, and nothing of it is left on the connection once its transaction ends.
        """
        if self.has_row_security and statement.is_owned:
            result = await self._result_as_owner(statement, parameters)
        else:
            encoded = _encoded(statement, parameters)
            await self._prepare(statement)
            self._send(statement, encoded)
            result = await self._result()
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, tuple)

    async def _prepare(self, statement: Statement) -> None:
        """Prepare a statement at its first use, unless none are prepared."""
        if self.is_preparing and statement.prepared_name not in self._known_names:
            self.pgconn.send_prepare(statement.prepared_name, statement.sent)
            await self._result()
            self._known_names.add(statement.prepared_name)

    def _send(self, statement: Statement, encoded: _Encoded) -> None:
        values, formats = encoded
        if self.is_preparing:
            self.pgconn.send_query_prepared(statement.prepared_name, values, formats, Format.BINARY)
        else:
            self.pgconn.send_query_params(
                statement.sent,
                values,
                param_formats=formats,
                result_format=Format.BINARY,
            )

    async def _result_as_owner(self, statement: Statement, parameters: Parameters) -> PGresult:
        """Say whose statement it is and run it, in one pipeline: one round trip.

        Up to its end a pipeline is one transaction, unless one was begun before. The setting ends
        with it, and so does what goes wrong only at the commit: there is no result before its end.
        """
        sent = [(each, _encoded(each, parameters)) for each in (_SET_OWNER, statement)]
        for each, _ in sent:
            await self._prepare(each)
        self.pgconn.enter_pipeline_mode()
        for each, encoded in sent:
            self._send(each, encoded)
        self.pgconn.pipeline_sync()
        results: list[PGresult] = await self.wait(_pipeline(self.pgconn))
        for result in results:
            if result.status not in _FINE:
                raise error_from_result(result)
        return results[1]

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

        The socket is watched only while it is waited for: libpq closes it by itself when a
        connection breaks, and a loop that still watches its number is deaf to the next one.

        Raises: NoAnswer: within answer_limit_s there was none; the connection is closed then.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        socket = self.pgconn.socket
        limit = None
        try:
            wanted = next(gen)
            while True:
                ready: asyncio.Future[waiting.Ready] = loop.create_future()
                self._ready = ready
                if limit is None and self.answer_limit_s < math.inf:
                    limit = loop.call_later(self.answer_limit_s, self._give_up)
                loop.add_reader(socket, _set, ready, waiting.READY_R)
                if wanted & waiting.WAIT_W:
                    loop.add_writer(socket, _set, ready, waiting.READY_W)
                try:
                    state = await ready
                finally:
                    loop.remove_reader(socket)
                    if wanted & waiting.WAIT_W:
                        loop.remove_writer(socket)
                wanted = gen.send(state)
        except StopIteration as end:
            return end.value
        except NoAnswer:
            await self.close()
            raise
        finally:
            if limit is not None:
                limit.cancel()

    def _give_up(self) -> None:
        """Wait no longer, unless the answer is there and has only not been read yet."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(NoAnswer())


def _encoded(statement: Statement, parameters: Parameters) -> _Encoded:
    """Return what a statement's parameters are sent as, and how."""
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
    return values, formats


def _pipeline(pgconn: PGconn) -> Generator[waiting.Wait, waiting.Ready, list[PGresult]]:
    """Send a pipeline, take its results up to its end, and leave it.

    Raises: OperationalError: the connection ended before the pipeline did.
    """
    yield from generators.send(pgconn)
    results: list[PGresult] = []
    while not results or results[-1].status != ExecStatus.PIPELINE_SYNC:
        if pgconn.status == ConnStatus.BAD:
            raise OperationalError("the connection ended within a pipeline")
        results += yield from generators.fetch_many(pgconn)
    pgconn.exit_pipeline_mode()
    return results


def _set(ready: "asyncio.Future[waiting.Ready]", state: waiting.Ready) -> None:
    if not ready.done():
        ready.set_result(state)

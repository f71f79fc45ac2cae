"""Running a compiled statement on a connection: psycopg's own parts, without what a cursor adds.

A cursor parses each statement and looks at each parameter's type at every call, which was a quarter
of a turn's CPU (decision 0010). What is left is libpq, psycopg's generators, and its row loader.
"""

import asyncio
import math
import os
import re
from collections.abc import Callable, Generator
from contextvars import Context
from operator import attrgetter
from typing import Any, NamedTuple

from psycopg import AsyncConnection, OperationalError, generators, waiting
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from parley_server.core.ports import NO_TRACER, Tracer

Row = tuple[Any, ...]
Parameters = dict[str, Any]

_PLACEHOLDER = re.compile(r"\$(\d+)(?:::(\w+))?")

_Encoder = Callable[[Any], bytes]


def _text(value: object) -> bytes:
    return str(value).encode()


_ENCODERS: dict[str, tuple[_Encoder, Format]] = {
    "uuid": (attrgetter("bytes"), Format.BINARY),
    "bytea": (bytes, Format.BINARY),
    "interval": (lambda value: b"%f seconds" % value.total_seconds(), Format.TEXT),
}
"""How a parameter of a type is sent. All others are sent as text."""


class Statement:
    """A statement as Postgres takes it, with the names of its parameters in order.

    A parameter's type is in the text, behind its number.
    """

    _count = 0

    def __init__(self, text: str, names: tuple[str, ...] = (), *, name: str = "statement") -> None:
        """Take a statement apart.

        Args:
            names: of its parameters.
            name: what traces call it.
        """
        types = {int(number): type_ for number, type_ in _PLACEHOLDER.findall(text)}
        if set(types) != set(range(1, len(names) + 1)):
            raise AssertionError(f"the placeholders are not those of {names}: {text}")
        Statement._count += 1
        self.name = name
        self.text = text
        self.names = names
        self.is_owned = "owner" in names
        self.sent = text.encode()
        self.prepared_name = b"parley_%d" % Statement._count
        encoders = [_ENCODERS.get(types[n], (_text, Format.TEXT)) for n in sorted(types)]
        self.formats = [form for _, form in encoders]
        self._encoders = [(name, encode) for name, (encode, _) in zip(names, encoders, strict=True)]

    def encoded(self, parameters: Parameters) -> list[bytes | None]:
        """Return what the parameters are sent as."""
        return [
            None if (value := parameters[name]) is None else encode(value)
            for name, encode in self._encoders
        ]

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
        self._answers: _Answers | None = None
        """None until something is waited for."""

    tracer: Tracer = NO_TRACER
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
        with self.tracer.statement(statement.name):
            if self.has_row_security and statement.is_owned:
                result = await self._result_as_owner(statement, parameters)
            else:
                values = statement.encoded(parameters)
                await self._prepare(statement)
                self._send(statement, values)
                result = await self._result()
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, tuple)

    async def _prepare(self, statement: Statement) -> None:
        """Prepare a statement at its first use, unless none are prepared."""
        if self.is_preparing and statement.prepared_name not in self._known_names:
            self.pgconn.send_prepare(statement.prepared_name, statement.sent)
            await self._result()
            self._known_names.add(statement.prepared_name)

    def _send(self, statement: Statement, values: list[bytes | None]) -> None:
        if self.is_preparing:
            self.pgconn.send_query_prepared(
                statement.prepared_name, values, statement.formats, Format.BINARY
            )
        else:
            self.pgconn.send_query_params(
                statement.sent,
                values,
                param_formats=statement.formats,
                result_format=Format.BINARY,
            )

    async def _result_as_owner(self, statement: Statement, parameters: Parameters) -> PGresult:
        """Say whose statement it is and run it, in one pipeline: one round trip.

        Up to its end a pipeline is one transaction, unless one was begun before. The setting ends
        with it, and so does what goes wrong only at the commit: there is no result before its end.
        """
        sent = [(each, each.encoded(parameters)) for each in (_SET_OWNER, statement)]
        for each, _ in sent:
            await self._prepare(each)
        self.pgconn.enter_pipeline_mode()
        for each, values in sent:
            self._send(each, values)
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
        interval: float = 0.0,  # noqa: ARG002 - its signature
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - its signature
    ) -> Any:
        """Drive one of psycopg's generators, in a task that is never cancelled.

        Raises: NoAnswer: within answer_limit_s there was none; the connection is closed then.
        """
        answers = self._answers
        if answers is None:
            try:
                answers = _Answers(self.pgconn.socket, asyncio.get_running_loop())
            except OSError:
                raise OperationalError("no descriptor is free to watch the connection") from None
            self._answers = answers
        try:
            wanted = next(gen)
            answers.expect_within(self.answer_limit_s)
            while True:
                wanted = gen.send(await answers.ready(is_writing=bool(wanted & waiting.WAIT_W)))
        except StopIteration as end:
            return end.value
        except NoAnswer:
            await self.close()
            raise

    async def close(self) -> None:
        if self._answers is not None:
            self._answers.close()
        await super().close()


class _Answers:
    """Watches a connection's socket for its whole life, through a duplicate of its descriptor.

    libpq closes the socket by itself when a connection breaks, and the next connection may get its
    number: a loop that still watched it would be deaf to that one. Watching it again for each
    statement took eight system calls. A duplicate stays ours until it is closed here.
    """

    def __init__(self, socket: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._descriptor = os.dup(socket)
        self._ready: asyncio.Future[waiting.Ready] | None = None
        self._is_watching = False
        self._limit_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def expect_within(self, limit_s: float) -> None:
        """Say how long what is waited for from now on may take."""
        self._limit_at = self._loop.time() + limit_s

    async def ready(self, *, is_writing: bool) -> waiting.Ready:
        """Wait until the socket can be read or, if that is wanted as well, written.

        Raises: NoAnswer.
        """
        ready: asyncio.Future[waiting.Ready] = self._loop.create_future()
        self._ready = ready
        if self._timer is None and self._limit_at < math.inf:
            # One for many statements: when it is due, it is moved to the limit of that time.
            self._timer = self._loop.call_at(self._limit_at, self._look_at_time)
        if not self._is_watching:
            self._is_watching = True
            # Outside the call's context, which it would hold on to.
            Context().run(self._loop.add_reader, self._descriptor, self._readable)
        if not is_writing:
            return await ready
        self._loop.add_writer(self._descriptor, _set, ready, waiting.READY_W)
        try:
            return await ready
        finally:
            if self._descriptor >= 0:
                self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """Watch no more, and end what is waited for. A second time, this does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(OperationalError("the connection was closed"))

    def _readable(self) -> None:
        ready = self._ready
        if ready is not None and not ready.done():
            ready.set_result(waiting.READY_R)
        else:
            # Data or an end that no statement waits for: the next statement will see it.
            self._is_watching = False
            self._loop.remove_reader(self._descriptor)

    def _look_at_time(self) -> None:
        """Wait no longer if the time is over and the answer is not there."""
        self._timer = None
        if self._ready is None or self._ready.done():
            return
        if self._loop.time() >= self._limit_at:
            self._ready.set_exception(NoAnswer())
        else:
            self._timer = self._loop.call_at(self._limit_at, self._look_at_time)


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

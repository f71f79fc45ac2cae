"""Metrics, on a port of their own, in Prometheus' text format (decision 0013).

    one worker        keeps its numbers in memory, and serves the page itself
    several           each keeps them in files that it has mapped into memory, one set for each
                      worker's index; their parent reads the files and serves the sum

The page is made in a separate thread (`metrics_page`), from what is in memory or in those files:
no call waits for it, and it needs no database. No label has values that callers choose.
"""

import asyncio
import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    make_wsgi_app,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from parley_server.config import BadSettings
from parley_server.core.errors import LeaseLost, ParleyError
from parley_server.core.failures import outcome_of
from parley_server.core.model import Answer, Usage
from parley_server.core.tracing import current_trace
from parley_server.telemetry.metrics_page import page

LOOK_S = 1.0
"""How often gauges are looked at."""
MEMORY = "/dev/shm"  # noqa: S108 - a folder with a name of our own is made in it
"""Where files are kept in memory, on Linux. Elsewhere, a busy disk could hold a worker up."""
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
AGENT_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)

GAUGES: dict[str, tuple[Literal["livesum", "livemax", "livemin"], str]] = {
    "parley_ready": (
        "livemin",
        "1: the worker has its keys and a database that takes writes. The least ready worker's.",
    ),
    "parley_open_turns": ("livesum", "Turns whose agent is running now."),
    "parley_started_turns": ("livesum", "Turns of StartTurn that workers run now."),
    "parley_queue_turns": (
        "livemax",
        "Turns of StartTurn that have not ended, in the database, of 10,000 conversations at most. "
        "Without those in a queue whose first turn waits for its caller.",
    ),
    "parley_queue_oldest_seconds": (
        "livemax",
        "Seconds since the first of those turns was accepted; 0: there is none.",
    ),
    "parley_waiting_turns": (
        "livemax",
        "Turns that wait for their caller, in the database, 10,000 at most.",
    ),
    "parley_open_rehearsals": ("livesum", "Rehearsals whose agent is running now."),
    "parley_watches": ("livesum", "Watches, of all kinds, and exports that are open now."),
    "parley_feed_watches": ("livesum", "WatchTurns calls that are open now."),
    "parley_limit_in_use": ("livesum", "How much of each limited resource is in use now."),
    "parley_limit": ("livesum", "The limit of each limited resource."),
    "parley_database_connections_in_use": (
        "livesum",
        "Connections to Postgres that run a statement or are being opened now, by pool.",
    ),
    "parley_database_requests_waiting": (
        "livesum",
        "Statements that wait for a connection to Postgres now, by pool.",
    ),
    "parley_jwks_age_seconds": (
        "livemax",
        "Seconds since the issuer's keys were last fetched; +Inf: never. The oldest worker's.",
    ),
}
"""Name: how several workers' are put together, and the help text. See `Metrics.gauge`."""

T = TypeVar("T")


class _Children(dict[str, T], Generic[T]):
    """A series' children by one label, each looked up in the library once."""

    def __init__(self, make: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, label: str) -> T:
        child = self[label] = self._make(label)
        return child


class Metrics:
    """A worker's numbers: those of its calls (`rpc.metering`) and of its turns (`core.ports`)."""

    def __init__(self, default_agent: Callable[[], str], worker_index: int | None = None) -> None:
        """Make every series, without a value yet.

        Args:
            default_agent: returns what turns of the default agent count under.
            worker_index: of several workers, this one's: it goes on counting where the one before
                it, of the same index, was killed. The parent has set PROMETHEUS_MULTIPROC_DIR then.
        """
        if worker_index is not None:
            values.ValueClass = values.MultiProcessValue(lambda: worker_index)  # type: ignore[no-untyped-call]
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._default_agent = default_agent
        self._gauges: dict[str, Gauge] = {}
        self._looks: list[tuple[Gauge, Callable[[], float]]] = []
        self._methods: dict[tuple[str, str, str], _MethodMeter] = {}
        of_method = ["grpc_type", "grpc_service", "grpc_method"]
        self._started = self._counter("grpc_server_started", "Calls received.", *of_method)
        self._handled = self._counter(
            "grpc_server_handled", "Calls ended, by status.", *of_method, "grpc_code"
        )
        self._handling = self._histogram(
            "grpc_server_handling_seconds",
            "Seconds from a call's arrival to its end.",
            CALL_SECONDS,
            *of_method,
        )
        turns = self._counter(
            "parley_turns",
            "Attempts that ended here, by outcome: COMPLETED, CANCELLED or the error reason.",
            "agent",
            "outcome",
        )
        tokens = self._counter(
            "parley_tokens",
            "Tokens that agents reported: input, output, and cached_input, which is part of input.",
            "agent",
            "type",
        )
        seconds = self._histogram(
            "parley_agent_seconds", "Seconds that an agent ran for a turn.", AGENT_SECONDS, "agent"
        )
        self._replays = self._counter(
            "parley_replays",
            "Stored answers that were returned again for their request id.",
            "agent",
        )
        self._rehearsals = self._counter(
            "parley_rehearsals",
            "Rehearsals that ended, by outcome: COMPLETED or the error reason.",
            "agent",
            "outcome",
        )
        self._rehearsal_tokens = self._counter(
            "parley_rehearsal_tokens",
            "Tokens that agents reported of rehearsals. parley_tokens has none of them.",
            "agent",
            "type",
        )
        waits = self._counter(
            "parley_waits", "Turns that began to wait for their caller here.", "agent"
        )
        self._waits = _Children(waits.labels)
        wait_ends = self._counter(
            "parley_wait_ends",
            "Waits of turns that ended here, by what ended them: RESUMED, CANCELLED, REPLACED or "
            "EXPIRED.",
            "how",
        )
        self._wait_ends = _Children(wait_ends.labels)
        self._lost = self._counter(
            "parley_leases_lost", "Attempts whose turn was taken over by another attempt.", "agent"
        )
        self._taken_over = self._counter(
            "parley_takeovers", "Turns taken over from workers whose lease had expired."
        )
        self._expired = self._counter(
            "parley_conversations_expired", "Conversations that were deleted by retention."
        )
        removed = self._counter(
            "parley_messages_removed",
            "Messages that were removed for good, by cause: deletion or erasure.",
            "cause",
        )
        self._removed = _Children(removed.labels)
        self._begun = self._counter(
            "parley_turns_begun", "Turns of StartTurn that began on this worker."
        )
        self._fed = self._counter("parley_feed_turns", "Turns that WatchTurns has told.")
        self._turns = _Children(
            lambda agent: _Children(lambda outcome: turns.labels(agent, outcome))
        )
        self._seconds = _Children(seconds.labels)
        self._tokens = _Children(lambda agent: _Children(lambda kind: tokens.labels(agent, kind)))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=tuple(buckets))

    # Calls

    def method(self, kind: str, service: str, name: str) -> "_MethodMeter":
        key = (kind, service, name)
        if key not in self._methods:
            self._methods[key] = _MethodMeter(
                self._started.labels(*key),
                _Children(lambda code: self._handled.labels(*key, code)),
                self._handling.labels(*key),
            )
        return self._methods[key]

    # Turns

    def _label(self, agent: str) -> str:
        return agent or self._default_agent()

    def agent_ran(self, agent: str, seconds: float, usage: Usage | None) -> None:
        name = self._label(agent)
        self._seconds[name].observe(seconds, exemplar())
        tokens = self._tokens[name]
        for kind, count in _tokens(usage):
            tokens[kind].inc(count)

    def answered(self, agent: str, answer: Answer) -> None:
        self._turns[self._label(agent)][answer.outcome].inc()

    def failed(self, agent: str, error: ParleyError) -> None:
        if isinstance(error, LeaseLost):
            self._lost.labels(self._label(agent)).inc()
            return
        self._turns[self._label(agent)][outcome_of(error)].inc()

    def waited(self, agent: str) -> None:
        self._waits[self._label(agent)].inc()

    def wait_ended(self, how: str) -> None:
        self._wait_ends[how].inc()

    def replayed(self, agent: str) -> None:
        self._replays.labels(self._label(agent)).inc()

    def rehearsed(self, agent: str, error: ParleyError | None, usage: Usage | None) -> None:
        name = self._label(agent)
        outcome = "COMPLETED" if error is None else outcome_of(error)
        self._rehearsals.labels(name, outcome).inc()
        for kind, count in _tokens(usage):
            self._rehearsal_tokens.labels(name, kind).inc(count)

    def taken_over(self) -> None:
        self._taken_over.inc()

    def fed(self) -> None:
        """Count a turn that was told in a feed."""
        self._fed.inc()

    def begun(self) -> None:
        self._begun.inc()

    # Upkeep

    def removed(self, cause: str, messages: int) -> None:
        self._removed[cause].inc(messages)

    def expired(self, conversations: int) -> None:
        self._expired.inc(conversations)

    # Gauges

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Look at something once a second, for a gauge of GAUGES.

        Args:
            read: returns at once, and does not fail. It is called on the worker's loop.
        """
        if name not in self._gauges:
            mode, text = GAUGES[name]
            self._gauges[name] = Gauge(
                name, text, list(labels), registry=self.registry, multiprocess_mode=mode
            )
        gauge = self._gauges[name]
        self._looks.append((gauge.labels(**labels) if labels else gauge, read))

    @contextmanager
    def page(self, listen: str) -> Iterator[int]:
        """Serve this worker's numbers inside the block. Yields: the port. Raises: BadSettings."""
        with page(listen, make_wsgi_app(self.registry)) as port:
            yield port

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at all gauges inside the block, now and once a second."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            timer = loop.call_later(LOOK_S, look)  # first: one that fails is looked at again
            for gauge, read in self._looks:
                gauge.set(read())

        look()
        try:
            yield
        finally:
            timer.cancel()


def _tokens(usage: Usage | None) -> Iterator[tuple[str, int]]:
    if usage is not None:
        yield "input", usage.input_tokens or 0
        yield "output", usage.output_tokens or 0
        yield "cached_input", usage.cached_input_tokens or 0


def exemplar() -> dict[str, str] | None:
    """Return the trace that a measured time is an example of; None: it is not recorded.

    One of several workers keeps none: the library's files have no place for them.
    """
    trace = current_trace.get()
    return {"trace_id": trace.id} if trace is not None and trace.is_sampled else None


class _MethodMeter:
    """The series of one method."""

    def __init__(self, started: Counter, handled: _Children[Counter], seconds: Histogram) -> None:
        self._started = started
        self._handled = handled
        self._seconds = seconds

    def started(self) -> None:
        self._started.inc()

    def handled(self, code: str, seconds: float) -> None:
        self._handled[code].inc()
        self._seconds.observe(seconds, exemplar())


class WorkerFiles:
    """The files of several workers' numbers, a set for each worker's index."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        """The sum of them all."""
        self.registry.register(_Sum(folder))

    def environment(self, worker_index: int) -> dict[str, str]:
        """Return what a worker needs to count there."""
        return {"PROMETHEUS_MULTIPROC_DIR": self._folder, "PARLEY_WORKER_INDEX": str(worker_index)}

    def died(self, worker_index: int) -> None:
        """Drop what a dead worker's gauges said. What it had counted still counts."""
        mark_process_dead(worker_index, self._folder)  # type: ignore[no-untyped-call]


class _Sum(MultiProcessCollector):
    """Reads the files of all workers."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        # A file that a worker has just made is empty for a moment, which the library cannot read.
        files = [f for f in glob.glob(os.path.join(self._folder, "*.db")) if _is_begun(f)]
        found: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
        return found


def _is_begun(file: str) -> bool:
    with suppress(FileNotFoundError):  # its worker has just died
        return os.path.getsize(file) > 0
    return False


@contextmanager
def shared_page(listen: str) -> Iterator[WorkerFiles]:
    """Serve the sum of several workers' numbers inside the block.

    Raises: BadSettings: the address cannot be used, or no folder can be created.
    """
    where = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None
    try:
        made = tempfile.TemporaryDirectory(prefix="parley-metrics-", dir=where)
    except OSError:
        raise BadSettings(
            "PARLEY_METRICS_LISTEN: several workers count in files, but no folder for them can be "
            "created: set TMPDIR to a writable folder"
        ) from None
    with made as folder:
        files = WorkerFiles(folder)
        with page(listen, make_wsgi_app(files.registry)):
            yield files

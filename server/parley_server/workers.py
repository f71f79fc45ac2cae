"""Running one worker in this process, or several that share the port below this one."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from parley_server.addresses import not_had, resolved
from parley_server.app import Worker
from parley_server.config import BadSettings, Settings

if TYPE_CHECKING:
    from parley_server.metrics import Places

log = structlog.get_logger("parley.workers")

READY = b"ready\n"
RESTART_PAUSE_S = 1.0
"""How long the place of a worker that died stays empty, so that a broken one does not spin."""

OVERDUE_S = 10.0
"""How long after the grace a worker that does not end is killed. README gives a stop as long."""

OnReady = Callable[[int], None]


class _Signals:
    """SIGTERM and SIGINT: the first asks for an orderly end, the second for a quick one."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.on_first: Callable[[], object] = lambda: None
        self.on_second: Callable[[], object] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def _came(self) -> None:
        is_first = not self.stop.is_set()
        self.stop.set()
        (self.on_first if is_first else self.on_second)()


def _keep_for_good() -> None:
    """Leave what was made at the start out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


async def run_worker(settings: Settings, on_ready: OnReady) -> None:
    """Serve in this process until a signal comes, then drain. A second signal cuts that short.

    Raises: BadSettings, UnsafeDatabase, DatabaseAway.
    """
    if not settings.is_unix:
        with _bound(settings.listen, socket.SO_REUSEADDR):
            pass  # gRPC would not say why it cannot be had
    await _serve(settings, lambda port, _: on_ready(port))


async def run_child(settings: Settings) -> None:
    """Serve on the shared port below a parent, until a signal comes or the parent is gone."""
    loop = asyncio.get_running_loop()
    parent = sys.stdin.fileno()

    def on_ready(_: int, stop: asyncio.Event) -> None:
        def on_parent_gone() -> None:
            loop.remove_reader(parent)
            stop.set()

        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        loop.add_reader(parent, on_parent_gone)  # nothing is sent: this is its end

    await _serve(settings, on_ready, is_port_shared=True)


async def _serve(
    settings: Settings,
    on_ready: Callable[[int, asyncio.Event], None],
    *,
    is_port_shared: bool = False,
) -> None:
    """Serve until a signal comes, or the event given to `on_ready` is set; then drain."""
    signals = _Signals()
    worker = Worker(settings, is_port_shared=is_port_shared)
    signals.on_second = worker.turns.runs.end_all
    starting = asyncio.create_task(_until_stopped(worker, signals, on_ready))
    signals.on_first = starting.cancel
    with suppress(asyncio.CancelledError):
        await starting


async def _until_stopped(
    worker: Worker, signals: _Signals, on_ready: Callable[[int, asyncio.Event], None]
) -> None:
    async with worker.serving() as port:
        signals.on_first = lambda: None  # from here on, open turns may end
        _keep_for_good()
        on_ready(port, signals.stop)
        await signals.stop.wait()
        log.info("draining", open_turns=len(worker.turns.runs))


class Parent:
    """Keeps several workers running on one port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._metrics: Places | None = None

    async def run(self, on_ready: OnReady) -> None:
        """Serve until a signal comes, pass it on, and return when all workers have ended.

        Raises: BadSettings: an address cannot be had, or a worker does not come up at all.
        """
        with ExitStack() as measuring:
            if self._settings.metrics_listen is not None:
                from parley_server.metrics import shared_page

                self._metrics = measuring.enter_context(shared_page(self._settings.metrics_listen))
            await self._run(on_ready)

    async def _run(self, on_ready: OnReady) -> None:
        signals = _Signals()
        signals.on_second = self._pass_on
        if self._settings.is_unix:
            raise BadSettings("PARLEY_LISTEN: several workers need HOST:PORT")
        with _bound(self._settings.listen, socket.SO_REUSEPORT) as (address, port):
            settings = self._settings.model_copy(update={"listen": address})
            ready = [asyncio.Event() for _ in range(settings.workers)]
            keeping: asyncio.Future[Any] = asyncio.gather(
                *(self._keep(place, settings, ready[place], signals) for place in range(len(ready)))
            )
            all_ready: asyncio.Future[Any] = asyncio.gather(
                *(is_ready.wait() for is_ready in ready)
            )
            stopping: asyncio.Future[Any] = asyncio.create_task(signals.stop.wait())
            await asyncio.wait([all_ready, stopping, keeping], return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                on_ready(port)
                await asyncio.wait([stopping, keeping], return_when=asyncio.FIRST_COMPLETED)
            signals.stop.set()
            all_ready.cancel()
            self._pass_on()
            await keeping

    def _pass_on(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def _keep(
        self, place: int, settings: Settings, is_ready: asyncio.Event, signals: _Signals
    ) -> None:
        """Run a worker, and another one in its place when it dies."""
        while not signals.stop.is_set():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "parley_server",
                "worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **settings.as_environment(), **self._environment(place)},
                start_new_session=True,  # Ctrl-C is the parent's, which passes it on in order
            )
            self._processes[place] = process
            if process.stdout is not None and await process.stdout.readline() == READY:
                is_ready.set()
            code = await self._end_of(process, signals)
            if self._metrics is not None:
                self._metrics.died(place)
            if signals.stop.is_set():
                return
            if not is_ready.is_set():
                raise BadSettings("a worker could not start: its last words are above")
            log.error("worker died", place=place, code=code)
            await asyncio.sleep(RESTART_PAUSE_S)

    def _environment(self, place: int) -> dict[str, str]:
        return self._metrics.environment(place) if self._metrics is not None else {}

    async def _end_of(self, process: asyncio.subprocess.Process, signals: _Signals) -> int:
        """Wait until a worker ends, but once it should not for ever."""
        ending = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(signals.stop.wait())
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await asyncio.wait([ending], timeout=self._settings.drain_s + OVERDUE_S)
        if not ending.done():
            log.error("worker does not end: killed", pid=process.pid)
            process.kill()
        return await ending


@contextmanager
def _bound(listen: str, option: int) -> Iterator[tuple[str, int]]:
    """Hold a port without listening on it; with SO_REUSEPORT, workers may share it meanwhile.

    Yields: the address with the port that was found for it, and the port.
    Raises: BadSettings: it cannot be had; another service on the port is noticed here.
    """
    try:
        family, address = resolved(listen)
        held = socket.socket(family)
    except OSError as error:
        raise not_had("PARLEY_LISTEN", listen, error) from None
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, option, 1)
            held.bind(address)
        except OSError as error:
            raise not_had("PARLEY_LISTEN", listen, error) from None
        found: int = held.getsockname()[1]
        yield f"{listen.rpartition(':')[0]}:{found}", found

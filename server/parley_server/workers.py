"""Running one worker in this process, or several that share the port below this one."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from parley_server.app import Worker
from parley_server.config import BadSettings, Settings

log = structlog.get_logger("parley.workers")

READY = b"ready\n"
RESTART_PAUSE_S = 1.0
"""How long the place of a worker that died stays empty, so that a broken one does not spin."""

OnReady = Callable[[int], None]


class _Signals:
    """SIGTERM and SIGINT: the first asks for an orderly end, the second for a quick one."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.on_second: Callable[[], None] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def _came(self) -> None:
        if self.stop.is_set():
            self.on_second()
        self.stop.set()


def _keep_for_good() -> None:
    """Leave what was made at the start out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def run_worker(settings: Settings, on_ready: OnReady) -> None:
    """Serve in this process until a signal comes, then drain. A second signal cuts that short."""
    signals = _Signals()
    worker = Worker(settings)
    signals.on_second = worker.turns.runs.end_all
    async with worker.serving() as port:
        _keep_for_good()
        on_ready(port)
        await signals.stop.wait()
        log.info("draining", open_turns=len(worker.turns.runs))


async def run_child(settings: Settings) -> None:
    """Serve on the shared port below a parent, until a signal comes or the parent is gone."""
    signals = _Signals()
    worker = Worker(settings, is_port_shared=True)
    signals.on_second = worker.turns.runs.end_all
    loop = asyncio.get_running_loop()
    async with worker.serving():
        _keep_for_good()
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        loop.add_reader(sys.stdin.fileno(), signals.stop.set)  # nothing is sent: this is its end
        await signals.stop.wait()
        loop.remove_reader(sys.stdin.fileno())
        log.info("draining", open_turns=len(worker.turns.runs))


class Parent:
    """Keeps several workers running on one port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    async def run(self, on_ready: OnReady) -> None:
        """Serve until a signal comes, pass it on, and return when all workers have ended.

        Raises: BadSettings: the address cannot be had, or a worker does not come up at all.
        """
        signals = _Signals()
        signals.on_second = self._pass_on
        with _reserved(self._settings.listen) as (address, port):
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
                env={**os.environ, **settings.as_environment()},
                start_new_session=True,  # Ctrl-C is the parent's, which passes it on in order
            )
            self._processes[place] = process
            if process.stdout is not None and await process.stdout.readline() == READY:
                is_ready.set()
            code = await process.wait()
            if signals.stop.is_set():
                return
            if not is_ready.is_set():
                raise BadSettings("a worker could not start: its last words are above")
            log.error("worker died", place=place, code=code)
            await asyncio.sleep(RESTART_PAUSE_S)


@contextmanager
def _reserved(listen: str) -> Iterator[tuple[str, int]]:
    """Hold the port for the workers to share, without listening on it.

    Yields: the address with the port that was found for it, and the port.
    Raises: BadSettings: it cannot be had; another service on the port is noticed here.
    """
    host, _, port = listen.rpartition(":")
    if host == "unix" or not port.isdigit():
        raise BadSettings("PARLEY_LISTEN: several workers need HOST:PORT")
    try:
        family, *_, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(address)
            found: int = held.getsockname()[1]
            yield f"{host}:{found}", found
    except OSError as error:
        raise BadSettings(f"PARLEY_LISTEN: {listen} cannot be had: {error.strerror}") from None

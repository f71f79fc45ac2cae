"""Several workers below one parent, which share a port."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from parley_server.addresses import bound
from parley_server.config import BadSettings, Settings
from parley_server.core.endless import endless
from parley_server.process.os_signals import OsSignals

if TYPE_CHECKING:
    from parley_server.telemetry.metrics import WorkerFiles

log = structlog.get_logger("parley.workers")

READY = b"ready\n"
"""What a worker tells its parent once it serves."""
STOP, HURRY = b"stop\n", b"hurry\n"
"""What its parent tells it from then on: to let its turns end, and to end them. Not by SIGTERM: the
second one is for haste, and a service manager may send one to every process, as systemd does."""
RESTART_PAUSE_S = 1.0
"""How long the place of a worker that died stays empty, so that a broken one does not spin."""
OVERDUE_S = 10.0
"""How long after the grace a worker that does not end is killed, as docs/production.md says."""

PORT_S = 3.0
"""How long workers whose parent was killed may need to close their port."""

OnReady = Callable[[int], None]


class Parent:
    """Keeps several workers running on one port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._serving: set[int] = set()
        self._to_reload: set[int] = set()
        """Workers that have yet to be told of a changed file: SIGHUP ends one that is starting."""
        self._metrics: WorkerFiles | None = None

    async def run(self, on_ready: OnReady) -> None:
        """Serve until a signal comes, pass it on, and return when all workers have ended.

        Raises: BadSettings: an address cannot be used, or a worker cannot start.
        """
        with ExitStack() as measuring:
            if self._settings.metrics_listen is not None:
                from parley_server.telemetry.metrics import shared_page

                self._metrics = measuring.enter_context(shared_page(self._settings.metrics_listen))
            await self._run(on_ready)

    async def _run(self, on_ready: OnReady) -> None:
        signals = OsSignals(can_reload=self._settings.agents_file is not None)
        signals.on_second = self._hurry
        if self._settings.is_unix:
            raise BadSettings("PARLEY_LISTEN: several workers need HOST:PORT")
        await _until_free(self._settings.listen)
        with bound(self._settings.listen, socket.SO_REUSEPORT) as (address, port):
            settings = self._settings.model_copy(update={"listen": address})
            ready = [asyncio.Event() for _ in range(settings.workers)]
            kept = [
                asyncio.create_task(self._keep(index, settings, is_ready, signals))
                for index, is_ready in enumerate(ready)
            ]
            keeping: asyncio.Future[Any] = asyncio.gather(*kept)
            all_ready: asyncio.Future[Any] = asyncio.gather(
                *(is_ready.wait() for is_ready in ready)
            )
            stopping: asyncio.Future[Any] = asyncio.create_task(signals.stop.wait())
            reloading = asyncio.create_task(endless("reloading", partial(self._reload, signals)))
            await asyncio.wait([all_ready, stopping, keeping], return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                on_ready(port)
                await asyncio.wait([stopping, keeping], return_when=asyncio.FIRST_COMPLETED)
            signals.stop.set()
            reloading.cancel()
            all_ready.cancel()
            for index in self._processes:
                self._tell(index, STOP)
            await asyncio.wait(kept)  # where one could not start, the others still drain
            await keeping

    def _hurry(self) -> None:
        for index in self._processes:
            self._tell(index, HURRY)

    def _tell(self, index: int, what: bytes) -> None:
        """Tell a worker to end. One that does not serve yet has no turns to lose."""
        process = self._processes[index]
        if process.returncode is not None:
            return
        if index in self._serving and process.stdin is not None:
            process.stdin.write(what)
        else:
            process.send_signal(signal.SIGTERM)

    async def _reload(self, signals: OsSignals) -> None:
        """Pass each SIGHUP on to the workers: at once, or when they serve."""
        while True:
            await signals.reload.wait()
            signals.reload.clear()
            for index, process in self._processes.items():
                if index not in self._serving:
                    self._to_reload.add(index)
                elif process.returncode is None:
                    process.send_signal(signal.SIGHUP)

    async def _keep(
        self, index: int, settings: Settings, is_ready: asyncio.Event, signals: OsSignals
    ) -> None:
        """Run a worker, and another one in its place when it dies."""
        while not signals.stop.is_set():
            try:
                process = await self._started(index, settings)
            except OSError as error:
                if not is_ready.is_set():
                    raise BadSettings(f"a worker could not start: {error.strerror}") from None
                log.error("worker could not start", worker=index, error=type(error).__name__)
                await asyncio.sleep(RESTART_PAUSE_S)
                continue
            self._processes[index] = process
            if signals.stop.is_set():
                self._tell(index, STOP)  # it came while the process was being made
            heard = asyncio.create_task(self._hear(index, process, is_ready))
            code = await self._end_of(process, signals)
            await asyncio.wait([heard], timeout=RESTART_PAUSE_S)
            heard.cancel()
            self._serving.discard(index)
            if self._metrics is not None:
                self._metrics.died(index)
            if signals.stop.is_set():
                return
            if not is_ready.is_set():
                raise BadSettings("a worker could not start: see its messages above")
            log.error("worker died", worker=index, code=code)
            await asyncio.sleep(RESTART_PAUSE_S)

    async def _started(self, index: int, settings: Settings) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "parley_server",
            "worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **settings.as_environment(), **self._environment(index)},
            start_new_session=True,  # Ctrl-C is the parent's, which passes it on in order
        )

    async def _hear(
        self, index: int, process: asyncio.subprocess.Process, is_ready: asyncio.Event
    ) -> None:
        """Wait until a worker says that it serves."""
        if process.stdout is not None and await process.stdout.readline() == READY:
            is_ready.set()
            self._serves(index, process)

    def _serves(self, index: int, process: asyncio.subprocess.Process) -> None:
        """Take note that a worker serves, and tell it of a file that was changed meanwhile."""
        self._serving.add(index)
        if index in self._to_reload and process.returncode is None:
            self._to_reload.discard(index)
            process.send_signal(signal.SIGHUP)

    def _environment(self, index: int) -> dict[str, str]:
        return self._metrics.environment(index) if self._metrics is not None else {}

    async def _end_of(self, process: asyncio.subprocess.Process, signals: OsSignals) -> int:
        """Wait until a worker ends, but once it should not for ever."""
        ending = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(signals.stop.wait())
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await asyncio.wait([ending], timeout=self._settings.drain_s + OVERDUE_S)
        if not ending.done():
            log.error("worker did not end and was killed", pid=process.pid)
            process.kill()
        return await ending


async def _until_free(listen: str) -> None:
    """Wait, with a bound, until no other server's workers would share their port with ours.

    Raises: BadSettings: the port cannot be used.
    """
    deadline = asyncio.get_running_loop().time() + PORT_S
    while True:
        try:
            with bound(listen, socket.SO_REUSEADDR):
                return
        except BadSettings:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.1)

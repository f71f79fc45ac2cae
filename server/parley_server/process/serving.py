"""Running one worker in this process, until a signal comes."""

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog

from parley_server.addresses import bound, refuse_used_socket
from parley_server.config import Settings
from parley_server.core.endless import endless
from parley_server.process.os_signals import OsSignals
from parley_server.process.supervisor import HURRY, READY, OnReady
from parley_server.process.worker import Worker

log = structlog.get_logger("parley.workers")


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
    if settings.is_unix:
        refuse_used_socket(settings.listen)
    else:
        with bound(settings.listen, socket.SO_REUSEADDR):
            pass  # gRPC would not say why binding fails
    await _serve(settings, lambda port, _: on_ready(port))


async def run_child(settings: Settings) -> None:
    """Serve on the shared port below a parent, until a signal or its word comes, or it is gone."""
    loop = asyncio.get_running_loop()
    parent = sys.stdin.fileno()
    # What a user's agent prints must neither be taken for our word nor fill the pipe for it.
    said = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def on_ready(_: int, signals: OsSignals) -> None:
        def on_told() -> None:
            told = os.read(parent, 64)
            if not told:  # it is gone
                loop.remove_reader(parent)
            signals.stop.set()
            if HURRY in told:
                signals.on_second()

        os.write(said, READY)
        loop.add_reader(parent, on_told)

    await _serve(settings, on_ready, is_port_shared=True)


async def _serve(
    settings: Settings,
    on_ready: Callable[[int, OsSignals], None],
    *,
    is_port_shared: bool = False,
) -> None:
    """Serve until a signal comes, or `on_ready` has its `stop` set; then drain."""
    signals = OsSignals(can_reload=settings.agents_file is not None)
    worker = Worker(settings, is_port_shared=is_port_shared)
    signals.on_second = worker.turns.attempts.end_all
    starting = asyncio.create_task(_until_stopped(worker, signals, on_ready))
    signals.on_first = starting.cancel
    with suppress(asyncio.CancelledError):
        await starting


async def _until_stopped(
    worker: Worker, signals: OsSignals, on_ready: Callable[[int, OsSignals], None]
) -> None:
    async with worker.serving() as port:
        signals.on_first = lambda: None  # from here on, open turns may end
        _keep_for_good()
        on_ready(port, signals)
        reloading = asyncio.create_task(
            endless("reading agents again", partial(_reload, worker, signals))
        )
        await signals.stop.wait()
        reloading.cancel()
        log.info("draining", open_turns=len(worker.turns.attempts))


async def _reload(worker: Worker, signals: OsSignals) -> None:
    """Read the agents file again with each SIGHUP."""
    while True:
        await signals.reload.wait()
        signals.reload.clear()
        await worker.agents.reload()

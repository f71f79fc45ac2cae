"""Work in the background: an error in it that nobody foresaw is noticed.

Nobody awaits such work. Python tells of the error of a task that is let go, but not of one that is
kept: then all looks well while something is no longer done.
"""

import ast
import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from parley_server import core
from parley_server.core import endless as module
from parley_server.core.endless import endless
from parley_server.core.sharing import Shared
from parley_server.core.tasks import Tasks

SERVER = Path(core.__file__).parents[1]
STARTS = {"create_task", "ensure_future", "run_coroutine_threadsafe", "Thread"}

AWAITED = "what it returns or raises is awaited"
ENDLESS = "core.endless tells of it, and begins the work again"
GOES_ON = "it tells of any error by itself, and goes on"
LET_GO = "nothing keeps it once it has ended, so that asyncio tells of it"
TOLD = "it tells of any error by itself, or hands it over"
THREAD = "Python tells of it on standard error"

NOTICED = {
    ("agents/home.py", "self._live_in_thread"): TOLD,
    ("agents/home.py", "self._live"): TOLD,
    ("agents/local_model.py", "self._keep"): GOES_ON,
    ("agents/mcp/connection.py", "session.close"): LET_GO,
    ("agents/mcp/connection.py", "self._connect"): AWAITED,
    ("agents/mcp/connection.py", "self._refresh"): AWAITED,
    ("agents/mcp/servers.py", "self._live"): THREAD,
    ("agents/mcp/servers.py", "_warmed"): TOLD,
    ("agents/mcp/servers.py", "work"): AWAITED,
    ("agents/mcp/session.py", "self._live"): "the next use sees that it has ended",
    ("agents/mcp/session.py", "self._open.wait"): "it cannot fail",
    ("agents/mcp/stdio.py", "self._read"): "the session ends with it",
    ("agents/mcp/stdio.py", "self._write"): TOLD,
    ("agents/mcp/stdio.py", "self._listen"): "it cannot fail: it reads from a pipe",
    ("agents/threaded.py", "self._pump"): TOLD,
    ("agents/threaded.py", "closing"): "the end of an agent that nobody uses",
    ("agents/threaded.py", "store"): AWAITED,
    ("auth/jwks.py", "endless"): ENDLESS,
    ("auth/jwks.py", "self._fetch"): TOLD,
    ("core/attempts/event_log.py", "self._store"): GOES_ON,
    ("core/sharing.py", "self._read"): AWAITED,
    ("core/tasks.py", "work"): AWAITED,
    ("core/turns/starting.py", "self._run"): GOES_ON,
    ("core/upkeep.py", "self._run"): GOES_ON,
    ("process/agents.py", "_close_after_use"): LET_GO,
    ("process/readiness.py", "endless"): ENDLESS,
    ("process/serving.py", "_until_stopped"): AWAITED,
    ("process/serving.py", "endless"): ENDLESS,
    ("process/supervisor.py", "endless"): ENDLESS,
    ("process/supervisor.py", "process.wait"): AWAITED,
    ("process/supervisor.py", "self._hear"): LET_GO,
    ("process/supervisor.py", "self._keep"): AWAITED,
    ("process/supervisor.py", "signals.stop.wait"): "it cannot fail",
    ("rpc/pickup.py", "cygrpc._schedule_rpc_coro"): TOLD,
    ("rpc/pickup.py", "self._pick_up"): "gRPC's own loop waits for it, tells of it, and stops",
    ("rpc/server.py", "self._core.turns.drain"): AWAITED,
    ("rpc/server.py", "self._server.stop"): AWAITED,
    ("storage/driver/choosing.py", "tries[len(begun)]"): AWAITED,
    ("storage/driver/pool.py", "self._keep_filling"): "its tries tell of any error, and it goes on",
    ("storage/driver/pool.py", "self._try"): TOLD,
    ("storage/embedded/postgres.py", "self._keep"): GOES_ON,
    ("storage/signals.py", "connection.execute"): AWAITED,
    ("storage/signals.py", "endless"): ENDLESS,
    ("storage/signals.py", "self._notify"): LET_GO,
    ("telemetry/metrics_page.py", "server.serve_forever"): THREAD,
    ("telemetry/tracing/sending.py", "stop"): THREAD,
}
"""By file and function of everything that is begun in the background: how its error is noticed."""


def begun() -> Iterator[tuple[str, str]]:
    """Return where the server begins work that nothing waits for at once, and which."""
    for file in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                not isinstance(node, ast.Call)
                or ast.unparse(node.func).split(".")[-1] not in STARTS
            ):
                continue
            named = [keyword.value for keyword in node.keywords if keyword.arg == "target"]
            (work,) = named or node.args[:1]
            called = work.func if isinstance(work, ast.Call) else work
            yield str(file.relative_to(SERVER)), ast.unparse(called)


def test_of_each_work_in_the_background_it_is_known_how_its_error_is_noticed() -> None:
    """Something new here needs a line in the table, and has to be as the line says."""
    assert set(NOTICED) == set(begun())


async def test_endless_work_that_fails_is_told_and_begins_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text may hold what was said: the log gets type and place."""
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    begun, again = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise RuntimeError("nobody foresaw this")
        again.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR, "parley.background"):
        task = asyncio.create_task(endless("the work", work))
        await again.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert ["the work failed"] * 2 == [record.getMessage() for record in caplog.records]
    assert all("test_background" in record.__dict__["place"] for record in caplog.records)


@pytest.mark.parametrize("is_shared", [False, True], ids=["shielded", "shared"])
async def test_work_that_fails_behind_its_callers_is_told_once(
    caplog: pytest.LogCaptureFixture, is_shared: bool
) -> None:
    """It goes on when they leave. Fails when nobody learns that it has met a defect."""
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        raise RuntimeError("nobody foresaw this")

    shared: Shared[int, None] = Shared()
    kept = Tasks()
    callers = [
        asyncio.ensure_future(shared.read(1, work) if is_shared else kept.shielded(work()))
        for _ in range(2 if is_shared else 1)
    ]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    go_on.set()
    with caplog.at_level(logging.ERROR, "parley.background"):
        while not caplog.records:
            await asyncio.sleep(0)

    (told,) = caplog.records
    assert "work failed that its caller had left" == told.getMessage()
    assert told.exc_info is not None
    assert RuntimeError is told.exc_info[0]

"""Experiment 12: very many calls that are cancelled, at random points."""

import asyncio
import gc
import math
import random
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any

import psutil
import pytest

from parley_server.agents.echo import EchoAgent
from parley_server.core.tasks import Tasks
from parley_server.storage.driver.connection import Connection
from parley_server.storage.driver.pool import Pool
from support.services import PATIENCE_S, Service, StartService, an_id
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.load import Request, call
from support.torture.operations import Kind

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

MANY = 10_000
CANCELS_A_SECOND = 200
"""How many are reckoned with; the times are counted in cancels."""
AT_ONCE = 32
THINKING_S = 0.01
LONGEST_S = 0.08
MORE_TASKS = 5
MORE_BYTES = 30 * 1024 * 1024

EXPERIMENT = Experiment(
    number=12,
    done=f"{MANY:,} calls are cancelled at random points (a tenth in short)",
    holds="tasks, connections in use, open turns and memory are as before; what is stored is whole",
    protection="the store is asked in tasks that outlive the call, and what they borrow comes back",
    removal="it is asked in the call's own task, which keeps its connection when it is cancelled",
    short_s=MANY / 10 / CANCELS_A_SECOND,
    long_s=MANY / CANCELS_A_SECOND,
)


async def attack(trial: Trial, *, service: Service) -> None:
    cancels = int(trial.seconds * CANCELS_A_SECOND)
    await cancel_many(trial, service, cancels // 2)  # what is made once is there now
    patience_s = PATIENCE_S if trial.is_protected else 2
    await until_quiet(service, patience_s)
    tasks, process = len(asyncio.all_tasks()), psutil.Process()
    before_bytes = process.memory_info().rss
    await cancel_many(trial, service, cancels // 2)
    is_quiet = await until_quiet(service, patience_s, tasks + MORE_TASKS)
    gc.collect()
    more_tasks = len(asyncio.all_tasks()) - tasks
    more_bytes = process.memory_info().rss - before_bytes
    pools = {name: each.in_use() for name, each in service.worker.store.pools().items()}
    trial.figures |= {
        "cancels": str(cancels),
        "tasks in the second half": f"{more_tasks:+}",
        "memory in the second half, with the callers' own": f"{more_bytes / 2**20:+.1f} MiB",
    }
    trial.expect(is_quiet, f"leak: connections in use {pools}, or tasks")
    trial.expect(more_tasks <= MORE_TASKS, f"leak: {more_tasks} tasks more")
    trial.expect(more_bytes <= MORE_BYTES, f"leak: {more_bytes} bytes more")


async def cancel_many(trial: Trial, service: Service, cancels: int) -> None:
    """Make calls and cancel them."""
    ids = [an_id() for _ in range(AT_ONCE)]
    left = iter(range(cancels))

    async def cancel_next() -> None:
        for _ in left:
            kind = random.choice((Kind.CHAT, Kind.STREAM, Kind.READ))
            wanted = Request(kind, random.choice(ids), f"said {an_id()}")
            calling = asyncio.create_task(call(service.stub, wanted, trial.log))
            await asyncio.wait([calling], timeout=random.uniform(0, LONGEST_S))
            calling.cancel()
            await asyncio.wait([calling])

    await asyncio.gather(*(cancel_next() for _ in range(AT_ONCE)))


async def until_quiet(service: Service, within_s: float, tasks: float = math.inf) -> bool:
    """Wait until no turn is open, no connection in use, and there are no more tasks than these.

    Returns: whether that came to be.
    """
    worker = service.worker
    try:
        async with asyncio.timeout(within_s):
            while (
                len(worker.turns.attempts)
                or any(each.in_use() for each in worker.store.pools().values())
                or len(asyncio.all_tasks()) > tasks
            ):
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


async def test_cancelled_calls_leave_nothing_behind(lab: Lab, start_service: StartService) -> None:
    service = await start_service(EchoAgent(THINKING_S))
    await lab.holds(partial(attack, service=service))


@of_a_removal
async def test_connections_that_cancelled_calls_keep_are_noticed(
    lab: Lab, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Pool.give

    async def give_unless_cancelled(self: Pool, connection: Connection) -> None:
        if not isinstance(sys.exc_info()[1], asyncio.CancelledError):
            await give(self, connection)

    async def unshielded(self: Tasks, work: Coroutine[Any, Any, Any], *_: object) -> Any:
        return await work

    monkeypatch.setattr(Tasks, "shielded", unshielded)
    service = await start_service(EchoAgent(THINKING_S), store_wait_s=1)
    monkeypatch.setattr(Pool, "give", give_unless_cancelled)
    await lab.notices(partial(attack, service=service), without="giving back", because="leak")

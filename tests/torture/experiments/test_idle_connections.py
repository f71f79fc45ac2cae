"""Experiment 20: callers that abuse a worker, here with 10,000 connections that say nothing.

Floods of pings, rapid resets, gzip bombs, fat metadata, slow readers: tests/torture/test_abuse.py,
each with what it costs without its limit. More turns than fit: test_bursts.py beside it.
"""

import asyncio
import statistics
import time

import pytest

from support.attacked_workers import a_victim
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

EXPERIMENT = Experiment(
    number=20,
    done="10,000 connections are opened that say nothing, while an honest caller makes turns",
    holds="the worker is alive and small, the honest caller is served as usual",
    protection="a worker takes no more than so many connections",
    removal="workers that take any number",
    short_s=10,
    long_s=60,
)
CONNECTIONS = 10_000
CALLS = 500
SERVED_S = 1.0
MAX_MIB = 160
"""A worker has 107 MiB to begin with; with all of the connections, 260 and more."""


async def attack(trial: Trial) -> None:
    limits = {} if trial.is_protected else {"grpc_max_connections": 10 * CONNECTIONS}
    async with a_victim(trial.database_url, **limits) as victim:
        attacking = asyncio.create_task(victim.idle_connections(CONNECTIONS))
        took = []
        for _ in range(CALLS):
            began = time.monotonic()
            await victim.server.chat(user="honest")
            took.append(time.monotonic() - began)
        victim.measured.set()
        await attacking
        mib = victim.peak_bytes / 2**20
    p99_s = statistics.quantiles(took, n=100)[98]
    trial.figures["memory at most"] = f"{mib:.0f} MiB"
    trial.figures["p99 of honest calls"] = f"{p99_s * 1000:.0f} ms"
    trial.expect(mib < MAX_MIB, f"large: {mib:.0f} MiB")
    trial.expect(p99_s < SERVED_S, f"unserved: the p99 of honest calls is {p99_s:.1f} s")


async def test_idle_connections_are_borne(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_connections_without_a_limit_are_noticed(lab: Lab) -> None:
    await lab.notices(attack, without="limit", because="large")

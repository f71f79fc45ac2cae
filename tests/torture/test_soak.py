"""Every kind of use at once, on two workers: `make soak`, ten minutes, or in CI some seconds."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version
from support.databases import as_superuser
from support.processes import ServerProcess
from support.services import until_true
from support.soak import page
from support.soak.load import ASKING, MixedLoad
from support.soak.signs import Signs, held_by

MINUTES = float(os.environ.get("MINUTES", "0.25"))
EVERY_S = max(1.0, MINUTES * 60 / 150)
"""How often is measured: for 150 points in each plot."""
IS_SOAK = MINUTES >= 3
"""Whether there is enough to tell a slope from a start."""
PAGE = Path(__file__).parents[2] / "build" / "soak.html"
TESTS = Path(__file__).parents[1]
AGENTS = f"""
default = "echo"
[agents.echo]
model = "echo:0.02"
[agents.{ASKING}]
model = "python:support.soak.agent:agent"
"""
SETTINGS: dict[str, Any] = {
    "module": "support.soak.worker",
    "arguments": ("serve",),
    "trash_days": 0,
    "feed_days": 1,
}
MOST_GROWTH = {"memory, MB": 0.03, "tasks": 0.25, "objects": 0.1, "connections": 0.1}
"""By how much a figure may grow from the second third of the time to the last one."""
SLACK = 5
"""How many tasks more than before a worker may have, when all is over."""

pytestmark = [pytest.mark.torture, pytest.mark.timeout(MINUTES * 60 + 180)]


@pytest.fixture
def workers(cluster_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two workers of a Postgres with its usual settings. Yields: they, and the database's URL."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    agents = cluster_folder / "agents.toml"
    agents.write_text(AGENTS)
    postgres = EmbeddedPostgres(cluster_folder / "cluster")
    url = postgres.start()
    try:
        version.migrate(url)
        with ExitStack() as running:
            yield (
                [
                    running.enter_context(
                        ServerProcess(url, agent="", agents_file=agents, **SETTINGS)
                    )
                    for _ in range(2)
                ],
                url,
            )
    finally:
        postgres.stop()


async def test_mixed_use_leaves_nothing_behind(workers: tuple[list[ServerProcess], str]) -> None:
    """Nothing fails, nothing grows, and afterwards workers hold what they held before."""
    servers, url = workers
    load = MixedLoad([server.stub for server in servers])
    before = [await held_by(server) for server in servers]
    signs = Signs(servers, as_superuser(url), load.done.total)
    async with signs.measured(EVERY_S), load.running():
        await asyncio.sleep(MINUTES * 60)

    tell(signs, load)
    assert not load.failures
    assert {"turns", "streams", "left_streams", "watches", "reads", "cancels", "started", "waiting",
            "feeds", "deletes"} == set(load.done)  # fmt: skip
    await until_true(lambda: not open_turns(url))
    for server, held in zip(servers, before, strict=True):
        await until_few_tasks(server, held["tasks"] + SLACK)
    if IS_SOAK:
        growing = {
            series.name: round(series.growth(), 4)
            for series in signs.series
            for kind, most in MOST_GROWTH.items()
            if series.name.endswith(kind) and series.growth() > most
        }
        assert {} == growing


def tell(signs: Signs, load: MixedLoad) -> None:
    """Print what was measured, and write the page."""
    said = f"{MINUTES:g} minutes, two workers, {os.cpu_count()} processors."
    counts = {"Done": dict(sorted(load.done.items())), "Failures": dict(load.failures)}
    page.write(PAGE, said, signs.series, counts)
    print(said, counts, sep="\n")
    for series in signs.series:
        last, slope, growth = series.figures[-1], series.slope(), series.growth()
        print(f"{series.name:26} {last:10,.1f} {slope:+8.2%} a minute, {growth:+8.2%} by thirds")
    print(f"plots: {PAGE}")


def open_turns(url: str) -> int:
    with psycopg.connect(as_superuser(url)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM turn WHERE state IN ('RUNNING', 'QUEUED')"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def until_few_tasks(server: ServerProcess, most: int) -> None:
    async with asyncio.timeout(30):
        while (await held_by(server))["tasks"] > most:
            await asyncio.sleep(0.2)

"""Measures what Parley's size is reckoned from: `.venv/bin/python bench/scale.py [--smoke]`.

What a turn costs in CPU, on disk and in WAL, and how many connections a worker has. From this a
model (`queueing.py`) predicts turns a second for more workers and more shards, and it is held
against one and two real workers on this machine.

What that can show: that the model adds up, that two workers on one database do not hinder each
other beyond the processors that they share, and what a turn costs. What it cannot show with a few
processors: anything of a network between machines, of a Postgres with many processors, or of
Citus' own cost, which is set by --coordinator-ms.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import processes
import psycopg
from callers import Job, Result
from processes import Callers, Databases
from queueing import Costs, Layout, predicted
from report import PAGE, print_table, ratio
from seed import Part, seed

OUTCOME = Path("build/scale.html")
IN_FLIGHT = 32
WORKERS = (1, 2, 4, 8, 16, 32)
SHARDS = (1, 2, 4, 8)
TABLES = ("conversation", "turn", "message", "turn_feed", "usage_day", "owner")
"""What a turn of Chat writes."""


@dataclass(frozen=True)
class Size:
    conversations: int = 5_000
    messages: int = 40
    turns: int = 3_000
    rounds: int = 3


SMOKE = Size(conversations=200, messages=10, turns=60, rounds=1)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


class Scale:
    def __init__(self, size: Size, folder: Path, made: Databases, file: str) -> None:
        self._size = size
        self._folder = folder
        self._made = made
        self._file = file
        self.failed = 0

    def turns(self, workers: int, in_flight: int) -> list[Result]:
        """Have so many workers make turns at once. Returns: a result a round, of all together."""
        found = []
        with ExitStack() as running, ThreadPoolExecutor(workers) as threads:
            servers = [
                running.enter_context(processes.parley(self._made.parley_url, self._folder))
                for _ in range(workers)
            ]
            callers = [Callers(server, self._made) for server in servers]
            # Each begins elsewhere: two turns of one conversation would not run at once.
            apart = self._size.conversations // workers
            for number, one in enumerate(callers):
                one.begin(self._file, number * apart)
            for number in range(self._size.rounds):
                say(f"{workers} workers, {in_flight} in flight, round {number + 1}")
                each = max(in_flight // workers, 1)
                turns = self._size.turns // workers // (1 if in_flight > 1 else 3)
                job = Job(self._file, each, turns, warm_up=turns // 5)
                results = list(threads.map(lambda one, job=job: one.run(job), callers))
                self.failed += sum(result.failed for result in results)
                found.append(_together(results))
        return found

    def costs(self) -> Costs:
        """Return what a turn costs, of one worker."""
        busy, alone = _middle(self.turns(1, IN_FLIGHT)), _middle(self.turns(1, 1))
        used_alone = alone.server_cpu_ms + alone.postgres_cpu_ms + alone.caller_cpu_ms
        return Costs(
            worker=busy.server_cpu_ms,
            postgres=busy.postgres_cpu_ms,
            callers=busy.caller_cpu_ms,
            rest=max(alone.p50_ms - used_alone, 0.0),
        )

    def check(self, costs: Costs) -> None:
        """Hold the model against real workers."""
        cores = float(os.cpu_count() or 1)
        rows = []
        for workers in (1, 2):
            for in_flight in (8, IN_FLIGHT):
                real = _middle(self.turns(workers, in_flight))
                layout = Layout(workers=workers, shared_cores=cores)
                model = predicted(costs, layout, in_flight)
                rows.append((workers, in_flight, real.turns_per_s, model.turns_per_s,
                    ratio(model.turns_per_s, real.turns_per_s), real.server_cpu_ms,
                    real.postgres_cpu_ms, model.limit))  # fmt: skip
        print_table(
            f"The model against real workers, all on this machine's {cores:.0f} processors",
            ("workers", "in flight", "turns/s", "predicted", "predicted / real",
             "CPU server ms", "CPU Postgres ms", "what is used up"),
            rows,
        )  # fmt: skip

    def disk(self) -> None:
        """Measure what turns leave on disk and write to the WAL."""
        say("disk and WAL")
        turns = self._size.turns
        with psycopg.connect(self._made.parley_url, autocommit=True) as admin:
            before, wal = self._bytes(admin), _wal(admin)
            self.turns_counted(turns)
            written = _wal(admin) - wal
            after = self._bytes(admin)
        rows = [
            (table, (after[table][0] - before[table][0]) / turns, *_a_row(after[table]))
            for table in TABLES
        ]
        print_table(
            f"On disk, after {turns:,} turns with messages of 200 characters",
            ("table", "rows a turn", "bytes a row", "of its indexes", "together"),
            rows,
        )
        a_turn = sum(row[1] * row[4] for row in rows if row[1])
        print_table(
            "A turn of two messages of 200 characters",
            ("", "bytes a turn", "GB a million turns"),
            [
                ("on disk, with indexes", a_turn, a_turn / 1000),
                (
                    "WAL, with full pages after a checkpoint",
                    written / turns,
                    written / turns / 1000,
                ),
            ],
        )

    def turns_counted(self, turns: int) -> None:
        with processes.parley(self._made.parley_url, self._folder) as server:
            result = Callers(server, self._made).run(Job(self._file, IN_FLIGHT, turns))
            self.failed += result.failed
            with psycopg.connect(self._made.admin_url, autocommit=True) as admin:
                count = admin.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'parley-%'"
                ).fetchone()
            memory_mb = server.resident_mb()
        print_table(
            "A worker",
            ("connections to Postgres", "MB after these turns"),
            [(count[0] if count else 0, memory_mb)],
        )

    def _bytes(self, admin: psycopg.Connection[tuple[int, ...]]) -> dict[str, tuple[int, int, int]]:
        """Return rows, bytes of the heap and bytes of the indexes, by table."""
        found = {}
        for table in TABLES:
            admin.execute(f"VACUUM {table}")
            row = admin.execute(
                f"SELECT (SELECT count(*) FROM {table}), pg_table_size('{table}'), "
                f"pg_indexes_size('{table}')"
            ).fetchone()
            found[table] = (row[0], row[1], row[2]) if row else (0, 0, 0)
        return found


def _a_row(of: tuple[int, int, int]) -> tuple[float, float, float]:
    rows, heap, indexes = of
    return ratio(heap, rows), ratio(indexes, rows), ratio(heap + indexes, rows)


def _wal(admin: psycopg.Connection[tuple[int, ...]]) -> int:
    row = admin.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    return row[0] if row else 0


def _together(results: Sequence[Result]) -> Result:
    """Return what workers did that ran beside each other. Each saw all of Postgres' CPU."""
    count = len(results)
    mean = {
        name: sum(getattr(result, name) for result in results) / count
        for name in ("p50_ms", "p95_ms", "p99_ms", "server_cpu_ms", "caller_cpu_ms")
    }
    return Result(
        turns=sum(result.turns for result in results),
        failed=sum(result.failed for result in results),
        turns_per_s=sum(result.turns_per_s for result in results),
        postgres_cpu_ms=sum(result.postgres_cpu_ms for result in results) / count / count,
        **mean,
    )


def _middle(results: Sequence[Result]) -> Result:
    names = ("turns_per_s", "p50_ms", "server_cpu_ms", "postgres_cpu_ms", "caller_cpu_ms")
    middle = {name: median(getattr(result, name) for result in results) for name in names}
    return replace(results[0], **middle)


def predict(costs: Costs, layout: Layout) -> None:
    """Print what the model says of more workers and shards."""
    rows = []
    for workers in WORKERS:
        for shards in SHARDS:
            of = replace(
                layout,
                workers=workers,
                shards=shards,
                coordinator_ms=layout.coordinator_ms if shards > 1 else 0,
            )
            model = predicted(costs, of, workers * of.places)
            rows.append((workers, shards, model.turns_per_s, model.latency_ms, model.limit))
    print_table(
        f"Predicted: {layout.places:,} calls in flight for each worker, an agent that takes "
        f"{layout.agent_ms:,.0f} ms, {layout.shard_cores:.0f} processors a shard",
        ("workers", "shards", "turns/s", "ms a turn", "what is used up first"),
        rows,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what Parley's size is reckoned from.")
    parser.add_argument("--smoke", action="store_true", help="as small as can be: does it run?")
    parser.add_argument("--shard-cores", type=float, default=4, help="processors of each Postgres")
    parser.add_argument("--agent-ms", type=float, default=1_000, help="what the agent takes")
    parser.add_argument("--coordinator-ms", type=float, default=0, help="its CPU for a turn")
    options = parser.parse_args()
    size = SMOKE if options.smoke else Size()
    with tempfile.TemporaryDirectory(prefix="parley-scale-") as name:
        folder = Path(name)
        with processes.databases(folder / "database") as made:
            say("making conversations")
            part = Part("usual", size.conversations, size.messages)
            files = seed(made.parley_url, made.plain_url, [part], folder)
            scale = Scale(size, folder, made, files["usual"])
            costs = scale.costs()
            print_table(
                "What a turn costs, in ms",
                ("CPU worker", "CPU Postgres", "CPU callers", "the rest, alone"),
                [(costs.worker, costs.postgres, costs.callers, costs.rest)],
            )
            scale.check(costs)
            scale.disk()
    predict(
        costs,
        Layout(
            shard_cores=options.shard_cores,
            agent_ms=options.agent_ms,
            coordinator_ms=options.coordinator_ms,
        ),
    )
    PAGE.write(OUTCOME, "smoke" if options.smoke else f"{os.cpu_count()} processors")
    say(f"\nAll of it with plots: {OUTCOME}")
    return 1 if scale.failed else 0


if __name__ == "__main__":
    sys.exit(main())

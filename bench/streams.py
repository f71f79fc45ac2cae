"""The part `streams`: how long what an agent says is under way, and what that costs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import processes
from cpu import clocks, used_s
from processes import CountingDatabases, Databases, Server, run_callers, watching
from report import Bar, print_table
from seed import Part, seed
from streamers import StreamJob, StreamResult
from watchers import WatchJob

PER_S = 20
MESSAGES = 40
"""In each conversation that is watched."""


@dataclass(frozen=True)
class StreamSize:
    """How much is measured."""

    rounds: int = 2
    first_turns: int = 200
    stream_s: float = 10.0
    some: int = 100
    many: int = 500
    """How many streams at once, on one worker."""
    attached: int = 10
    watchers: int = 1_000
    watch_s: float = 61.0
    """Not less than the minute after which watchers are told how far they are."""
    watch_polling_s: float = 15.0
    settle_s: float = 2.0
    """How long what has just been done still takes of the machine."""


ALL_STREAMS = StreamSize()
QUICK_STREAMS = StreamSize(rounds=1, first_turns=60, stream_s=5, watch_s=20, watch_polling_s=8)
SMOKE_STREAMS = StreamSize(
    rounds=1, first_turns=5, stream_s=0.5, some=5, many=20, attached=2,
    watchers=20, watch_s=2, watch_polling_s=2, settle_s=0.3,
)  # fmt: skip


@dataclass(frozen=True)
class Wave:
    """One run of a job, with the worker's memory."""

    result: StreamResult
    mb: tuple[float, float, float]
    """Before it, at most during it, after it."""

    def row(self) -> tuple[float | int, ...]:
        found = self.result
        return (
            found.turns - found.failed, found.events / max(1, found.pieces), found.first_p50_ms,
            found.p50_ms, found.p95_ms, found.max_ms, found.late_p95_ms,
            found.server_cpu_s / max(1, found.events) * 1000,
            found.postgres_cpu_s / max(1, found.events) * 1000,
            found.server_cpu_s / found.seconds * 100,
            found.callers_cpu_s / found.seconds * 100,
            *self.mb,
        )  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """What it took to have conversations watched in which nothing happens."""

    statements_per_s: float
    """Of each watcher; what a worker sends that nobody watches is taken off."""
    server_cpu_share: float
    postgres_cpu_share: float
    mb: tuple[float, float]
    """Before and after."""


class Streams:
    def __init__(
        self, size: StreamSize, folder: Path, conversations: str, say: Callable[[str], None]
    ) -> None:
        self._size = size
        self._folder = folder
        self._conversations = conversations
        self._say = say
        self._start = 0
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        self._one_worker(made)
        self._other_worker(made)
        self._watchers()

    def _job(self, streams: int, spread_s: float = 1.0, channels: int = 4) -> StreamJob:
        pieces = int(PER_S * self._size.stream_s)
        return StreamJob(
            self._conversations, streams, pieces, PER_S, spread_s=spread_s, channels=channels
        )

    def _run(self, job: StreamJob, server: Server, made: Databases, other_port: int = 0) -> Wave:
        job = replace(
            job,
            port=server.port,
            other_port=other_port,
            start=self._start,
            server_pid=server.pid,
            postgres_pid=made.pid,
        )
        self._start += job.streams * job.turns
        before_mb = server.resident_mb()
        printed, peak_mb = run_callers("streamers.py", job, server)
        time.sleep(self._size.settle_s)
        result = StreamResult(**printed)
        self.failed += result.failed
        return Wave(result, (before_mb, peak_mb, server.resident_mb()))

    def _one_worker(self, made: Databases) -> None:
        """Streams on one worker: one, some, and many at once."""
        size = self._size
        short = replace(self._job(1), pieces=3, turns=size.first_turns, channels=1)
        some, many = size.some, size.many
        jobs = {1: short, some: self._job(some), many: self._job(many, spread_s=2, channels=8)}
        found: dict[int, list[Wave]] = {streams: [] for streams in jobs}
        with processes.ticking(made.parley_url, self._folder) as server:
            self._run(replace(short, turns=20), server, made)  # warms it up
            for streams, job in jobs.items():
                for number in range(size.rounds):
                    self._say(f"streams: {streams} at once, round {number + 1} of {size.rounds}")
                    found[streams].append(self._run(job, server, made))
        print_table(
            f"Streams on one worker, {PER_S} pieces a second each; times in ms",
            ("at once", "complete", "events/piece", "first p50", "p50", "p95", "most", "agent late",
             "CPU server/event", "CPU Postgres/event", "CPU server, %", "CPU callers, %",
             "MB before", "peak", "after"),
            [(streams, *wave.row()) for streams, waves in found.items() for wave in waves],
        )  # fmt: skip

        def middle(figure: str, streams: int) -> float:
            return float(median(getattr(wave.result, figure) for wave in found[streams]))

        failed = sum(wave.result.failed for waves in found.values() for wave in waves)
        self.bars += [
            Bar("first chunk after the first piece, one stream: p50, ms",
                middle("first_p50_ms", 1), 10),
            Bar(f"{some} streams: p95 of a piece's delay, ms", middle("p95_ms", some), 100),
            Bar(f"{many} streams: p95 of a piece's delay, ms", middle("p95_ms", many), 1000),
            Bar("streams in which a byte was missing or wrong", failed, 0),
            Bar(f"{many} streams: most memory of the worker, MB",
                max(wave.mb[1] for wave in found[many]), 250),
        ]  # fmt: skip

    def _other_worker(self, made: Databases) -> None:
        """Streams whose callers have attached to them on another worker."""
        rows = []
        job = self._job(self._size.attached)
        for notify, name, bar in (("listen", "notified", 50), ("poll", "polling", 300)):
            self._say(f"streams: attached on another worker, {name}")
            with (
                processes.ticking(made.parley_url, self._folder, notify) as server,
                processes.ticking(made.parley_url, self._folder, notify) as other,
            ):
                time.sleep(self._size.settle_s)  # they greet each other
                found = self._run(job, server, made, other.port).result
            rows.append((name, found.p50_ms, found.p95_ms, found.other_p50_ms, found.other_p95_ms))
            self.bars.append(
                Bar(f"attached on another worker, {name}: p50, ms", found.other_p50_ms, bar)
            )
        print_table(
            "A piece's delay at a caller that is attached on another worker, "
            f"{job.streams} streams; in ms",
            ("workers", "here p50", "p95", "there p50", "p95"),
            rows,
        )

    def _watchers(self) -> None:
        """Watch very many conversations in which nothing happens."""
        size = self._size
        found: dict[str, Watched] = {}
        with processes.counting_databases(self._folder / "watched") as made:
            part = Part("watched", size.watchers, MESSAGES)
            files = seed(made.parley_url, made.plain_url, [part], self._folder)
            for notify, name, seconds in (
                ("listen", "notified", size.watch_s),
                ("poll", "polling", size.watch_polling_s),
            ):
                self._say(f"streams: {size.watchers:,} watchers, {name}")
                with processes.ticking(made.parley_url, self._folder, notify) as server:
                    found[name] = self._watched(server, made, files["watched"], seconds)
        print_table(
            f"{size.watchers:,} watchers of conversations in which nothing happens, one worker",
            ("worker", "statements/watcher/s", "CPU server, %", "CPU Postgres, %", "MB before",
             "after"),
            [
                (name, f"{one.statements_per_s:.3f}", one.server_cpu_share * 100,
                 one.postgres_cpu_share * 100, *one.mb)
                for name, one in found.items()
            ],
        )  # fmt: skip
        notified, polling = found["notified"], found["polling"]
        name = f"{size.watchers:,} watchers"
        self.bars += [
            Bar(f"{name}, notified: statements of each, a second",
                max(0.0, round(notified.statements_per_s, 3)), 0),
            Bar(f"{name}, notified: memory that they take, MB",
                notified.mb[1] - notified.mb[0], 100),
            Bar(f"{name}, polling: statements of each, a second",
                round(polling.statements_per_s, 1), 1),
        ]  # fmt: skip

    def _watched(
        self, server: Server, made: CountingDatabases, conversations: str, seconds: float
    ) -> Watched:
        job = WatchJob(conversations, 10, server.port, MESSAGES)
        with watching(job):
            time.sleep(self._size.settle_s)
        made.statements("parley")
        time.sleep(seconds / 4)
        without = made.statements("parley") / (seconds / 4)
        before_mb = server.resident_mb()
        with watching(replace(job, watchers=self._size.watchers)) as results:
            time.sleep(self._size.settle_s)
            pids = ((server.pid, False), (made.pid, True))
            before = [clocks(pid, with_children=all_of_it) for pid, all_of_it in pids]
            made.statements("parley")
            began = time.monotonic()
            time.sleep(seconds)
            count, took_s = made.statements("parley"), time.monotonic() - began
            after = [clocks(pid, with_children=all_of_it) for pid, all_of_it in pids]
            after_mb = server.resident_mb()
        self.failed += results[0].failed
        server_s, postgres_s = map(used_s, before, after)
        return Watched(
            (count / took_s - without) / self._size.watchers,
            server_s / took_s,
            postgres_s / took_s,
            (before_mb, after_mb),
        )

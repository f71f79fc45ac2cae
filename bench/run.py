"""Measures Parley: `make bench`, or `.venv/bin/python bench/run.py [--quick] [--only PART]`.

turns    a turn of Parley, of the plain flow, and an empty call, taking turns with each other
length   a turn in conversations of 100, 1,000 and 10,000 messages
many     2,000 turns at once on one worker, with an agent that takes a second
streams  how long what an agent says is under way; watchers of conversations that are idle
overload three times as many turns as the worker takes
row-security  a statement with row security, and without
edge     a turn with TLS, an issuer's keys and metrics, and without

Everything runs on this machine, so what counts are the ratios, each taken within one round.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import processes
import row_security
from callers import Job, Result
from edge import Edge
from overload import ALL_OVERLOAD, QUICK_OVERLOAD, Overload, OverloadSize
from processes import Callers, Databases
from report import Bar, print_bars, print_table
from seed import Part, seed
from streams import ALL_STREAMS, QUICK_STREAMS, Streams, StreamSize

SERVERS = {"parley": "(a) Parley", "plain": "(b) plain flow", "empty": "(c) empty call"}
PARTS = ("turns", "length", "many", "streams", "overload", "row-security", "edge")
LENGTHS = (100, 1_000, 10_000)
AGENT_S = 1.0
MANY_CHANNELS = 24
"""A connection carries 100 calls at once, PARLEY_GRPC_MAX_STREAMS."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    conversations: int = 10_000
    rounds: int = 3
    turns: int = 3_000
    """A round, with 32 in flight; a third of it with one."""
    empty_calls: int = 4
    """How many empty calls are made for a turn: they are that much shorter."""
    long_conversations: int = 40
    long_turns: int = 400
    many: int = 2_000
    waves: int = 3
    streams: StreamSize = ALL_STREAMS
    overload: OverloadSize = ALL_OVERLOAD
    walled: int = 3_000
    """Statements and turns a round, with row security and without."""


QUICK = Size(
    conversations=2_500, rounds=2, turns=800, long_conversations=20, long_turns=100, waves=1,
    streams=QUICK_STREAMS, overload=QUICK_OVERLOAD, walled=1_000,
)  # fmt: skip


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


class Bench:
    """One run: what was measured is printed, and what there is a bar for is gathered."""

    def __init__(self, size: Size, folder: Path) -> None:
        self._size = size
        self._folder = folder
        self.bars: list[Bar] = []
        self.failed = 0

    def _taken(self, result: Result) -> Result:
        self.failed += result.failed
        return result

    def turns(self, made: Databases, conversations: str) -> None:
        """Compare a turn with the plain flow and with an empty call."""
        size = self._size
        found: dict[tuple[str, int], list[Result]] = {}
        with ExitStack() as running:
            servers = (
                processes.parley(made.parley_url, self._folder),
                processes.plain(made.plain_url, self._folder),
                processes.empty(self._folder),
            )
            callers = [Callers(running.enter_context(server), made) for server in servers]
            for in_flight in (1, 32):
                for number in range(size.rounds):
                    say(f"turns: {in_flight} in flight, round {number + 1} of {size.rounds}")
                    for one in callers:
                        kind = one.server.kind
                        turns = size.turns if in_flight > 1 else size.turns // 3
                        if kind == "empty":
                            turns *= size.empty_calls
                        job = Job(conversations, in_flight, turns, warm_up=turns // 5)
                        found.setdefault((kind, in_flight), []).append(self._taken(one.run(job)))
        statements = self._statements_per_turn()
        print_table(
            f"A turn, in conversations of 40 messages, {size.conversations:,} of them",
            ("", "in flight", "turns/s", "p50 ms", "p99 ms", "CPU server ms", "CPU Postgres ms",
             "statements"),
            [
                (SERVERS[kind], in_flight, *_middle(results), statements.get(kind))
                for (kind, in_flight), results in found.items()
            ],
        )  # fmt: skip

        def ratio(figure: str, kind: str, in_flight: int) -> float:
            pairs = zip(found["parley", in_flight], found[kind, in_flight], strict=True)
            return median(getattr(a, figure) / getattr(other, figure) for a, other in pairs)

        self.bars += [
            Bar("server CPU of a turn, (a) / (b), 32 in flight",
                ratio("server_cpu_ms", "plain", 32), 1 / 3, 1 / 4),
            Bar("server CPU of a turn, (a) / (c), 32 in flight",
                ratio("server_cpu_ms", "empty", 32), 6.5, 4),
            Bar("p50 of a turn, (a) / (b), one in flight", ratio("p50_ms", "plain", 1), 0.6, 0.5),
            # A worker looks at the schema once a second besides.
            Bar("statements of a turn", round(statements["parley"], 1), 3),
        ]  # fmt: skip

    def _statements_per_turn(self) -> dict[str, float]:
        """Have a Postgres of its own count statements, BEGIN and COMMIT included."""
        say("turns: counting statements")
        statements = {}
        with processes.counting_databases(self._folder / "counted") as made:
            files = seed(made.parley_url, made.plain_url, [Part("counted", 40, 40)], self._folder)
            for server, database in (
                (processes.parley(made.parley_url, self._folder), "parley"),
                (processes.plain(made.plain_url, self._folder), "plain"),
            ):
                with server as running:
                    callers = Callers(running, made)
                    self._taken(callers.run(Job(files["counted"], 8, 200)))
                    made.statements(database)
                    self._taken(callers.run(Job(files["counted"], 8, 400)))
                    statements[running.kind] = made.statements(database) / 400
        return statements

    def length(self, made: Databases, files: dict[str, str]) -> None:
        """Compare turns in conversations of different lengths."""
        size = self._size
        found: dict[int, list[Result]] = {length: [] for length in LENGTHS}
        with processes.parley(made.parley_url, self._folder) as server:
            callers = Callers(server, made)
            for number in range(size.rounds):
                say(f"length: round {number + 1} of {size.rounds}")
                # There and back, so that a machine that slows down does not slow one length.
                for length in LENGTHS if number % 2 == 0 else LENGTHS[::-1]:
                    job = Job(files[f"long-{length}"], 1, size.long_turns, size.long_turns // 4)
                    found[length].append(self._taken(callers.run(job)))
        print_table(
            "A turn of Parley by the length of the conversation, one in flight",
            ("messages", "turns/s", "p50 ms", "p99 ms", "CPU server ms", "CPU Postgres ms"),
            [(f"{length:,}", *_middle(results)) for length, results in found.items()],
        )
        pairs = list(zip(found[LENGTHS[-1]], found[LENGTHS[0]], strict=True))
        for name, ratio in (
            ("CPU, server and Postgres", median(_cpu_ms(a) / _cpu_ms(b) for a, b in pairs)),
            ("p50", median(a.p50_ms / b.p50_ms for a, b in pairs)),
        ):
            self.bars.append(Bar(f"a turn at 10,000 messages / at 100: {name}", ratio, 1.1))

    def many(self, made: Databases, conversations: str) -> None:
        """Make very many turns at once on one worker."""
        size = self._size
        waves = []
        with processes.parley(made.parley_url, self._folder, f"echo:{AGENT_S}") as server:
            callers = Callers(server, made)
            for number in range(size.waves):
                say(f"many: wave {number + 1} of {size.waves}")
                job = Job(conversations, size.many, size.many, channels=MANY_CHANNELS)
                waves.append(self._taken(callers.run(job)))
        print_table(
            f"{size.many:,} turns at once, an agent that takes {AGENT_S} s, one worker",
            ("wave", "answered", "p50 s", "p95 s", "CPU server ms", "CPU Postgres ms"),
            [
                (number, wave.turns - wave.failed, wave.p50_ms / 1000, wave.p95_ms / 1000,
                 wave.server_cpu_ms, wave.postgres_cpu_ms)
                for number, wave in enumerate(waves, 1)
            ],
        )  # fmt: skip
        name = f"{size.many:,} turns at once"
        self.bars += [
            Bar(f"{name}: not answered", sum(wave.failed for wave in waves), 0),
            Bar(f"{name}: p95, s", median(wave.p95_ms for wave in waves) / 1000, 6, 4),
            Bar(f"{name}: most memory of the worker, MB", callers.peak_mb, 250),
        ]

    def streams(self, made: Databases, conversations: str) -> None:
        """Have answers come piece by piece, and conversations watched."""
        self._measured(Streams(self._size.streams, self._folder, conversations, say), made)

    def overload(self, made: Databases, conversations: str) -> None:
        """Have more turns arrive than a worker takes."""
        self._measured(Overload(self._size.overload, self._folder, conversations, say), made)

    def edge(self, made: Databases, conversations: str) -> None:
        """Compare a turn with and without what the edge of a mesh brings."""
        size = self._size
        part = Edge(self._folder, conversations, say, rounds=size.rounds, turns=size.turns)
        self._measured(part, made)

    def _measured(self, part: Streams | Overload | Edge, made: Databases) -> None:
        part.measure(made)
        self.bars += part.bars
        self.failed += part.failed


def _cpu_ms(result: Result) -> float:
    return result.server_cpu_ms + result.postgres_cpu_ms


def _middle(results: Sequence[Result]) -> tuple[float, ...]:
    """Return the median of each column of a table of turns."""
    figures = ("turns_per_s", "p50_ms", "p99_ms", "server_cpu_ms", "postgres_cpu_ms")
    return tuple(median(getattr(result, figure) for result in results) for figure in figures)


def _parts(size: Size, only: str | None) -> list[Part]:
    parts = [Part("usual", size.conversations, 40)]
    if only in (None, "length"):
        parts += [Part(f"long-{length}", size.long_conversations, length) for length in LENGTHS]
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure Parley.")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, so less exact")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        with processes.databases(folder / "database") as made:
            say("making conversations")
            files = seed(made.parley_url, made.plain_url, _parts(size, options.only), folder)
            made.checkpoint()
            bench = Bench(size, folder)
            if options.only in (None, "turns"):
                bench.turns(made, files["usual"])
            if options.only in (None, "length"):
                bench.length(made, files)
            if options.only in (None, "many"):
                bench.many(made, files["usual"])
            if options.only in (None, "streams"):
                bench.streams(made, files["usual"])
            if options.only in (None, "overload"):
                bench.overload(made, files["usual"])
            if options.only in (None, "row-security"):
                row_security.measure(made, rounds=size.rounds, times=size.walled, say=say)
            if options.only in (None, "edge"):
                bench.edge(made, files["usual"])
    if bench.bars:
        print_bars(bench.bars)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measures Parley: `make bench`, or `.venv/bin/python bench/run.py [--quick] [--only PART]`.

`make bench SMOKE=1` runs every part in the smallest size: its figures say nothing, but each
part has run to its end.

start    from the command until it serves
turns    a turn of Parley, of the plain flow, of a peer, and an empty call, in alternation
length   a turn in conversations of 100, 1,000 and 10,000 messages
many     2,000 turns at once on one worker, with an agent that takes a second
streams  how long what an agent says is under way; watchers of conversations that are idle
overload three times as many turns as the worker takes
row-security  a statement with row security, and without
removal  turns while what deleted conversations held is removed
edge     a turn with TLS, an issuer's keys and metrics, and without
accepting  a turn that StartTurn stores, against one that Chat answers
waiting  a worker beside turns that wait for their caller, and without
traces   a turn with traces, 1 % and all of them recorded, and without

Everything runs on this machine, so what counts are the ratios, each taken within one round. A part
begins with copies of the same two databases: what another one did, or failed to do, is not in them.
The exit code is 1 if a part died or a turn failed; a bar that is missed is only shown.
At the end all tables are in build/bench.html as well, with plots beside them.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import processes
import row_security
from accepting import Accepting
from callers import Job, Result
from edge import Edge
from overload import ALL_OVERLOAD, QUICK_OVERLOAD, SMOKE_OVERLOAD, Overload, OverloadSize
from processes import Callers, Databases
from removal import ALL_REMOVAL, DELETED, QUICK_REMOVAL, SMOKE_REMOVAL, Removal, RemovalSize
from report import PAGE, Bar, print_bars, print_table, ratio
from rounds import rounds
from seed import Part, seed
from streams import ALL_STREAMS, QUICK_STREAMS, SMOKE_STREAMS, Streams, StreamSize
from traces import Traces
from waiting import ALL_WAITING, QUICK_WAITING, SMOKE_WAITING, WAITING, WaitingPart, WaitingSize

SERVERS = {
    "parley": "(a) Parley",
    "plain": "(b) plain flow",
    "empty": "(c) empty call",
    "peer": "(d) OpenAI Agents SDK",
}
USUAL = "usual"
PARTS = (
    "start",
    "turns",
    "length",
    "many",
    "streams",
    "overload",
    "row-security",
    "removal",
    "edge",
    "accepting",
    "waiting",
    "traces",
)
AGENT_S = 1.0
OUTCOME = Path("build/bench.html")
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
    lengths: tuple[int, ...] = (100, 1_000, 10_000)
    """Of the conversations whose turns are compared, in messages."""
    long_conversations: int = 40
    long_turns: int = 400
    many: int = 2_000
    waves: int = 3
    streams: StreamSize = ALL_STREAMS
    overload: OverloadSize = ALL_OVERLOAD
    removal: RemovalSize = ALL_REMOVAL
    waiting: WaitingSize = ALL_WAITING
    walled: int = 3_000
    """Statements and turns a round, with row security and without."""
    counted: int = 400
    """Turns while statements are counted."""
    starts: int = 7


QUICK = Size(
    conversations=2_500, rounds=2, turns=800, long_conversations=20, long_turns=100, waves=1,
    streams=QUICK_STREAMS, overload=QUICK_OVERLOAD, walled=1_000,
    removal=QUICK_REMOVAL, waiting=QUICK_WAITING, starts=5,
)  # fmt: skip

SMOKE = Size(
    conversations=300, rounds=1, turns=64, empty_calls=1, lengths=(100, 400), long_conversations=5,
    long_turns=5, many=200, waves=1, streams=SMOKE_STREAMS, overload=SMOKE_OVERLOAD, walled=20,
    counted=40, removal=SMOKE_REMOVAL, waiting=SMOKE_WAITING, starts=2,
)  # fmt: skip


Files = dict[str, str]
"""By kind of conversations, the file that callers take them from."""


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


class Bench:
    """One run: what was measured is printed, and what there is a bar for is gathered."""

    def __init__(self, size: Size, folder: Path) -> None:
        self._size = size
        self._folder = folder
        self.bars: list[Bar] = []
        self.failed = 0
        self.died: list[str] = []
        """The parts that came to no end."""

    def _taken(self, result: Result) -> Result:
        self.failed += result.failed
        return result

    def start(self, made: Databases, files: Files) -> None:
        """Start a worker on a database that is up to date, again and again."""
        took_s, memory_mb = [], []
        for number in range(self._size.starts):
            say(f"start: {number + 1} of {self._size.starts}")
            began = time.monotonic()
            with processes.parley(made.parley_url, self._folder) as server:
                took_s.append(time.monotonic() - began)
                memory_mb.append(server.resident_mb())
        print_table(
            "From `parley-server serve` until it serves, agent echo",
            ("starts", "p50 s", "most s", "memory MB"),
            [(len(took_s), median(took_s), max(took_s), median(memory_mb))],
        )
        self.bars.append(Bar("start to serving: p50, s", median(took_s), 2.5, 1.5))

    def turns(self, made: Databases, files: Files) -> None:
        """Compare a turn with the plain flow and with an empty call."""
        size = self._size
        found: dict[tuple[str, int], list[Result]] = {}
        with ExitStack() as running:
            servers = (
                processes.parley(made.parley_url, self._folder),
                processes.plain(made.plain_url, self._folder),
                processes.empty(self._folder),
                processes.plain(made.plain_url, self._folder, "peer"),
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
                        job = Job(files[USUAL], in_flight, turns, warm_up=turns // 5)
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

        def against(figure: str, kind: str, in_flight: int) -> float:
            pairs = zip(found["parley", in_flight], found[kind, in_flight], strict=True)
            return median(ratio(getattr(a, figure), getattr(b, figure)) for a, b in pairs)

        self.bars += [
            Bar("server CPU of a turn, (a) / (b), 32 in flight",
                against("server_cpu_ms", "plain", 32), 0.27, 0.22),
            Bar("server CPU of a turn, (a) / (c), 32 in flight",
                against("server_cpu_ms", "empty", 32), 5, 3.5),
            Bar("Postgres CPU of a turn, (a) / (b), 32 in flight",
                against("postgres_cpu_ms", "plain", 32), 0.85, 0.7),
            Bar("p50 of a turn, (a) / (b), one in flight",
                against("p50_ms", "plain", 1), 0.5, 0.45),
            # A worker looks at the schema once a second besides.
            Bar("statements of a turn", round(statements["parley"], 1), 3),
        ]  # fmt: skip

    def _statements_per_turn(self) -> dict[str, float]:
        """Have a Postgres of its own count statements, BEGIN and COMMIT included."""
        say("turns: counting statements")
        statements = {}
        counted = self._size.counted
        with processes.counting_databases(self._folder / "counted") as made:
            files = seed(made.parley_url, made.plain_url, [Part("counted", 40, 40)], self._folder)
            for server, database in (
                (processes.parley(made.parley_url, self._folder), "parley"),
                (processes.plain(made.plain_url, self._folder), "plain"),
                (processes.plain(made.plain_url, self._folder, "peer"), "plain"),
            ):
                with server as running:
                    callers = Callers(running, made)
                    self._taken(callers.run(Job(files["counted"], 8, counted // 2)))
                    made.statements(database)
                    self._taken(callers.run(Job(files["counted"], 8, counted)))
                    statements[running.kind] = made.statements(database) / counted
        return statements

    def length(self, made: Databases, files: Files) -> None:
        """Compare turns in conversations of different lengths."""
        size = self._size
        found: dict[int, list[Result]] = {length: [] for length in size.lengths}
        with processes.parley(made.parley_url, self._folder) as server:
            callers = Callers(server, made)
            for length in rounds("length", size.lengths, size.rounds, say):
                job = Job(files[f"long-{length}"], 1, size.long_turns, size.long_turns // 4)
                found[length].append(self._taken(callers.run(job)))
        print_table(
            "A turn of Parley by the length of the conversation, one in flight",
            ("messages", "turns/s", "p50 ms", "p99 ms", "CPU server ms", "CPU Postgres ms"),
            [(f"{length:,}", *_middle(results)) for length, results in found.items()],
        )
        shortest, longest = size.lengths[0], size.lengths[-1]
        pairs = list(zip(found[longest], found[shortest], strict=True))
        for name, figure in (("CPU, server and Postgres", _cpu_ms), ("p50", _p50_ms)):
            measured = median(ratio(figure(a), figure(b)) for a, b in pairs)
            what = f"a turn at {longest:,} messages / at {shortest:,}: {name}"
            self.bars.append(Bar(what, measured, 1.1))

    def many(self, made: Databases, files: Files) -> None:
        """Make very many turns at once on one worker."""
        size = self._size
        waves = []
        with processes.parley(made.parley_url, self._folder, f"echo:{AGENT_S}") as server:
            callers = Callers(server, made)
            for number in range(size.waves):
                say(f"many: wave {number + 1} of {size.waves}")
                job = Job(files[USUAL], size.many, size.many, channels=MANY_CHANNELS)
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

    def streams(self, made: Databases, files: Files) -> None:
        """Have answers come piece by piece, and conversations watched."""
        self._measured(Streams(self._size.streams, self._folder, files[USUAL], say), made)

    def overload(self, made: Databases, files: Files) -> None:
        """Have more turns arrive than a worker takes."""
        self._measured(Overload(self._size.overload, self._folder, files[USUAL], say), made)

    def removal(self, made: Databases, files: Files) -> None:
        """Have turns arrive while a million rows go away."""
        self._measured(Removal(self._size.removal, self._folder, files[USUAL], say), made)

    def edge(self, made: Databases, files: Files) -> None:
        """Compare a turn with and without what the edge of a mesh brings."""
        size = self._size
        part = Edge(self._folder, files[USUAL], say, rounds=size.rounds, turns=size.turns)
        self._measured(part, made)

    def accepting(self, made: Databases, files: Files) -> None:
        """Compare the acceptance of a turn with a turn of Chat."""
        size = self._size
        part = Accepting(self._folder, files[USUAL], say, rounds=size.rounds, turns=size.turns)
        self._measured(part, made)

    def waiting(self, made: Databases, files: Files) -> None:
        """Compare a worker beside thousands of waiting turns with one beside none."""
        size = self._size
        part = WaitingPart(
            size.waiting, self._folder, files[USUAL], say, rounds=size.rounds, turns=size.turns
        )
        self._measured(part, made)

    def traces(self, made: Databases, files: Files) -> None:
        """Compare a turn with traces and without."""
        size = self._size
        part = Traces(self._folder, files[USUAL], say, rounds=size.rounds, turns=size.turns)
        self._measured(part, made)

    def row_security(self, made: Databases, files: Files) -> None:
        """Compare statements with row security and without."""
        row_security.measure(made, rounds=self._size.rounds, times=self._size.walled, say=say)

    def run(self, part: str, made: Databases, files: Files) -> None:
        """Run one part on copies of the databases; if it dies, say so and let the next ones run."""
        name = part.replace("-", "_")
        try:
            with made.copied(name) as copies:
                getattr(self, name)(copies, files)
        except (Exception, SystemExit):
            say(f"{part}: died\n{traceback.format_exc()}")
            self.died.append(part)

    def _measured(
        self,
        part: Streams | Overload | Removal | Edge | Accepting | WaitingPart | Traces,
        made: Databases,
    ) -> None:
        part.measure(made)
        self.bars += part.bars
        self.failed += part.failed


def _cpu_ms(result: Result) -> float:
    return result.server_cpu_ms + result.postgres_cpu_ms


def _p50_ms(result: Result) -> float:
    return result.p50_ms


def _middle(results: Sequence[Result]) -> tuple[float, ...]:
    """Return the median of each column of a table of turns."""
    figures = ("turns_per_s", "p50_ms", "p99_ms", "server_cpu_ms", "postgres_cpu_ms")
    return tuple(median(getattr(result, figure) for result in results) for figure in figures)


def _parts(size: Size, only: str | None) -> list[Part]:
    parts = [Part(USUAL, size.conversations, 40)]
    if only in (None, "length"):
        parts += [
            Part(f"long-{length}", size.long_conversations, length) for length in size.lengths
        ]
    if only in (None, "removal"):
        parts.append(Part(DELETED, size.removal.conversations, size.removal.messages))
    if only in (None, "waiting"):
        parts.append(Part(WAITING, size.waiting.turns, 2))
    return parts


def _where() -> str:
    """Say on what it is measured."""
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure Parley.")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="smaller and shorter, so less exact")
    sizes.add_argument("--smoke", action="store_true", help="as small as can be: does it run?")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    options = parser.parse_args()
    size = SMOKE if options.smoke else QUICK if options.quick else Size()
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        bench = Bench(size, folder)
        with processes.databases(folder / "database") as made:
            say("making conversations")
            files = seed(made.parley_url, made.plain_url, _parts(size, options.only), folder)
            for part in (options.only,) if options.only else PARTS:
                bench.run(part, made, files)
    if bench.bars:
        print_bars(bench.bars)
    PAGE.write(
        OUTCOME, f"{'smoke, ' if options.smoke else 'quick, ' if options.quick else ''}{_where()}"
    )
    say(f"\nAll of it with plots: {OUTCOME}")
    if bench.died:
        say(f"\nNot measured to the end: {', '.join(bench.died)}")
    return 1 if bench.failed or bench.died else 0


if __name__ == "__main__":
    sys.exit(main())

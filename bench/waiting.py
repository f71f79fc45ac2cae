"""The part `waiting`: what turns that wait for their caller cost, and how fast many of them end."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import processes
import psutil
import psycopg
from callers import Job, Result
from cpu import clocks, used_s
from processes import Callers, Databases, Server
from report import Bar, print_table, ratio
from rounds import rounds

from parley_server.storage.schema import integrity

WAITING = "waiting"
"""The kind of conversations whose turns wait."""
IN_FLIGHT = 32
SETTLED_S = 3.0
"""How long a worker is left alone after its start, and after a change, before it is measured."""
PATIENCE_S = 60

_WAIT = """
WITH waiting AS (
    UPDATE conversation SET last_sequence = last_sequence + 1, fence = fence + 2,
        open_turn_id = uuidv7(), update_time = now()
    WHERE user_id LIKE %(users)s
    RETURNING owner_id, id, open_turn_id AS turn_id, last_sequence),
turned AS (
    INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
        user_sequence, is_counted)
    SELECT owner_id, turn_id, id, turn_id::text, sha256(id::text::bytea), '', 'WAITING', 1,
        last_sequence, true
    FROM waiting),
said AS (
    INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
    SELECT owner_id, id, last_sequence, turn_id, 'USER', %(text)s FROM waiting),
asked AS (
    INSERT INTO turn_step (owner_id, turn_id, number, kind, body)
    SELECT owner_id, turn_id, 1, 'RESPONSE', %(text)s FROM waiting),
waits AS (
    INSERT INTO turn_wait (owner_id, turn_id, digests, end_time, calls, content, model)
    SELECT owner_id, turn_id, '{}', now() + interval '1 day', json_build_array(json_build_object(
        'call_key', gen_random_uuid(), 'id', 'call', 'name', 'weather', 'arguments', '{}',
        'step', 1, 'kind', 'RESULT'))::text, %(text)s, 'echo'
    FROM waiting)
INSERT INTO wait_due (owner_id, turn_id, conversation_id, due_time)
SELECT owner_id, turn_id, id, now() + interval '1 day' FROM waiting
"""
_EXPIRE = """
UPDATE turn_wait SET end_time = now();
UPDATE wait_due SET due_time = now();
"""


@dataclass(frozen=True)
class WaitingSize:
    """How many turns wait, and how long is looked at what that costs."""

    turns: int = 10_000
    idle_s: float = 20.0
    expiry_s: float = 30.0
    """How long turns that have waited for too long are ended."""


ALL_WAITING = WaitingSize()
QUICK_WAITING = WaitingSize(idle_s=10, expiry_s=15)
SMOKE_WAITING = WaitingSize(turns=50, idle_s=1, expiry_s=2)


@dataclass(frozen=True)
class Idle:
    """A worker without calls. CPU: percent of a core."""

    server_cpu: float
    postgres_cpu: float
    server_mb: float
    postgres_mb: float


class WaitingPart:
    """Compares a worker whose database has waiting turns with one whose database has none."""

    def __init__(
        self,
        size: WaitingSize,
        folder: Path,
        conversations: str,
        say: Callable[[str], None],
        *,
        rounds: int,
        turns: int,
    ) -> None:
        self._size = size
        self._folder = folder
        self._say = say
        self._rounds = rounds
        self._job = Job(conversations, IN_FLIGHT, turns, warm_up=turns // 5)
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        """Look at an idle worker and at turns, with and without; then have the waits end."""
        many = f"{self._size.turns:,} waiting"
        idle: dict[str, list[Idle]] = {}
        busy: dict[str, list[Result]] = {}
        with ExitStack() as stack:
            full = stack.enter_context(made.copied("waits"))
            _begin(full.parley_url)
            full.checkpoint()
            kinds = {"none": made, many: full}
            for name in rounds("waiting", list(kinds), self._rounds, self._say):
                with processes.parley(kinds[name].parley_url, self._folder) as server:
                    idle.setdefault(name, []).append(self._idle(server, made.pid))
                    result = Callers(server, kinds[name]).run(self._job)
                self.failed += result.failed
                busy.setdefault(name, []).append(result)
            self._print(idle, busy, many)
            self._end_all(full)

    def _idle(self, server: Server, postgres_pid: int) -> Idle:
        time.sleep(SETTLED_S)
        began = time.monotonic()
        before = clocks(server.pid), clocks(postgres_pid, with_children=True)
        time.sleep(self._size.idle_s)
        after = clocks(server.pid), clocks(postgres_pid, with_children=True)
        percent = 100 / (time.monotonic() - began)
        return Idle(
            used_s(before[0], after[0]) * percent,
            used_s(before[1], after[1]) * percent,
            server.resident_mb(),
            _memory_mb(postgres_pid),
        )

    def _print(self, idle: dict[str, list[Idle]], busy: dict[str, list[Result]], many: str) -> None:
        print_table(
            f"A worker and its Postgres, idle, and with {IN_FLIGHT} turns in flight",
            ("turns that wait", "idle: CPU worker, %", "CPU Postgres, %", "MB worker",
             "MB Postgres", "a turn: CPU server ms", "CPU Postgres ms", "p50 ms"),
            [
                (
                    name,
                    *(median(getattr(one, figure) for one in idle[name])
                      for figure in Idle.__dataclass_fields__),
                    *(median(getattr(one, figure) for one in busy[name])
                      for figure in ("server_cpu_ms", "postgres_cpu_ms", "p50_ms")),
                )
                for name in idle
            ],
        )  # fmt: skip

        def against(found: Mapping[str, Sequence[Idle | Result]], *names: str) -> float:
            pairs = zip(found[many], found["none"], strict=True)
            return median(ratio(_sum(a, names), _sum(b, names)) for a, b in pairs)

        what = f"{many} / none"
        self.bars += [
            Bar(f"CPU of an idle worker and Postgres, {what}",
                against(idle, "server_cpu", "postgres_cpu"), 1.2),
            Bar(f"memory of an idle worker, {what}", against(idle, "server_mb"), 1.05),
            Bar(f"CPU of a turn, server and Postgres, {what}",
                against(busy, "server_cpu_ms", "postgres_cpu_ms"), 1.1),
        ]  # fmt: skip

    def _end_all(self, made: Databases) -> None:
        """Have all turns wait for too long at once, and count how many one worker ends."""
        self._say("waiting: ending those that have waited for too long")
        with (
            psycopg.connect(made.parley_url, autocommit=True) as connection,
            processes.parley(made.parley_url, self._folder) as server,
        ):
            time.sleep(SETTLED_S)
            connection.execute(_EXPIRE)
            deadline = time.monotonic() + PATIENCE_S
            while (first := _left(connection)) == self._size.turns:
                if time.monotonic() > deadline:
                    raise SystemExit("no wait is ended")
                time.sleep(0.05)
            began = time.monotonic()
            before = clocks(server.pid), clocks(made.pid, with_children=True)
            while (left := _left(connection)) and time.monotonic() < began + self._size.expiry_s:
                time.sleep(0.1)
            seconds = time.monotonic() - began
            after = clocks(server.pid), clocks(made.pid, with_children=True)
        ended = max(1, first - left)
        cpu_ms = [used_s(a, b) / ended * 1000 for a, b in zip(before, after, strict=True)]
        print_table(
            "Turns that have waited for too long, ended by one worker",
            ("ended", "a minute", "CPU server ms", "CPU Postgres ms"),
            [(ended, ended / seconds * 60, *cpu_ms)],
        )


def _begin(url: str) -> None:
    """Have a turn wait in each conversation of the kind, with the rows that the server writes."""
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_WAIT, {"users": f"{WAITING}-%", "text": "I shall look it up. " * 10})
        connection.execute("VACUUM ANALYZE")
    if problems := integrity.examine(url).problems:
        raise SystemExit(f"no such rows are written by the server: {problems}")


def _left(connection: psycopg.Connection[tuple[int]]) -> int:
    found = connection.execute("SELECT count(*) FROM wait_due").fetchone()
    return found[0] if found else 0


def _memory_mb(pid: int) -> float:
    """Return what a process and its children have of memory, what they share counted once."""
    process = psutil.Process(pid)
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += float(one.memory_full_info().pss)
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def _sum(of: Idle | Result, names: tuple[str, ...]) -> float:
    return float(sum(getattr(of, name) for name in names))

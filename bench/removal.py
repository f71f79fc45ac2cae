"""The part `removal`: turns while what deleted conversations held is removed beside them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import processes
import psycopg
from arrivals import ArrivalJob, ArrivalResult
from processes import Databases, Server, run_callers
from report import Bar, print_table, ratio

DELETED = "deleted"
"""The kind of conversations that are removed."""
PATIENCE_S = 600

_DELETE = """
WITH gone AS (
    UPDATE conversation SET delete_time = now(), update_time = 'epoch'
    WHERE user_id LIKE %(users)s RETURNING owner_id, id)
INSERT INTO deletion (owner_id, conversation_id, stage) SELECT owner_id, id, 'TRASHED' FROM gone
"""
_LEFT = """
SELECT count(*) FROM deletion WHERE stage <> 'TOMBSTONE'
"""


@dataclass(frozen=True)
class RemovalSize:
    """How much is removed, and how turns arrive."""

    conversations: int = 1_000
    messages: int = 700
    """Of each conversation. With its turns, a row and a half for each."""
    per_s: float = 100.0
    seconds: float = 10.0
    """Of each round."""
    rounds: int = 3
    """Without anything that is removed. Beside the removal there are as many as it takes."""


ALL_REMOVAL = RemovalSize()
QUICK_REMOVAL = RemovalSize(conversations=200, seconds=5, rounds=2)
SMOKE_REMOVAL = RemovalSize(conversations=10, messages=100, per_s=20, seconds=1, rounds=1)


class Removal:
    """Compares turns with and without a removal beside them."""

    def __init__(
        self, size: RemovalSize, folder: Path, conversations: str, say: Callable[[str], None]
    ) -> None:
        self._size = size
        self._folder = folder
        self._conversations = conversations
        self._say = say
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        """Have turns arrive at a rate: with nothing else to do, then until all rows are gone."""
        size = self._size
        rows = size.conversations * size.messages * 3 // 2
        with (
            psycopg.connect(made.parley_url, autocommit=True) as connection,
            processes.parley(made.parley_url, self._folder) as server,
        ):
            self._round(server)  # warms up
            usual = [self._round(server) for _ in range(size.rounds)]
            connection.execute(_DELETE, {"users": f"{DELETED}-%"})
            began = time.monotonic()
            beside = [self._round(server)]
            while self._is_under_way(connection):
                if time.monotonic() - began > PATIENCE_S:
                    raise SystemExit("the rows do not go away")
                beside.append(self._round(server))
            took_s = time.monotonic() - began
        # The last round ran partly without it.
        beside = beside[:-1] or beside
        print_table(
            f"{size.per_s:.0f} turns a second while {rows:,} rows are removed, in {took_s:.0f} s",
            ("", "rounds", "answered", "p50 ms", "p99 ms"),
            [
                (name, len(found), sum(one.answered for one in found), *_middle(found))
                for name, found in (("nothing removed", usual), ("removal beside", beside))
            ],
        )
        name = "p99 of a turn, rows removed beside / none"
        self.bars.append(Bar(name, ratio(_middle(beside)[1], _middle(usual)[1]), 1.3))

    def _round(self, server: Server) -> ArrivalResult:
        size = self._size
        self._say(f"removal: {size.seconds:.0f} s of turns")
        phases = [(size.per_s, size.seconds)]
        job = ArrivalJob(self._conversations, phases, server.port, channels=4)
        printed, _ = run_callers("arrivals.py", job, server)
        result = ArrivalResult(**printed[0])
        self.failed += result.failed
        return result

    def _is_under_way(self, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        left = connection.execute(_LEFT).fetchone()
        return left != (0,)


def _middle(found: list[ArrivalResult]) -> tuple[float, float]:
    return median(one.p50_ms for one in found), median(one.p99_ms for one in found)

"""The programs of examples/, together: a shop in Go, an approver, and two consumers of the feed.

They talk through two workers of one server. One of those is killed (-9) in the midst, and so are
the approver and both consumers.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.guides import follow
from support.processes import ServerProcess
from support.services import a_token

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 100
BUYS = ["Buy 2 pen", "Buy 1 lamp", "Buy 1 notebook", "Buy 3 pen", "Buy 2 ship"]
ANSWERS = [
    "2 \N{MULTIPLICATION SIGN} pen ordered, charged 240 cents.",
    "You are not charged: More than 1000 cents need a person.",
    "1 \N{MULTIPLICATION SIGN} notebook ordered, charged 350 cents.",
    "3 \N{MULTIPLICATION SIGN} pen ordered, charged 360 cents.",
    "There is no such article.",
]
ORDERED = [("2", "pen"), ("1", "notebook"), ("3", "pen")]
CHARGED = ["240", "350", "360"]

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="two examples are in Go"),
    pytest.mark.timeout(240),
]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Program:
    """A program of examples/ that is started, killed, and started again, as a supervisor does."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self._folder, self._command, self._environment = folder, command, environment
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, args=[self.process], daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.strip())

    def say(self, *lines: str) -> None:
        """Write its whole input."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n".join(lines) + "\n")
        self.process.stdin.close()

    def kill_and_start(self) -> None:
        self.kill()
        self.start()

    def kill(self) -> None:
        assert self.process.poll() is None, "it has ended by itself"
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the two programs in Go."""
    badly_formatted = subprocess.check_output(["gofmt", "-l", "."], cwd=EXAMPLES, text=True)
    assert "" == badly_formatted, "gofmt -w would change these"
    folder = tmp_path_factory.mktemp("built")
    for name in ("shop-go", "feed-go"):
        subprocess.run(
            ["go", "build", "-o", folder / name, "."], cwd=EXAMPLES / name, check=True, timeout=200
        )
    return folder


@pytest.fixture
def server(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServerProcess]:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    monkeypatch.setenv("SHOP_CHARGES", str(tmp_path / "charges.txt"))
    with ServerProcess(
        database_url, agent="python:shop_agent:agent", workers=2, lease_s=1
    ) as server:
        yield server


@pytest.fixture
def programs(
    server: ServerProcess, built: Path, tmp_path: Path
) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*command: str, **environment: str) -> Program:
        program = Program(
            tmp_path,
            *command,
            PARLEY_ADDRESS=f"127.0.0.1:{server.port}",
            PARLEY_TOKEN=a_token("shop"),
            **environment,
        )
        started.append(program)
        return program

    yield start
    for program in started:
        program.close()


def lines_of(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def kill_a_worker(server: ServerProcess, number: int) -> None:
    worker = workers_of(server)[number]
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGKILL)


def outcomes_in_db(path: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as db:
        return db.execute("SELECT request_id, state FROM outcome ORDER BY number").fetchall()


def outcomes_in_file(path: Path) -> list[tuple[Any, ...]]:
    whole, _, _ = path.read_text().rpartition("\n")
    told = [json.loads(line) for line in whole.splitlines()]
    return [
        (one["request_id"], one["state"].removeprefix("TURN_STATE_"))
        for one in told
        if "turn_id" in one
    ]


def has_cursor_alone(path: Path) -> bool:
    """Say whether a cursor is in the file behind its last turn: that turn's own would expire."""
    *_, last = path.read_text().splitlines() or ["{}"]
    return '{"cursor":' in last


@pytest.mark.slow
def test_the_page_does_and_says_what_it_says(tmp_path: Path) -> None:
    follow((EXAMPLES / "README.md").read_text("utf-8"), tmp_path)


@pytest.mark.slow
def test_shop_approver_and_consumers_hold_a_conversation_through_killed_workers(
    server: ServerProcess, built: Path, tmp_path: Path, programs: Callable[..., Program]
) -> None:
    """No tool runs twice, an approval is given once, and each outcome is written once."""
    python, orders, charges = sys.executable, tmp_path / "orders.txt", tmp_path / "charges.txt"
    database, file = tmp_path / "outcomes.db", tmp_path / "outcomes.jsonl"
    shop = programs(str(built / "shop-go"))
    consumer = programs(python, str(EXAMPLES / "feed_consumer.py"), str(database))
    consumer_go = programs(str(built / "feed-go"), str(file))
    shop.say(*BUYS)
    approver = programs(python, str(EXAMPLES / "approver.py"), "--limit", "1000")

    until(lambda: len(lines_of(orders)) >= 1, "the first order")
    kill_a_worker(server, 0)
    consumer.kill_and_start()
    until(lambda: len(lines_of(orders)) >= 2, "the second order")
    approver.kill_and_start()
    consumer_go.kill()
    with file.open("a") as cut:
        cut.write('{"turn_id":"to')  # as if it had been killed within a line
    consumer_go.start()
    until(lambda: len(shop.lines) == len(BUYS), "all answers")

    assert any("worker died" in line for line in server.output)
    answers = [json.loads(line) for line in shop.lines]
    assert ANSWERS == [answer["answer"] for answer in answers]
    assert 1 == len({answer["conversation_id"] for answer in answers})

    ended = [answer["request_id"] for answer in answers]
    until(lambda: len(outcomes_in_db(database)) >= len(BUYS), "all outcomes in the table")
    until(lambda: len(outcomes_in_file(file)) >= len(BUYS), "all outcomes in the file")

    # Once more, all of them: nothing may be done again. The approver has even lost its cursor.
    consumer.kill_and_start()
    consumer_go.kill_and_start()
    approver.kill()
    (tmp_path / "approver.cursor").unlink()
    approver.start()
    until(lambda: has_cursor_alone(file), "a cursor that moves on where nothing ends")
    again = programs(str(built / "shop-go"))
    again.say(*BUYS)
    until(lambda: len(again.lines) == len(BUYS), "the same answers")
    assert shop.lines == again.lines
    last = programs(str(built / "shop-go"), SHOP_SESSION="last")
    last.say("Buy 1 pen")  # decided by an approver that has been told all turns again before
    until(lambda: ("last-1", "COMPLETED") in outcomes_in_db(database), "the last in the table")
    until(lambda: ("last-1", "COMPLETED") in outcomes_in_file(file), "the last in the file")

    assert [*ORDERED, ("1", "pen")] == [(count, article) for _, count, article in lines_of(orders)]
    assert [*CHARGED, "120"] == [cents for _, cents in lines_of(charges)]
    keys = [key for key, *_ in (*lines_of(orders), *lines_of(charges))]
    assert len(keys) == len(set(keys)), "a key names one call"
    decided = [line.split()[:2] for line in approver.lines if line.startswith(("appr", "den"))]
    assert {1} == set(Counter(key for _, key in decided).values()), "decided more than once"
    assert len(decided) in (4, 5), "the word of one may have died with the approver"
    for told in (outcomes_in_db(database), outcomes_in_file(file)):
        answered = [name for name, state in told if state == "COMPLETED"]
        assert [*ended, "last-1"] == answered, "each once, in the order in which the turns ended"
        assert {*ended, "last-1"} == {name for name, _ in told}

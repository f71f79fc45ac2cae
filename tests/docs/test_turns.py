"""The program in docs/feed.md runs. test_curl.py follows the page, and docs/turns.md."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from support.services import Service, a_token
from support.terminals import ROOT, environment

FEED = ROOT / "docs" / "feed.md"


async def test_the_consumer_on_the_page_handles_each_turn_once_when_it_is_killed(
    service: Service, tmp_path: Path
) -> None:
    """Fails when no cursor is stored: a turn that comes again gets another row."""
    [program] = re.findall(r"```python\n(.*?)```", FEED.read_text("utf-8"), re.DOTALL)
    program = program.replace("127.0.0.1:50051", f"127.0.0.1:{service.port}")

    def rows() -> list[tuple[int, str]]:
        with sqlite3.connect(tmp_path / "turns.db") as db:
            try:
                return db.execute("SELECT rowid, turn_id FROM ended ORDER BY rowid").fetchall()
            except sqlite3.OperationalError:  # there is no table yet
                return []

    def consume_until(count: int) -> None:
        consumer = subprocess.Popen(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment(PARLEY_TOKEN=a_token())
        )
        try:
            while len(rows()) < count:
                assert consumer.poll() is None
        finally:
            consumer.kill()
            consumer.wait()

    turns: list[str] = []
    for _ in range(2):
        turns += [(await service.chat(f"m{n}")).turn_id for n in range(3)]
        await asyncio.to_thread(consume_until, len(turns))

    assert list(enumerate(turns, 1)) == rows()

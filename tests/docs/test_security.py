"""The threat model names the test of each bound: they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:server|torture|clients|deploy)/[\w/]+\.py)`", PAGE))

    assert len(named) > 10
    assert [] == [path for path in sorted(named) if not (ROOT / "tests" / path).is_file()]


def test_every_limit_has_a_test() -> None:
    rows = [
        line
        for part in ("## What a stranger can use up", "## What one owner can use up")
        for line in PAGE.split(part)[1].split("\n## ")[0].splitlines()
        if line.startswith("| ") and not line.startswith("| what ")
    ]

    assert len(rows) > 20
    assert [] == [row for row in rows if not re.search(r"`[\w/]+\.py`|the same", row)]

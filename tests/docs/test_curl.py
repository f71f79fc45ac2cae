"""Every page that shows curl through Envoy is followed as a newcomer would.

docs/conversations.md has a test beside it, and so has docs/operations.md.
"""

import re
from pathlib import Path

import pytest

from support.guides import ROOT, follow

FOLLOWED_HERE = ("docs/turns.md", "docs/feed.md", "deploy/README.md")
FOLLOWED_ELSEWHERE = {"docs/conversations.md", "docs/operations.md"}
WITHOUT_ENVOY = {"docs/calling.md"}
"""Its `buf curl` calls the server itself."""
PATTERNS = (
    "*.md",
    "docs/**/*.md",
    "deploy/**/*.md",
    "bench/*.md",
    "clients/*/*.md",
    "examples/*.md",
)
CODE = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def pages_with_curl() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for pattern in PATTERNS
        for path in ROOT.glob(pattern)
        if re.search(r"\bcurl ", "".join(CODE.findall(path.read_text("utf-8"))))
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", FOLLOWED_HERE)
def test_the_page_does_and_says_what_it_says(page: str, tmp_path: Path) -> None:
    follow((ROOT / page).read_text("utf-8"), tmp_path)


def test_no_page_shows_curl_that_is_not_followed() -> None:
    followed = {*FOLLOWED_HERE, *FOLLOWED_ELSEWHERE}
    assert followed | WITHOUT_ENVOY == pages_with_curl()

"""Every page that shows curl is followed as a newcomer would.

docs/conversations.md has a test beside it, and so has docs/operations.md.
"""

import re
from pathlib import Path

import pytest

from support.guides import follow
from support.pages import ROOT, pages

FOLLOWED_HERE = ("docs/turns.md", "docs/feed.md", "deploy/README.md")
FOLLOWED_IN_PART = ("docs/waiting.md", "docs/calling.md")
"""The rest of them is no guide, or has a test of its own."""
FOLLOWED_ELSEWHERE = {"docs/conversations.md", "docs/operations.md"}
CODE = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def pages_with_curl() -> set[str]:
    return {
        page
        for page in pages()
        if re.search(r"\bcurl ", "".join(CODE.findall((ROOT / page).read_text("utf-8"))))
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", FOLLOWED_HERE)
def test_the_page_does_and_says_what_it_says(page: str, tmp_path: Path) -> None:
    follow((ROOT / page).read_text("utf-8"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", FOLLOWED_IN_PART)
def test_the_section_with_curl_does_and_says_what_it_says(page: str, tmp_path: Path) -> None:
    start, *sections = (ROOT / page).read_text("utf-8").split("\n## ")
    [section] = [one for one in sections if re.search(r"\bcurl ", "".join(CODE.findall(one)))]
    follow(f"{start}\n{section}", tmp_path)


def test_no_page_shows_curl_that_is_not_followed() -> None:
    followed = {*FOLLOWED_HERE, *FOLLOWED_ELSEWHERE, *FOLLOWED_IN_PART}
    assert followed == pages_with_curl()

"""docs/explaining.md is followed: what it shows is what the commands print."""

from pathlib import Path

import pytest

from support.guides import follow
from support.pages import ROOT


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_does_and_says_what_it_says(tmp_path: Path) -> None:
    """Fails when anything that it prints is another: the digest of the instructions as well."""
    page = (ROOT / "docs" / "explaining.md").read_text("utf-8")

    follow(page, tmp_path, has_agents_file=True)

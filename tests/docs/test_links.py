"""Every link from one page to another leads somewhere, headings included."""

import re
from pathlib import Path

import pytest

from support.pages import ROOT, pages

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NOT_IN_AN_ANCHOR = re.compile(r"[^\w\- ]")


def text_of(page: Path) -> str:
    """Return a page without its blocks of code: a comment in one is no heading."""
    return CODE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    titles = [re.sub(r"[`*]", "", title).strip() for title in HEADING.findall(text_of(page))]
    return {NOT_IN_AN_ANCHOR.sub("", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", pages())
def test_every_link_of_a_page_leads_to_a_file_and_its_heading(name: str) -> None:
    page = ROOT / name
    broken = []
    for link in LINK.findall(text_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert [] == broken

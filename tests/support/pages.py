"""The pages of this repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PATTERNS = (
    "*.md",
    "docs/**/*.md",
    "deploy/**/*.md",
    "bench/*.md",
    "clients/*/*.md",
    "examples/*.md",
)


def pages() -> list[str]:
    """Return the name of every page; generated folders are left out."""
    found = (page for pattern in PATTERNS for page in ROOT.glob(pattern))
    return sorted(str(page.relative_to(ROOT)) for page in found)

"""Generates the synchronous Python client from the asynchronous one.

    python tools/async_to_sync.py           write the files
    python tools/async_to_sync.py --check   compare them with the committed ones

The files are text to it: words and a few sentences are replaced, then ruff puts the result in its
usual shape. What the two clients do differently is in `async_transport` and `sync_transport`,
which are written by hand.

Source: psycopg's tools/async_to_sync.py; docs/decisions/0020.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "clients" / "python" / "parley_client"
FILES = {
    f"async_{name}.py": f"sync_{name}.py"
    for name in ("connection", "reads", "agents", "changes", "turns", "client")
}
HEADER = "# Generated from {source} by tools/async_to_sync.py. Do not edit: run `make gen`.\n"

SENTENCES = {
    " or outside of an event loop. All its calls belong to one event loop.": (
        ". Any number of threads may use it."
    ),
    "Cancelling the task that waits cancels the call.": "Ctrl-C while a call waits cancels it.",
    "for a caller with an event loop": "for a caller without an event loop",
    "a function that returns one, which may be asynchronous, or": "a function that returns one, or",
}
"""What is said of the asynchronous client only, and what holds for the synchronous one instead."""

WORDS = {
    r"\n\n`sync_\w+\.py` is generated from this file\.\n": "",
    r"\basync (?=def|with|for)": "",
    r"\bawait ": "",
    r"\basynchronous\b": "synchronous",
    r"\bAsyncGenerator\[(.+), None\]": r"Generator[\1, None, None]",
    r"\bAsync(?=[A-Z])": "",
    r"\basync_(?=(?:agents|changes|client|connection|reads|tools|transport|turns)\b)": "sync_",
    r"\b__a(?=enter__|exit__)": "__",
    r"\baclosing\b": "closing",
    r"\basyncio\b": "time",
    r"\bgrpc\.aio\.AioRpcError\b": "grpc.RpcError",
    r"\bgrpc\.aio\.": "grpc.",
    r"\bmetadata_from_async\(\s*(self\._token),[^()]*\)": r"metadata_from(\1)",
    r"\bmetadata_from_async\b": "metadata_from",
}
"""Patterns and their replacements, in order."""


def main() -> int:
    """Write the files, or compare them. Returns: the exit code."""
    generated = {FOLDER / name: text for name, text in generate().items()}
    if "--check" not in sys.argv[1:]:
        for path, text in generated.items():
            path.write_text(text, "utf-8")
        return 0
    stale = [
        path
        for path, text in generated.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in stale:
        where = path.relative_to(ROOT)
        print(f"{where} is not what its asynchronous twin says: run `make gen`", file=sys.stderr)
    return 1 if stale else 0


def generate() -> dict[str, str]:
    """Return the text of each synchronous file, by its name.

    Raises: ValueError: a sentence that is to be replaced is nowhere, or not only once.
    """
    sources = {name: (FOLDER / name).read_text("utf-8") for name in FILES}
    for sentence in SENTENCES:
        count = sum(text.count(sentence) for text in sources.values())
        if count != 1:
            raise ValueError(f"found {count} times instead of once: {sentence!r}")
    return {FILES[name]: translate(name, text) for name, text in sources.items()}


def translate(name: str, text: str) -> str:
    """Return the synchronous form of an asynchronous file."""
    for sentence, instead in SENTENCES.items():
        text = text.replace(sentence, instead)
    for pattern, instead in WORDS.items():
        text = re.sub(pattern, instead, text)
    return _tidy(HEADER.format(source=name) + text, FILES[name])


def _tidy(text: str, name: str) -> str:
    """Return a file as `make format` leaves it: imports in order, lines broken where needed."""
    # UP028: `yield from`, which no asynchronous generator may say.
    fix = ["check", "--fix-only", "--unsafe-fixes", "--select", "I,UP028"]
    from_input = ["--quiet", "--stdin-filename", str(FOLDER / name), "-"]
    for command in (fix, ["format"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *from_input],
            input=text,
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
    return text


if __name__ == "__main__":
    sys.exit(main())

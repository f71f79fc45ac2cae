"""Follows a page of the documentation as a reader would: block after block, on one terminal."""

import os
import pty
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from support.services import AUDIENCE, ISSUER, SECRET
from support.terminals import ROOT, environment

BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Return each block of a page that is pasted, with its output; empty: the page shows none."""
    pasted = ""
    for kind, content in BLOCK.findall(page.read_text("utf-8")):
        if kind == "sh":
            if pasted:
                yield pasted, ""
            pasted = content
        else:
            assert pasted, f"no block before {content}"
            yield pasted, content
            pasted = ""
    if pasted:
        yield pasted, ""


def as_pattern(text: str) -> re.Pattern[str]:
    """Return what a text of the page stands for: `…` is anything."""
    return re.compile(".*?".join(map(re.escape, text.strip().split("…"))), re.DOTALL)


class Terminal:
    """One bash, whose commands write to a terminal."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._fd, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=ROOT,
            # No cursor, no colours: what is shown is what is read here.
            env=environment(TERM="dumb", **variables),
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            os.close(self._fd)

    def paste(self, block: str) -> str:
        """Run a block. Returns: what it printed, without spaces at the ends of lines."""
        assert self._process.stdin is not None
        mark = f"--{secrets.token_hex(8)}--"
        self._process.stdin.write(f"{block}\necho {mark}\n".encode())
        self._process.stdin.flush()
        printed = b""
        while mark.encode() not in printed:
            printed += os.read(self._fd, 65_536)  # fails if bash has ended
        text = printed.decode().partition(mark)[0]
        return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def follow(page: Path, database_url: str, here: Mapping[str, str]) -> None:
    """Paste every block of a page into one terminal.

    Everything that is printed is compared, and every command has to succeed. Use it in a thread.

    Args:
        here: what stands in this test for an address on the page.
    """
    variables = {
        "PARLEY_AUTH_HS256_SECRET": SECRET,
        "PARLEY_AUTH_ISSUER": ISSUER,
        "PARLEY_AUTH_AUDIENCE": AUDIENCE,
        "PARLEY_DATABASE_URL": database_url,
        "PARLEY_ADDRESS": here["127.0.0.1:50051"],
    }
    with Terminal(variables) as terminal:
        for pasted, expected in blocks(page):
            for theirs, ours in here.items():
                pasted = pasted.replace(theirs, ours)
            printed = terminal.paste(f"trap 'echo failed: $BASH_COMMAND' ERR\n{pasted}")
            assert "failed:" not in printed, f"{pasted}\nprinted\n{printed}"
            assert as_pattern(expected).fullmatch(printed), f"{pasted}\nprinted\n{printed}"

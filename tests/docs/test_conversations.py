"""docs/conversations.md is followed as a reader would: block after block, on one terminal."""

import asyncio
import os
import pty
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

from support.envoys import Envoy
from support.processes import ServerProcess
from support.services import AUDIENCE, ISSUER, SECRET, StartService, an_id
from support.terminals import environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conversations.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> Iterator[tuple[str, str]]:
    """Return each block that is pasted, with its output; empty: the page shows none."""
    pasted = ""
    for kind, content in BLOCK.findall(PAGE.read_text("utf-8")):
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


@pytest.mark.timeout(180)
async def test_the_guide_does_and_says_what_the_page_says(
    database_url: str, tmp_path: Path
) -> None:
    """Everything that is printed is compared, and every command has to succeed."""

    def follow(here: Mapping[str, str]) -> None:
        key = {
            "PARLEY_AUTH_HS256_SECRET": SECRET,
            "PARLEY_AUTH_ISSUER": ISSUER,
            "PARLEY_AUTH_AUDIENCE": AUDIENCE,
            "PARLEY_DATABASE_URL": database_url,
        }
        address = {"PARLEY_ADDRESS": here["127.0.0.1:50051"]}
        with Terminal({**key, **address}) as terminal:
            for pasted, expected in blocks():
                for theirs, ours in here.items():
                    pasted = pasted.replace(theirs, ours)
                printed = terminal.paste(f"trap 'echo failed: $BASH_COMMAND' ERR\n{pasted}")
                assert "failed:" not in printed, f"{pasted}\nprinted\n{printed}"
                assert as_pattern(expected).fullmatch(printed), f"{pasted}\nprinted\n{printed}"

    with ServerProcess(database_url, trash_days=7) as server:
        async with Envoy(tmp_path, [server.port]) as envoy:
            here = {"127.0.0.1:50051": f"127.0.0.1:{server.port}", "127.0.0.1:8080": envoy.address}
            await asyncio.to_thread(follow, here)


def test_table_of_what_deleting_does_has_a_row_for_everything_that_may_be_under_way() -> None:
    table = PAGE.read_text("utf-8").partition("## What deleting does\n")[2].partition("\n## ")[0]
    subjects = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]

    for subject in (
        *("open turn", "caller", "wait", "streams", "followers", "watches", "pages", "replays"),
        *("GetTurn", "CancelTurn", "`allow_missing`", "same id", "same request id", "lists"),
    ):
        assert [] != [row for row in subjects if subject in row], subject


async def test_deletion_leaves_page_tokens_and_other_owners_alone(
    start_service: StartService,
) -> None:
    """Rows of the table that test_deletion.py leaves out."""
    service = await start_service()
    identity = an_id()
    for user in ("ada", "bob"):
        await service.chat(user=user, conversation_id=identity, allow_missing=True)
    older = (await service.conversation(identity)).conversation_id
    deleted = (await service.chat()).conversation_id
    await service.chat()
    token = (await service.conversations(page_size=1)).next_page_token

    await service.delete(deleted)
    page = await service.conversations(page_size=1, page_token=token)
    await service.delete(older)
    again = await service.delete(older, allow_missing=True)

    assert not again.HasField("purge_time")
    assert [older] == [c.conversation_id for c in page.conversations]
    assert 2 == (await service.conversation(identity, user="bob")).last_sequence

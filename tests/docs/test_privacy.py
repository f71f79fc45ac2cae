"""docs/privacy.md names every column that there is, and its ways to erase and to copy do so."""

import asyncio
import os
import re
import subprocess
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from parley_server.storage.schema.tables import metadata
from support.databases import as_superuser
from support.services import StartService, a_token, refused
from support.terminals import environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text("utf-8")
PATIENCE_S = 30


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section(title), re.DOTALL)


def documented() -> dict[str, set[str]]:
    """Return the columns that the page's first table names, by table."""
    found: dict[str, set[str]] = {}
    table = ""
    for line in section("What the database holds").splitlines():
        if line.startswith(("| `", "| |")):
            first, columns, _ = line.strip("|").split("|", 2)
            table = first.strip(" `") or table
            found.setdefault(table, set()).update(re.findall(r"`(\w+)`", columns))
    return found


async def run(script: str, folder: Path, port: int, token: str) -> str:
    """Run a block as it is. Returns: what it printed."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=folder,
        env=environment(PATH=path, PARLEY_ADDRESS=f"127.0.0.1:{port}", PARLEY_TOKEN=token),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout


def test_every_column_is_on_the_page_and_no_other() -> None:
    there = {
        table.name: {column.name for column in table.columns}
        for table in metadata.tables.values()
        if table.name not in ("parley_schema", "feed_state")
    }

    assert there == documented()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_ways_to_copy_and_to_erase_do_so(
    start_service: StartService, database_url: str, tmp_path: Path
) -> None:
    service = await start_service(trash_days=7)
    token = a_token("eraser", scope="parley.read parley.write parley.act")
    ids = {(await service.chat(f"secret {number}")).conversation_id for number in range(3)}
    ids.add((await service.create(labels={"a": "b"})).conversation.conversation_id)
    kept = (await service.chat(user="bob")).conversation_id

    (copying,) = blocks("An access request", "sh")
    await run(copying, tmp_path, service.port, token)
    copies = {path.stem: path.read_text("utf-8") for path in (tmp_path / "ada-copy").iterdir()}
    assert {"conversations", *ids} == copies.keys()
    assert 3 == "".join(copies[id_] for id_ in ids).count("secret ")

    (erasing,) = blocks("An erasure request", "sh")
    printed = await run(erasing, tmp_path, service.port, token)
    assert ids == {line.split("\t")[0] for line in printed.splitlines()}

    ending, checking = blocks("An erasure request", "sql")
    asking, ending = (statement.strip() for statement in ending.strip().split("\n\n"))
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:

        def asked(statement: str) -> list[tuple[object, ...]]:
            return connection.execute(statement.encode()).fetchall()

        ((owner,),) = asked(asking)
        assert isinstance(owner, UUID)
        assert [(6, 4, 4)] == asked(checking.replace("OWNER_ID", str(owner)))
        connection.execute(ending.replace("OWNER_ID", str(owner)).encode())
        (waiting,) = blocks("How long", "sql")
        service.worker.purging.wake()
        async with asyncio.timeout(PATIENCE_S):
            while asked(waiting):
                await asyncio.sleep(0.05)
        assert [(0, 0, 4)] == asked(checking.replace("OWNER_ID", str(owner)))
    for id_ in ids:
        assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(service.undelete(id_))
    assert kept == (await service.conversation(kept, user="bob")).conversation_id

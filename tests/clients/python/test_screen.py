"""How answers and histories are shown: Markdown, plain text, pages."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from parley.v1 import conversation_pb2 as parts
from support.scripted_server import an_answer
from support.scripted_streams import chunk, completed, started, streaming
from support.services import Service, a_token
from support.terminal_chats import PROMPT, address_of, leave, say, talked
from support.terminals import Terminal, run

LONG = "".join(f"- item number {n}\n" for n in range(60))


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (24, 8)])
@pytest.mark.parametrize("color", [{}, {"NO_COLOR": "1"}])
async def test_an_answer_higher_than_the_screen_is_there_whole(
    columns: int, rows: int, color: dict[str, str]
) -> None:
    text = f"# List\n\n{LONG}\nand **done**"
    pieces = [chunk(text[n : n + 7], n // 7) for n in range(0, len(text), 7)]

    def talk(terminal: Terminal) -> tuple[str, str]:
        say(terminal, "hello")
        terminal.wait_for("and done")
        leave(terminal)
        return terminal.screen, terminal.raw

    usage = parts.Usage(input_tokens=1200, output_tokens=34, cached_input_tokens=1000)
    answer = completed(an_answer(text, usage=usage), 1)
    async with streaming([started(), *pieces, answer]) as server:
        screen, raw = await talked(talk, server.address, columns=columns, rows=rows, **color)
    items = "".join(f" • item number {n}\n" for n in range(60))
    shown = screen[screen.index(f"{PROMPT}hello\n") + len(f"{PROMPT}hello\n") :]
    assert shown.startswith(f"List\n\n{items}\nand done\n1,200 tokens in")
    assert "(1,000cached),34out" in "".join(shown.split())
    assert bool(color) == (re.search(r"\x1b\[[0-9;]*3[0-7]m", raw) is None)


async def test_plain_shows_what_was_written() -> None:
    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for("# Title\n**bold**")
        leave(terminal)

    async with streaming(an_answer("# Title\n**bold**")) as server:
        await talked(talk, server.address, "--plain")


@pytest.mark.slow
async def test_ask_prints_the_answer_and_nothing_else(service: Service) -> None:
    variables = {"PARLEY_ADDRESS": address_of(service), "PARLEY_TOKEN": a_token()}
    first = await run("ask", "**hello**", "--json", **variables)
    conversation_id = json.loads(first.stdout)["conversation_id"]
    for arguments, stdin in ((("and?",), b""), (("-",), b"and?\n"), ((), b"and?")):
        done = await run(
            "ask", "--conversation", conversation_id, *arguments, stdin=stdin, **variables
        )
        assert (0, b"AND?\n", b"") == (done.returncode, done.stdout, done.stderr)
    assert 8 == (await service.history(conversation_id)).last_sequence

    def on_a_terminal() -> str:
        with Terminal("ask", "**hello**", **variables) as terminal:
            assert 0 == terminal.ended()
            return terminal.raw

    assert "**HELLO**\r\n" == await asyncio.to_thread(on_a_terminal)


@pytest.mark.slow
async def test_history_longer_than_the_screen_goes_through_the_pager(
    service: Service, tmp_path: Path
) -> None:
    conversation_id = (await service.chat("\n".join(map(str, range(30))))).conversation_id
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nread first\necho PAGER BEGAN WITH: $first\n")
    pager.chmod(0o755)

    def looked(*arguments: str, rows: int) -> str:
        with Terminal(
            "history",
            conversation_id,
            *arguments,
            rows=rows,
            PARLEY_ADDRESS=address_of(service),
            PARLEY_TOKEN=a_token(),
            PAGER=str(pager),
        ) as terminal:
            assert 0 == terminal.ended()
            return terminal.screen

    assert "PAGER BEGAN WITH: " in (paged := await asyncio.to_thread(looked, rows=20))
    assert "29" not in paged
    for screen in (
        await asyncio.to_thread(looked, rows=200),
        await asyncio.to_thread(looked, "--no-pager", rows=20),
    ):
        assert "PAGER" not in screen
        assert ["#1", "#2"] == re.findall(r"^#\d+", screen, re.MULTILINE)
        assert 2 == len(re.findall(r"^29$|29$", screen, re.MULTILINE))

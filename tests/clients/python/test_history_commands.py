"""`parley append`, `fork`, `usage` and `erase`."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.owner import MAX_LATE
from parley_client.cli.screen import Screen
from parley_client.cli.tables import show_conversations
from support.scripted_server import Code, Refusal, scripted
from support.services import a_token
from support.terminals import Terminal, run

ID = "018f0000-0000-7000-8000-000000000001"
ADDED = pb.AppendMessagesResponse(conversation_id=ID, first_sequence=3, last_sequence=4)
FORKED = pb.ForkConversationResponse(conversation=parts.Conversation(conversation_id=ID))
RUNNING = pb.EraseOwnerResponse(state=pb.ERASURE_STATE_RUNNING)
ERASED = pb.EraseOwnerResponse(
    state=pb.ERASURE_STATE_DONE,
    end_time=Timestamp(seconds=1_790_000_000),
    conversations=2,
    messages=1_001,
    turns=1,
)
USED = pb.GetUsageResponse(
    rows=[
        pb.UsageRow(
            date=f"2026-11-2{day}",
            agent="helper",
            label_value="blue",
            usage=parts.Usage(
                input_tokens=1_000 * day, cached_input_tokens=10, output_tokens=5, model_requests=4
            ),
            turns=3,
            attempts=4,
            failed_attempts=1,
        )
        for day in (7, 8)
    ]
)


async def ran(
    address: str, *arguments: str, exit_code: int = 0, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    done = await run(*arguments, stdin=stdin, PARLEY_ADDRESS=address, PARLEY_TOKEN=a_token())
    assert exit_code == done.returncode, done.stderr.decode()
    return done


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode().replace("│", " ").split())


async def on_a_terminal(
    address: str,
    *arguments: str,
    talk: Callable[[Terminal], None] = lambda terminal: None,
    columns: int = 120,
    **others: str,
) -> tuple[int, str]:
    """Run the command as a person does; return its exit code, and the screen at its end."""

    def sit_down() -> tuple[int, str]:
        variables = {"PARLEY_ADDRESS": address, "PARLEY_TOKEN": a_token(), **others}
        with Terminal(*arguments, columns=columns, **variables) as terminal:
            talk(terminal)
            exit_code = terminal.ended()
            return exit_code, terminal.screen

    return await asyncio.to_thread(sit_down)


# append


async def test_append_adds_messages_in_order() -> None:
    async with scripted(ADDED) as server:
        arguments = ("append", ID, "user=a=b", "assistant=c", "--after", "2", "--create", "--wait")
        done = await ran(server.address, *arguments, "--request-id", "order-7")
    assert f"{ID}\t3\t4\n" == done.stdout.decode()
    assert server.asked[0].request == pb.AppendMessagesRequest(
        conversation_id=ID,
        request_id="order-7",
        messages=[
            parts.Message(role=parts.ROLE_USER, content="a=b"),
            parts.Message(role=parts.ROLE_ASSISTANT, content="c"),
        ],
        allow_missing=True,
        expected_sequence=2,
        on_busy=pb.ON_BUSY_WAIT,
    )


async def test_append_reads_messages_from_a_pipe() -> None:
    lines = b'{"role": "user", "content": "a"}\n{"role": "ROLE_SYSTEM", "content": "b"}\n'
    async with scripted(ADDED) as server:
        await ran(server.address, "append", ID, "--file", "-", stdin=lines)
    messages = server.asked[0].request.messages
    assert [(parts.ROLE_USER, "a"), (parts.ROLE_SYSTEM, "b")] == [
        (message.role, message.content) for message in messages
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give messages as ROLE=TEXT, or a --file"),
        (("user=a", "--file", "-"), "give messages as ROLE=TEXT, or a --file"),
        (("robot=a",), "a message is written ROLE=TEXT"),
        (("user",), "a message is written ROLE=TEXT"),
    ],
    ids=str,
)
async def test_append_says_how_messages_are_written(arguments: tuple[str, ...], why: str) -> None:
    assert why in said(await ran("127.0.0.1:1", "append", ID, *arguments, exit_code=2))


# fork


@pytest.mark.slow
async def test_fork_prints_the_id_of_the_copy() -> None:
    async with scripted(FORKED) as server:
        arguments = ("--up-to", "4", "--id", ID, "--request-id", "order-7")
        done = await ran(server.address, "fork", "c", *arguments)
    assert f"{ID}\n" == done.stdout.decode()
    assert server.asked[0].request == pb.ForkConversationRequest(
        conversation_id="c", up_to_sequence=4, new_conversation_id=ID, request_id="order-7"
    )


# usage


@pytest.mark.slow
async def test_usage_is_a_table_with_sums_for_a_person() -> None:
    async with scripted(USED) as server:
        options = ("--from", "2026-11-27", "--by-agent", "--by-label", "team", "--label", "of=a")
        code, screen = await on_a_terminal(server.address, "usage", *options)
        done = await ran(server.address, "usage", "--by-agent", "--by-label", "team")
        plain = await ran(server.address, "usage", "--json")
    assert server.asked[0].request == pb.GetUsageRequest(
        start_date="2026-11-27", by_agent=True, by_label="team", labels=["of=a"]
    )
    names = "day agent team tokens in cached out requests turns attempts failed"
    assert 0 == code
    assert [
        names.split(),
        ["2026-11-27", "helper", "blue", "7,000", "10", "5", "4", "3", "4", "1"],
        ["2026-11-28", "helper", "blue", "8,000", "10", "5", "4", "3", "4", "1"],
        ["sum", "15,000", "20", "10", "8", "6", "8", "2"],
    ] == [line.split() for line in screen.splitlines() if line.strip()]
    assert (
        "2026-11-27\thelper\tblue\t7000\t10\t5\t4\t3\t4\t1" == done.stdout.decode().split("\n")[0]
    )
    assert ["7000", "8000"] == [
        json.loads(line)["usage"]["input_tokens"] for line in plain.stdout.splitlines()
    ]


# erase


async def test_erase_asks_for_a_word_and_shows_the_receipt() -> None:
    def agree(terminal: Terminal) -> None:
        terminal.wait_for("Type erase to go on:")
        terminal.send("erase\n")

    async with scripted(RUNNING, ERASED) as server:
        code, screen = await on_a_terminal(server.address, "erase", talk=agree)
    assert 0 == code
    assert "Erased 2 conversations, 1,001 messages, 1 turn by 2026-09-21T14:13:20+00:00." in screen
    first, second = (asked.request.request_id for asked in server.asked)
    assert first == second
    assert f"parley erase --yes --request-id {first}" in screen


@pytest.mark.slow
async def test_erase_does_nothing_without_the_word() -> None:
    def hesitate(terminal: Terminal) -> None:
        terminal.wait_for("Type erase to go on:")
        terminal.send("yes\n")

    async with scripted(ERASED) as server:
        code, screen = await on_a_terminal(server.address, "erase", talk=hesitate)
        refused = await ran(server.address, "erase", exit_code=2)
    assert (1, []) == (code, server.asked)
    assert "Not erased." in screen
    assert "use --yes" in said(refused)


async def test_erase_of_another_user_asks_for_the_name() -> None:
    def agree(terminal: Terminal) -> None:
        terminal.wait_for("Type bob to go on:")
        terminal.send("bob\n")

    async with scripted(ERASED) as server:
        code, _ = await on_a_terminal(server.address, "erase", "--for-user", "bob", talk=agree)
    assert 0 == code
    assert "bob" == server.asked[0].metadata["parley-user"]


@pytest.mark.parametrize("is_variable", [False, True], ids=["option", "variable"])
async def test_erase_shows_a_receipt_of_the_same_user_again(is_variable: bool) -> None:
    """Without the name, the command that it shows would erase everything of its caller."""
    options = () if is_variable else ("--for-user", "Bob B.")
    variables = {"PARLEY_FOR_USER": "Bob B."} if is_variable else {}

    def look(terminal: Terminal) -> None:
        terminal.wait_for("This receipt again: ")

    async with scripted(ERASED) as server:
        command = ("erase", "--yes", "--address", server.address, *options)
        _, screen = await on_a_terminal(
            "127.0.0.1:1", *command, talk=look, columns=200, **variables
        )
    key = server.asked[0].request.request_id
    again = f"parley erase --yes --request-id {key} --address {server.address} --for-user 'Bob B.'"
    assert again in screen


@pytest.mark.slow
async def test_erase_in_a_script_prints_the_receipt() -> None:
    slow = Refusal(Code.DEADLINE_EXCEEDED)
    arguments = ("erase", "--yes", "--request-id", "order-7")
    async with scripted(slow, ERASED) as server:
        done = await ran(server.address, *arguments)
        plain = await ran(server.address, *arguments, "--json")
    assert "order-7\t2026-09-21T14:13:20+00:00\t2\t1001\t1\n" == done.stdout.decode()
    assert "1001" == json.loads(plain.stdout)["messages"]


async def test_erase_does_not_wait_for_a_silent_server_for_ever() -> None:
    """And says how to go on: an erasure may have begun."""
    async with scripted(Refusal(Code.DEADLINE_EXCEEDED)) as server:
        done = await ran(server.address, "erase", "--yes", exit_code=6)
    assert MAX_LATE == len(server.asked)
    assert f"--request-id {server.asked[0].request.request_id}" in said(done)


async def test_erase_without_the_scope_says_which_it_is() -> None:
    missing = Refusal(
        Code.PERMISSION_DENIED, "SCOPE_MISSING", "the scope is missing", {"scope": "parley.erase"}
    )
    async with scripted(missing) as server:
        done = await ran(server.address, "erase", "--yes", exit_code=3)
    assert "Get a token that has it." in said(done)


# Lists


class Wide:
    """A terminal of so many columns."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [200, 120, 80, 79, 66, 60, 50, 40, 37, 36, 35, 20])
def test_list_never_cuts_an_id(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Fails at 80 columns if the id shrinks like the others."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    found = parts.Conversation(conversation_id=ID, title="A title " * 20, last_sequence=12_345)
    out: Any = Wide()
    show_conversations(Screen(out), [found, found])
    lines = [line for line in out.text.split("\n") if ID in line]

    assert 2 == len(lines)
    assert columns < len(ID) or all(len(line.rstrip()) <= columns for line in lines)
    assert columns < 54 or "A title" in lines[0]
    assert columns < 80 or "12345" in lines[0]


def test_append_has_a_file_that_is_not_there(tmp_path: Path) -> None:
    async def tried() -> str:
        missing = str(tmp_path / "missing")
        return said(await ran("127.0.0.1:1", "append", ID, "--file", missing, exit_code=1))

    assert "No such file" in asyncio.run(tried())


async def test_nothing_is_cut_on_a_narrow_terminal() -> None:
    """Rich cuts words that are wider than their column, and ids and numbers are such."""
    shown = parts.Conversation(
        conversation_id=ID, title="名" * 40, labels={"key": "v" * 60}, instructions="語" * 60
    )
    async with scripted(pb.GetConversationResponse(conversation=shown)) as server:
        _, screen = await on_a_terminal(server.address, "show", ID, columns=40)
    together = "".join(screen.split())
    for value in (ID, shown.title, "key=" + "v" * 60, shown.instructions):
        assert value in together
    async with scripted(USED) as server:
        _, screen = await on_a_terminal(server.address, "usage", "--by-agent", columns=50)
    assert "…" not in screen

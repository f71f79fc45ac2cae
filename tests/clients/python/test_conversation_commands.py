"""The commands for conversations themselves, from `parley create` to `parley undelete`."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.app import app
from parley_client.cli.conversations import MAX_TRIES
from support.scripted_server import Code, Refusal, scripted
from support.scripted_streams import streaming
from support.services import Service, StartService, a_token, an_id
from support.terminals import PARLEY, Terminal, environment, run

ID = "018f0000-0000-7000-8000-000000000001"
TIME = Timestamp(seconds=1_790_000_000)
ISO = "2026-09-21T14:13:20+00:00"
FOUND = parts.Conversation(
    conversation_id=ID,
    title="A \x1b[2J case",
    labels={"case": "42", "team": ""},
    instructions="Be brief.\nSay \x1b please.",
    create_time=TIME,
    update_time=TIME,
    last_sequence=4,
    revision=3,
)
GOT = pb.GetConversationResponse(conversation=FOUND)
UPDATED = pb.UpdateConversationResponse(conversation=FOUND)
NOT_FOUND = Refusal(Code.NOT_FOUND, "CONVERSATION_NOT_FOUND", "there is none")
MISMATCH = Refusal(Code.ABORTED, "REVISION_MISMATCH", metadata={"revision": "4"})
DELETED = pb.DeleteConversationResponse()
IN_TRASH = pb.DeleteConversationResponse(purge_time=TIME)
CTRL_C, CTRL_D = "\x03", "\x04"


async def ran(address: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as ada; it has to work."""
    done = await run(*arguments, PARLEY_ADDRESS=address, PARLEY_TOKEN=a_token())
    assert (0, b"") == (done.returncode, done.stderr)
    return done


async def on_a_terminal(
    address: str, *arguments: str, talk: Callable[[Terminal], None] = lambda terminal: None
) -> tuple[int, str]:
    """Run the command as a person does; return its exit code, and the screen at its end."""

    def sit_down() -> tuple[int, str]:
        variables = {"PARLEY_ADDRESS": address, "PARLEY_TOKEN": a_token()}
        with Terminal(*arguments, columns=200, **variables) as terminal:
            talk(terminal)
            exit_code = terminal.ended()
            return exit_code, terminal.screen

    return await asyncio.to_thread(sit_down)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what was written to standard error, without frames and line breaks."""
    return " ".join(done.stderr.decode().replace("│", " ").split())


# create


async def test_create_prints_the_id(tmp_path: Path) -> None:
    file = tmp_path / "instructions.txt"
    file.write_text("Be brief.\nSay please: äöü\n")
    async with scripted(pb.CreateConversationResponse(conversation=FOUND)) as server:
        await ran(server.address, "create")
        done = await ran(
            server.address,
            *("create", "--title", "A case", "--label", "case=42", "--label", "url=a=b"),
            *("--instructions-file", str(file), "--id", ID, "--request-id", "order-7"),
        )
        await ran(server.address, "create", "--instructions", "Be brief.\n")
        piped = ("create", "--instructions-file", "-", "--address", server.address)
        await run(*piped, stdin=b"\xef\xbb\xbfBe brief.\n")  # a byte order mark is no part of it
    assert f"{ID}\n" == done.stdout.decode()
    plain, full, short, piped = (asked.request for asked in server.asked)
    assert full == pb.CreateConversationRequest(
        conversation_id=ID,
        request_id="order-7",
        title="A case",
        labels={"case": "42", "url": "a=b"},
        instructions="Be brief.\nSay please: äöü",
    )
    assert plain == pb.CreateConversationRequest(request_id=plain.request_id)
    assert "Be brief.\n" == short.instructions
    assert "Be brief." == piped.instructions
    assert plain.request_id != short.request_id


async def test_instructions_have_to_be_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "instructions.txt"
    file.write_bytes(b"\xff\xfe")
    done = await run("create", "--instructions-file", str(file), PARLEY_ADDRESS="127.0.0.1:1")
    assert 2 == done.returncode
    assert "is not UTF-8" in said(done)


async def test_create_as_json_is_the_contracts_response() -> None:
    created = pb.CreateConversationResponse(conversation=FOUND, replayed=True)
    async with scripted(created) as server:
        done = await ran(server.address, "create", "--json")
    [line] = done.stdout.splitlines()
    told = json.loads(line)
    assert (True, ID, "3") == (
        told["replayed"],
        told["conversation"]["conversation_id"],
        told["conversation"]["revision"],
    )
    assert {"case": "42", "team": ""} == told["conversation"]["labels"]


async def test_create_tells_a_person_how_to_go_on() -> None:
    async with scripted(pb.CreateConversationResponse(conversation=FOUND)) as server:
        exit_code, screen = await on_a_terminal(server.address, "create")
    assert 0 == exit_code
    assert f"{ID}\nContinue with: parley chat --conversation {ID}" in screen


@pytest.mark.slow
async def test_create_that_failed_can_be_repeated() -> None:
    late = Refusal(reason="STORE_UNAVAILABLE", retry_s=60)
    async with scripted(late) as server:
        done = await run("create", "--address", server.address)
    assert 6 == done.returncode
    assert f"--request-id {server.asked[0].request.request_id}" in said(done)


@pytest.mark.slow
async def test_create_under_an_id_that_is_taken_says_what_to_do() -> None:
    taken = Refusal(Code.ALREADY_EXISTS, "CONVERSATION_EXISTS", "the id is taken")
    async with scripted(taken) as server:
        done = await run("create", "--id", ID, "--address", server.address)
    assert (1, b"") == (done.returncode, done.stdout)
    assert "parley: CONVERSATION_EXISTS: the id is taken" in said(done)
    assert "Leave out --id" in said(done)


# show


@pytest.mark.slow
async def test_show_prints_a_line_for_each_value() -> None:
    async with scripted(GOT) as server:
        done = await ran(server.address, "show", ID)
    assert [
        ["conversation", ID],
        ["title", "A ␛[2J case"],
        ["label", "case=42"],
        ["label", "team="],
        ["created", ISO],
        ["last turn", ISO],
        ["messages", "4"],
        ["open turn", ""],
        ["agent", ""],
        ["forked from", ""],
        ["revision", "3"],
        ["instructions", "Be brief. Say ␛ please."],
    ] == [line.split("\t") for line in done.stdout.decode().splitlines()]


@pytest.mark.slow
async def test_show_as_json_is_the_contracts_conversation() -> None:
    async with scripted(GOT) as server:
        done = await ran(server.address, "show", ID, "--json")
    told = json.loads(done.stdout)
    assert (ID, "4", "3") == (told["conversation_id"], told["last_sequence"], told["revision"])
    assert "Be brief.\nSay \x1b please." == told["instructions"]


@pytest.mark.slow
async def test_show_shows_a_person_what_there_is() -> None:
    answered = parts.Conversation()
    answered.CopyFrom(FOUND)
    answered.open_turn_id = "turn-7"
    found = pb.GetConversationResponse(conversation=answered)
    async with scripted(GOT, found) as server:
        _, screen = await on_a_terminal(server.address, "show", ID)
        _, busy = await on_a_terminal(server.address, "show", ID)
    assert "instructions  Be brief.\n              Say ␛ please." in screen
    assert "open turn" not in screen
    assert "open turn     turn-7" in busy


@pytest.mark.slow
async def test_show_of_nothing_ends_with_4() -> None:
    async with scripted(NOT_FOUND) as server:
        done = await run("show", ID, "--address", server.address)
    assert (4, b"") == (done.returncode, done.stdout)
    assert "`parley list` shows the conversations" in said(done)


# rename, label


@pytest.mark.slow
async def test_rename_changes_the_title_and_nothing_else() -> None:
    async with scripted(UPDATED) as server:
        assert b"" == (await ran(server.address, "rename", ID, "New title")).stdout
        await ran(server.address, "rename", ID, "")
        assert (0, "Renamed.") == tuple(
            part.strip() if isinstance(part, str) else part
            for part in await on_a_terminal(server.address, "rename", ID, "x")
        )
    requests = [asked.request for asked in server.asked]
    assert ["New title", "", "x"] == [request.title for request in requests]
    assert [["title"]] * 3 == [list(request.update_mask.paths) for request in requests]


async def test_label_changes_what_is_named_and_keeps_the_rest() -> None:
    async with scripted(GOT, UPDATED) as server:
        await ran(server.address, "label", ID, "team=a", "new=1", "--remove", "gone")
    update = server.asked[1].request
    assert {"case": "42", "team": "a", "new": "1"} == dict(update.labels)
    assert (["labels"], 3) == (list(update.update_mask.paths), update.expected_revision)


async def test_label_removes() -> None:
    bare = pb.UpdateConversationResponse()
    async with scripted(GOT, bare, GOT, UPDATED) as server:
        remove = ("label", ID, "--remove", "case", "--remove", "team")
        assert "No labels." in (await on_a_terminal(server.address, *remove))[1]
        _, screen = await on_a_terminal(server.address, "label", ID, "--remove", "case")
    assert "Labels: case=42, team=" in screen  # what the server has now
    assert [{}, {"team": ""}] == [dict(asked.request.labels) for asked in server.asked[1::2]]
    assert ["labels"] == list(server.asked[1].request.update_mask.paths)


@pytest.mark.slow
async def test_label_that_changes_nothing_asks_for_no_change() -> None:
    async with scripted(GOT) as server:
        await ran(server.address, "label", ID, "case=42", "--remove", "gone")
    assert 1 == len(server.asked)


async def test_label_tries_again_when_somebody_else_was_faster() -> None:
    """Fails when it sends the labels again that it has read first."""
    changed = parts.Conversation(conversation_id=ID, labels={"theirs": "1"}, revision=4)
    steps = (GOT, MISMATCH, pb.GetConversationResponse(conversation=changed), UPDATED)
    async with scripted(*steps) as server:
        await ran(server.address, "label", ID, "ours=1")
    update = server.asked[3].request
    assert ({"theirs": "1", "ours": "1"}, 4) == (dict(update.labels), update.expected_revision)


async def test_label_gives_up_after_a_few_tries() -> None:
    steps = [step for _ in range(MAX_TRIES) for step in (GOT, MISMATCH)]
    async with scripted(*steps) as server:
        done = await run("label", ID, "ours=1", "--address", server.address)
    assert (5, b"") == (done.returncode, done.stdout)
    assert "parley: REVISION_MISMATCH" in said(done)
    assert 2 * MAX_TRIES == len(server.asked)


# delete, undelete


@pytest.mark.slow
async def test_delete_without_a_terminal_refuses_unless_told() -> None:
    async with scripted(IN_TRASH, DELETED) as server:
        refused = await run("delete", ID, "--address", server.address)
        assert [] == server.asked
        done = await ran(server.address, "delete", "--yes", ID, "other")
    assert (2, b"") == (refused.returncode, refused.stdout)
    assert "use --yes to delete without a question" in said(refused)
    assert f"{ID}\t{ISO}\nother\t\n" == done.stdout.decode()
    assert [ID, "other"] == [asked.request.conversation_id for asked in server.asked]
    assert {"DeleteConversationRequest"} == {type(a.request).__name__ for a in server.asked}


@pytest.mark.parametrize("answer", ["y\r", "Yes\r"])
async def test_delete_asks_a_person_and_names_the_title(answer: str) -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for(f'Delete "A ␛[2J case", 4 messages, {ID}? [y/N] ')
        assert 1 == len(server.asked)
        terminal.send(answer)

    async with scripted(GOT, IN_TRASH) as server:
        exit_code, screen = await on_a_terminal(server.address, "delete", ID, talk=talk)
    assert 0 == exit_code
    assert f"Deleted. Until {ISO}, `parley undelete {ID}` brings it back." in screen
    assert ID == server.asked[1].request.conversation_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "exit_code", "shown"),
    [
        ("\r", 0, "Not deleted."),
        ("yellow\r", 0, "Not deleted."),
        (CTRL_D, 0, "Not deleted."),
        (CTRL_C, 130, "interrupted"),
    ],
)
async def test_delete_that_is_not_agreed_to_deletes_nothing(
    key: str, exit_code: int, shown: str
) -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for("[y/N] ")
        terminal.press(key, shown)

    async with scripted(GOT) as server:
        found, screen = await on_a_terminal(server.address, "delete", ID, talk=talk)
    assert exit_code == found
    assert shown in screen.splitlines()[-1]  # not behind the question
    assert 1 == len(server.asked)


async def test_delete_asks_for_each_one() -> None:
    untitled = pb.GetConversationResponse(
        conversation=parts.Conversation(conversation_id="other", last_sequence=1)
    )

    def talk(terminal: Terminal) -> None:
        terminal.wait_for("[y/N] ")
        terminal.send("n\r")
        terminal.wait_for("Delete 1 message, other? [y/N] ")
        terminal.send("y\r")

    async with scripted(GOT, untitled, DELETED) as server:
        _, screen = await on_a_terminal(server.address, "delete", ID, "other", talk=talk)
    assert screen.rstrip().endswith("Deleted.")
    assert "undelete" not in screen
    assert "other" == server.asked[2].request.conversation_id


async def test_delete_goes_on_after_one_that_is_missing() -> None:
    """So that the same line again deletes what it had not reached."""
    async with scripted(DELETED, NOT_FOUND, DELETED) as server:
        done = await run("delete", "--yes", "a", "b", "c", "--address", server.address)
    assert (4, b"a\t\nc\t\n") == (done.returncode, done.stdout)
    assert "parley: CONVERSATION_NOT_FOUND" in said(done)


async def test_delete_ends_at_any_other_error() -> None:
    refusal = Refusal(Code.PERMISSION_DENIED, "SCOPE_MISSING")
    async with scripted(refusal) as server:
        done = await run("delete", "--yes", "a", "b", "--address", server.address)
    assert 3 == done.returncode
    assert 1 == len(server.asked)


@pytest.mark.slow
async def test_undelete_brings_back() -> None:
    async with scripted(pb.UndeleteConversationResponse(conversation=FOUND), NOT_FOUND) as server:
        assert b"" == (await ran(server.address, "undelete", ID)).stdout
        assert 4 == (await run("undelete", ID, "--address", server.address)).returncode
    async with scripted(pb.UndeleteConversationResponse(conversation=FOUND)) as server:
        _, screen = await on_a_terminal(server.address, "undelete", ID)
    assert "Brought back: A ␛[2J case" in screen


# list, watch


async def test_list_asks_for_labels() -> None:
    async with scripted(pb.ListConversationsResponse()) as server:
        await ran(server.address, "list", "--label", "case=42", "--label", "url=a=b")
        await ran(server.address, "list")
    assert [["case=42", "url=a=b"], []] == [list(asked.request.labels) for asked in server.asked]


@pytest.mark.slow
@pytest.mark.parametrize(("as_json", "shown"), [((), b""), (("--json",), b'{"deleted": {}}\n')])
async def test_watch_ends_when_the_conversation_is_deleted(
    as_json: tuple[str, ...], shown: bytes
) -> None:
    deleted = pb.WatchConversationResponse(deleted=pb.WatchDeleted())
    async with streaming([deleted, NOT_FOUND]) as server:
        assert shown == (await ran(server.address, "watch", ID, *as_json)).stdout
        exit_code, screen = await on_a_terminal(server.address, "watch", ID)
    assert 0 == exit_code
    assert "(the conversation was deleted)" in screen


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", "--label", "case"), "a label is written KEY=VALUE, which 'case' is not"),
        (("create", "--label", "a=1", "--label", "a=2"), "the label a is given twice"),
        (("list", "--label", "case"), "a label is written KEY=VALUE"),
        (
            ("create", "--instructions", "x", "--instructions-file", __file__),
            "--instructions excludes --instructions-file",
        ),
        (("create", "--instructions-file", "no/such/file"), "no/such/file"),
        (("show",), "Missing argument"),
        (("rename", ID), "Missing argument"),
        (("rename", ID, "\udcff"), "an argument is not UTF-8"),
        (("label", ID), "give labels to set as KEY=VALUE, or --remove KEY"),
        (("label", ID, "a=1", "--remove", "a"), "the label a is to be set and removed"),
        (("delete", "--yes"), "Missing argument"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(
    arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PARLEY_")]:
        monkeypatch.delenv(name)
    variables = {"PARLEY_ADDRESS": "127.0.0.1:1", "PARLEY_PROFILE": "none", "COLUMNS": "200"}
    done = CliRunner().invoke(app, arguments, env=variables)
    assert isinstance(done.exception, SystemExit)
    assert (2, "") == (done.exit_code, done.stdout)
    assert sentence in done.stderr


@pytest.mark.slow
async def test_a_command_works_with_its_input_closed() -> None:
    """A scheduler may start it like that. Then nobody can be asked."""

    async def ran_closed(*arguments: str) -> int:
        done = await asyncio.to_thread(
            subprocess.run,
            ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *PARLEY, *arguments],
            capture_output=True,
            env=environment(PARLEY_ADDRESS=server.address),
            timeout=60,
            check=False,
        )
        return done.returncode

    async with scripted(DELETED) as server:
        assert 2 == await ran_closed("delete", ID)
        assert [] == server.asked
        assert 0 == await ran_closed("delete", "--yes", ID)


# Against a real server


@pytest.mark.slow
async def test_a_conversation_is_managed_from_a_terminal(start_service: StartService) -> None:
    service = await start_service(trash_days=1)
    address = f"127.0.0.1:{service.port}"

    async def told(*arguments: str) -> Any:
        return json.loads((await ran(address, *arguments, "--json")).stdout)

    line = ("create", "--title", "A case", "--label", "case=42", "--instructions", "Be brief.")
    conversation_id = (await ran(address, *line)).stdout.decode().strip()
    await ran(address, "chat", "hello", "--conversation", conversation_id)
    await ran(address, "rename", conversation_id, "Another case")
    await ran(address, "label", conversation_id, "team=a", "--remove", "case")
    found = await told("show", conversation_id)
    assert ("Another case", {"team": "a"}, "Be brief.", "2", "3") == (
        found["title"],
        found["labels"],
        found["instructions"],
        found["last_sequence"],
        found["revision"],
    )
    assert conversation_id == (await told("list", "--label", "team=a"))["conversation_id"]
    assert b"" == (await ran(address, "list", "--label", "case=42")).stdout

    deleted = (await ran(address, "delete", "--yes", conversation_id)).stdout.decode()
    assert conversation_id == deleted.split("\t")[0]
    assert deleted.strip().split("\t")[1] > ISO
    assert b"" == (await ran(address, "list")).stdout
    await ran(address, "undelete", conversation_id)
    assert "Another case" == (await told("show", conversation_id))["title"]


@pytest.mark.slow
async def test_what_the_server_does_not_have_ends_with_4(service: Service) -> None:
    variables = {"PARLEY_ADDRESS": f"127.0.0.1:{service.port}", "PARLEY_TOKEN": a_token()}
    for arguments in (("show",), ("rename", "x"), ("label", "a=1"), ("delete", "--yes")):
        name, *more = arguments
        done = await run(name, an_id(), *more, **variables)
        assert (4, b"") == (done.returncode, done.stdout), done.stderr

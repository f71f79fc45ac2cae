"""`parley start` and `parley feed`: turns without a caller, and what tells that they have ended."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import error_reason_pb2 as reasons
from parley_client.cli.cursors import CursorFile
from support.agents import ScriptedAgent, Speaker
from support.scripted_server import Code, Refusal, scripted
from support.scripted_streams import streaming
from support.services import Service, StartService, a_token
from support.terminals import PARLEY, Terminal, environment, run

CONVERSATION = "018f0000-0000-7000-8000-000000000001"
TURN = "018f0000-0000-7000-8000-000000000002"
CTRL_C = "\x03"
STARTED = pb.StartTurnResponse(
    turn=parts.Turn(
        conversation_id=CONVERSATION, turn_id=TURN, state=parts.TURN_STATE_QUEUED, request_id="r"
    )
)
STOP = Refusal(Code.PERMISSION_DENIED, "SCOPE_MISSING", metadata={"scope": "parley.observe"})
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)


def an_end(cursor: str, **fields: Any) -> pb.WatchTurnsResponse:
    turn = parts.Turn(
        conversation_id=CONVERSATION,
        turn_id=TURN,
        attempt=1,
        end_time=Timestamp(seconds=1_790_000_000),
        state=parts.TURN_STATE_COMPLETED,
    )
    turn.MergeFrom(parts.Turn(**fields))
    return pb.WatchTurnsResponse(turn=turn, cursor=cursor)


COMPLETED = an_end("1")
FAILED = an_end(
    "2",
    state=parts.TURN_STATE_FAILED,
    attempt=2,
    error_reason=reasons.ERROR_REASON_AGENT_REFUSED,
    error_text="the provider\nrefused",
)
PROGRESS = pb.WatchTurnsResponse(progress=pb.WatchTurnsProgress(), cursor="3")


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


async def ran(
    address: str, *arguments: str, exit_code: int = 0, stdin: bytes = b"", **claims: Any
) -> subprocess.CompletedProcess[bytes]:
    token = a_token("ada", **claims)
    done = await run(*arguments, stdin=stdin, PARLEY_ADDRESS=address, PARLEY_TOKEN=token)
    assert exit_code == done.returncode, done.stderr.decode()
    return done


async def on_a_terminal(
    look: Callable[[Terminal], Any], address: str, *arguments: str, columns: int = 120
) -> Any:
    """Run the command as a person does, who looks."""

    def sit_down() -> Any:
        variables = {"PARLEY_ADDRESS": address, "PARLEY_TOKEN": a_token()}
        with Terminal(*arguments, columns=columns, **variables) as terminal:
            return look(terminal)

    return await asyncio.to_thread(sit_down)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode().replace("│", " ").split())


# parley start


async def test_start_prints_the_ids_and_the_turn_runs(service: Service) -> None:
    done = await ran(address_of(service), "start", "hello", "--request-id", "order-7")
    conversation_id, turn_id, state = done.stdout.decode().rstrip("\n").split("\t")
    turn = await service.turn(request_id="order-7")
    assert (conversation_id, turn_id) == (turn.conversation_id, turn.turn_id)
    await service.until_turn(turn, "COMPLETED")
    again = await ran(address_of(service), "start", "hello", "--request-id", "order-7")

    assert ("queued", b"") == (state, done.stderr)
    assert f"{conversation_id}\t{turn_id}\tcompleted\n" == again.stdout.decode()


async def test_start_sends_what_it_is_given() -> None:
    async with scripted(STARTED) as server:
        options = ("--agent", "helper", "--request-id", "r", "--after", "0", "--create")
        arguments = ("start", "-", "-c", CONVERSATION, *options, "--json")
        done = await ran(server.address, *arguments, stdin=b"hello\n")
    assert server.asked[0].request.chat == pb.ChatRequest(
        conversation_id=CONVERSATION,
        message="hello",
        request_id="r",
        agent="helper",
        allow_missing=True,
        expected_sequence=0,
    )
    printed = json.loads(done.stdout)
    assert ("TURN_STATE_QUEUED", False) == (printed["turn"]["state"], printed["replayed"])


@pytest.mark.slow
async def test_start_with_labels_makes_one_conversation_for_one_request_id(
    service: Service,
) -> None:
    arguments = ("start", "hello", "--label", "team=blue", "--request-id", "order-7")
    first, again = [await ran(address_of(service), *arguments) for _ in range(2)]
    listed = (await service.conversations(labels=["team=blue"])).conversations
    assert [first.stdout.split()[0].decode()] == [each.conversation_id for each in listed]
    assert first.stdout.split()[:2] == again.stdout.split()[:2]


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
async def test_start_waits_for_the_answer_if_asked_to(service: Service, as_json: bool) -> None:
    options = ("--json",) if as_json else ()
    done = await ran(address_of(service), "start", "hello", "--wait", *options)
    told = json.loads(done.stdout)["response"] if as_json else done.stdout.decode()
    assert ("HELLO" if as_json else "HELLO\n", b"") == (told, done.stderr)
    assert 2 == (await service.conversations()).conversations[0].last_sequence


async def test_ctrl_c_ends_the_wait_and_not_the_turn(start_service: StartService) -> None:
    """Fails when Ctrl-C cancels the turn, as it does in `parley chat`."""
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    speaker.say("half ")

    def leave(terminal: Terminal) -> None:
        terminal.wait_for("half")
        terminal.press(CTRL_C, "the turn goes on")
        assert 130 == terminal.ended()

    await on_a_terminal(leave, address_of(service), "start", "hello", "--wait")
    [conversation] = (await service.conversations()).conversations
    speaker.say("whole", None)
    turn = parts.Turn(
        conversation_id=conversation.conversation_id, turn_id=conversation.open_turn_id
    )
    await service.until_turn(turn, "COMPLETED")
    history = await service.history(conversation.conversation_id)
    assert "half whole" == history.messages[1].content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--label", "a=b", "-c", CONVERSATION), "--label needs a new conversation"),
        (("--create",), "--create needs --conversation"),
        (("--label", "team"), "a label is written KEY=VALUE"),
        (("--after", "-1"), "--after"),
    ],
    ids=str,
)
async def test_start_says_what_does_not_go_together(arguments: tuple[str, ...], why: str) -> None:
    assert why in said(await ran("127.0.0.1:1", "start", "hello", *arguments, exit_code=2))


async def test_start_that_is_refused_for_now_says_how_to_repeat_it() -> None:
    full = Refusal(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_s=1)
    async with scripted(full) as server:
        done = await ran(server.address, "start", "hello", exit_code=6)
    key = server.asked[0].request.chat.request_id
    assert "Try again in 1 s." in said(done)
    assert f"--request-id {key}" in said(done)


async def test_start_on_a_terminal_names_the_ids() -> None:
    def look(terminal: Terminal) -> str:
        assert 0 == terminal.ended()
        return terminal.screen

    async with scripted(STARTED) as server:
        screen = await on_a_terminal(look, server.address, "start", "hello")
    lines = [" ".join(line.split()) for line in screen.splitlines()]
    assert [f"conversation {CONVERSATION}", f"turn {TURN}", "It is queued."] == lines[:3]
    assert lines[3].startswith("Continue with: ")


# parley feed


async def test_feed_prints_a_line_for_each_turn() -> None:
    async with streaming([COMPLETED, FAILED, PROGRESS]) as server:
        done = await ran(server.address, "feed", "--once")
    when = "2026-09-21T14:13:20+00:00"
    assert [
        [when, "completed", CONVERSATION, TURN, "1", ""],
        [when, "failed", CONVERSATION, TURN, "2", "AGENT_REFUSED"],
    ] == [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert b"" == done.stderr


async def test_feed_sends_what_it_is_given_and_says_whose_turns_they_are(service: Service) -> None:
    async with streaming(STOP) as server:
        options = ("--after", "7", "--label", "a=b", "--label", "c=d", "--all-owners")
        done = await ran(server.address, "feed", *options, "--only-new", exit_code=3)
    assert "Get a token that has it." in said(done)
    assert server.asked[0].request == pb.WatchTurnsRequest(
        after_cursor="7", labels=["a=b", "c=d"], all_owners=True
    )

    for user in ("bob", "cid"):
        await service.chat(user=user)
    arguments = ("feed", "--all-owners", "--once")
    done = await ran(address_of(service), *arguments, scope="parley.observe")
    assert ["bob", "cid"] == [line.split("\t")[6] for line in done.stdout.decode().splitlines()]


async def test_feed_as_json_is_the_contracts_updates() -> None:
    async with streaming([COMPLETED, DRAINED], [PROGRESS]) as server:
        done = await ran(server.address, "feed", "--json", "--once", "--only-new")
    first, last = (json.loads(line) for line in done.stdout.splitlines())
    assert ("1", "TURN_STATE_COMPLETED", "") == (
        first["cursor"],
        first["turn"]["state"],
        first["user"],
    )
    assert ({}, "3") == (last["progress"], last["cursor"])
    assert [(True, ""), (True, "1")] == [
        (asked.request.only_new, asked.request.after_cursor) for asked in server.asked
    ]


async def test_feed_on_a_terminal_is_for_people() -> None:
    started = asyncio.Event()

    async def later(_request: Any) -> pb.WatchTurnsResponse:
        await started.wait()
        return an_end("4", state=parts.TURN_STATE_CANCELLED)

    loop = asyncio.get_running_loop()

    def look(terminal: Terminal) -> None:
        ids = f"conversation {CONVERSATION} · turn {TURN}"
        terminal.wait_for(f"completed · 2026-09-21 · {ids}\n")
        terminal.wait_for(f"failed · 2026-09-21 · {ids} · attempt 2\n  the provider refused\n")
        terminal.wait_for("(worker drained: reconnecting)")
        terminal.wait_for("(up to date; Ctrl-C ends)")
        loop.call_soon_threadsafe(started.set)
        terminal.wait_for("cancelled · ")
        terminal.send(CTRL_C)
        assert 130 == terminal.ended()
        assert "interrupted" not in terminal.screen

    async with streaming([COMPLETED, FAILED, DRAINED], [PROGRESS, later, later]) as server:
        await on_a_terminal(look, server.address, "feed", columns=160)


@pytest.mark.slow
async def test_feed_goes_on_behind_the_cursor_in_its_file(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    arguments = ("feed", "--once", "--cursor-file", str(file))
    printed = []
    for n in range(3):
        turn_id = (await service.chat(f"m{n}")).turn_id
        done = await ran(address_of(service), *arguments)
        printed.append([line.split("\t")[3] for line in done.stdout.decode().splitlines()])
        assert [turn_id] == printed[-1]
    assert b"" == (await ran(address_of(service), *arguments)).stdout
    assert ["cursor"] == os.listdir(tmp_path)


@pytest.mark.slow
async def test_feed_of_new_turns_begins_at_once_and_then_misses_none(
    service: Service, tmp_path: Path
) -> None:
    """Fails when --only-new goes before the cursor that is stored."""
    arguments = ("feed", "--once", "--only-new", "--cursor-file", str(tmp_path / "cursor"))
    await service.chat("before")
    await ran(address_of(service), "feed", "--once")  # what has ended is told by now
    assert b"" == (await ran(address_of(service), *arguments)).stdout
    turn_id = (await service.chat("new")).turn_id
    done = await ran(address_of(service), *arguments)
    assert [turn_id] == [line.split("\t")[3] for line in done.stdout.decode().splitlines()]


@pytest.mark.slow
async def test_feed_that_is_killed_loses_no_turn(service: Service, tmp_path: Path) -> None:
    """Fails when cursors are stored now and then only, or at the end.

    Each time, at most the last turn is printed again.
    """
    file, out = tmp_path / "cursor", tmp_path / "out"
    expected: list[str] = []
    variables = environment(PARLEY_ADDRESS=address_of(service), PARLEY_TOKEN=a_token())
    kills = 0

    def printed() -> list[str]:
        return [line.split("\t")[3] for line in out.read_text().splitlines() if line.count("\t")]

    def follow_until(turn_id: str) -> None:
        """Follow until a turn is printed, and kill the command then."""
        give_up_at = time.monotonic() + 60
        with out.open("ab") as output:
            following = subprocess.Popen(
                [*PARLEY, "feed", "--cursor-file", str(file)], stdout=output, env=variables
            )
        try:
            while turn_id not in printed():
                assert following.poll() is None
                assert time.monotonic() < give_up_at
                time.sleep(0.001)
        finally:
            following.send_signal(signal.SIGKILL)
            following.wait()

    out.touch()
    for _ in range(4):
        expected += [(await service.chat()).turn_id for _ in range(3)]
        await asyncio.to_thread(follow_until, expected[-3])  # and perhaps some more
        kills += 1
    await asyncio.to_thread(follow_until, expected[-1])

    found = printed()
    assert expected == list(dict.fromkeys(found))
    assert len(found) <= len(expected) + kills


async def test_feed_stores_no_cursor_of_a_turn_that_it_could_not_print(tmp_path: Path) -> None:
    """Fails when a cursor is stored before its turn is printed."""
    file = tmp_path / "cursor"

    def follow(address: str) -> int:
        with Path("/dev/full").open("w") as full:
            return subprocess.run(
                [*PARLEY, "feed", "--cursor-file", str(file), "--address", address],
                stdout=full,
                stderr=subprocess.DEVNULL,
                env=environment(),
                timeout=60,
                check=False,
            ).returncode

    async with streaming([COMPLETED, PROGRESS]) as server:
        assert await asyncio.to_thread(follow, server.address)
    assert CursorFile(file).read() is None


async def test_feed_with_an_expired_cursor_says_what_may_be_missing() -> None:
    metadata = {"oldest_time": "2026-11-28T04:05:06.789000+00:00"}
    expired = Refusal(Code.FAILED_PRECONDITION, "CURSOR_EXPIRED", metadata=metadata)
    async with streaming(expired) as server:
        done = await ran(server.address, "feed", "--after", "x", exit_code=1)
    assert "The oldest turn that is kept ended at 2026-11-28T04:05:06+00:00." in said(done)
    assert "leave out --after, or remove the cursor file" in said(done)


async def test_feed_has_one_cursor(tmp_path: Path) -> None:
    both = ("--after", "x", "--cursor-file", str(tmp_path / "cursor"))
    assert "--after excludes" in said(await ran("127.0.0.1:1", "feed", *both, exit_code=2))
    nowhere = await ran("127.0.0.1:1", "feed", "--cursor-file", "-", exit_code=2)
    assert "--cursor-file needs a file" in said(nowhere)
    missing = ("--cursor-file", str(tmp_path / "no" / "cursor"), "--once")
    async with streaming([PROGRESS]) as server:
        assert "No such file" in said(await ran(server.address, "feed", *missing, exit_code=1))


def test_cursor_file_is_whole_or_not_there(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "cursor")
    assert file.read() is None
    file.write("one")
    before = os.open(tmp_path / "cursor", os.O_RDONLY)
    file.write("two")
    assert ("two", b"one\n") == (file.read(), os.read(before, 100))  # no file is written over
    os.close(before)
    (tmp_path / "cursor").write_text("")
    assert "" == file.read()

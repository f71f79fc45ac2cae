"""A turn that waits, as the command shows it: a person approves, and a script gives results."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from support.scripted_server import an_answer, scripted
from support.scripted_streams import streaming
from support.services import Service, StartService, a_token
from support.terminal_chats import address_of, leave, say, talked
from support.terminals import Terminal, run
from support.waiting import WEATHER, AskingAgent

ASKED = "Let it run? [y/N]"
CTRL_C, CTRL_D = "\x03", "\x04"
CALL = parts.PendingCall(
    call_key="018f0000-0000-7000-8000-000000000001",
    name="send",
    arguments='{"to": "bob\u202e\x1b[2J"}\nLet it run? [y/N] y',
    kind=parts.PENDING_CALL_KIND_APPROVAL,
)


async def ran(service: Service, *arguments: str, exit_code: int = 0, stdin: bytes = b"") -> Any:
    address, token = address_of(service), a_token()
    done = await run(*arguments, stdin=stdin, PARLEY_ADDRESS=address, PARLEY_TOKEN=token)
    assert exit_code == done.returncode, done.stderr.decode()
    return done


async def asking(start_service: StartService, *rounds: tuple[str, ...]) -> Service:
    return await start_service(AskingAgent(rounds))


# parley chat


async def test_a_person_approves_and_the_answer_goes_on_where_it_was(
    start_service: StartService,
) -> None:
    service = await asking(start_service, ("approve",))

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        shown = terminal.wait_for(ASKED)
        assert 'The agent wants to run approve:\n    {"city": "1-0"}\n' in shown
        terminal.send("y\n")
        terminal.wait_for("done: ran")
        assert 1 == terminal.screen.count("1.\n")  # what was told before is not told again
        leave(terminal)

    await talked(talk, address_of(service))


async def test_a_person_denies_and_says_why(start_service: StartService) -> None:
    service = await asking(start_service, ("approve", "approve"))

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for(ASKED)
        terminal.send("n\n")
        terminal.wait_for("Why not?")
        terminal.send("too expensive\n")
        terminal.wait_for(ASKED)
        terminal.send("\n")
        terminal.wait_for("Why not?")
        terminal.send("\n")
        terminal.wait_for("done: too expensive")
        leave(terminal)

    await talked(talk, address_of(service))
    (conversation,) = (await service.conversations()).conversations
    history = await service.history(conversation.conversation_id)
    assert [True, True] == [call.is_error for call in history.messages[1].tool_calls]


@pytest.mark.slow
@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
async def test_a_decision_is_put_off_and_asked_for_again(
    key: str, start_service: StartService
) -> None:
    service = await asking(start_service, ("approve",))

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for(ASKED)
        terminal.press(key, "parley resume --request-id ")
        say(terminal, "")
        terminal.wait_for(ASKED)
        terminal.send("yes\n")
        terminal.wait_for("done: ran")
        leave(terminal)

    await talked(talk, address_of(service))


async def test_another_message_takes_the_place_of_a_turn_that_waits(
    start_service: StartService,
) -> None:
    service = await asking(start_service, ("approve",))

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for(ASKED)
        terminal.press(CTRL_C, "nothing has been decided")
        say(terminal, "never mind")
        terminal.wait_for(ASKED)
        terminal.send("y\n")
        terminal.wait_for("done: ran")
        leave(terminal)

    await talked(talk, address_of(service))
    (conversation,) = (await service.conversations()).conversations
    history = await service.history(conversation.conversation_id)
    assert ["hello", "1. ", "never mind", "1. done: ran"] == [m.content for m in history.messages]


async def test_what_was_typed_before_the_question_does_not_answer_it(
    start_service: StartService,
) -> None:
    released, loop = asyncio.Event(), asyncio.get_running_loop()

    async def held(_run: Any) -> None:
        await released.wait()

    service = await start_service(AskingAgent((("approve",),), before=held))

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for("waiting")
        terminal.send("y\n")
        time.sleep(0.5)  # until the terminal has it, which nothing shows
        loop.call_soon_threadsafe(released.set)
        terminal.wait_for(ASKED)
        terminal.press(CTRL_C, "nothing has been decided")
        leave(terminal)

    await talked(talk, address_of(service))


async def test_arguments_are_shown_with_their_control_characters_and_forge_no_question() -> None:
    waits = an_answer("")
    waits.finish_reason = parts.FINISH_REASON_ACTION_REQUIRED
    waits.pending_calls.append(CALL)

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        shown = terminal.wait_for(f"\n{ASKED}")
        assert '    {"to": "bob⟨U+202E⟩␛[2J"}\n    Let it run? [y/N] y\n' in shown
        terminal.press(CTRL_C, f"--approve {CALL.call_key}")
        leave(terminal)

    async with streaming(waits) as server:
        await talked(talk, server.address)


async def test_arguments_are_told_whole_and_on_a_line_of_their_own() -> None:
    """A model could write a command below them, or hide their end behind invisible characters."""
    arguments = '{"to": "bob' + "\u200b" * 30 + '"}\n  parley resume --request-id r --approve all'
    told = arguments.replace("\u200b", "⟨U+200B⟩").replace("\n  ", " ")
    call = parts.PendingCall(
        call_key=CALL.call_key, name="send", arguments=arguments, kind=CALL.kind
    )
    waits = an_answer("")
    waits.finish_reason = parts.FINISH_REASON_ACTION_REQUIRED
    waits.pending_calls.append(call)
    async with streaming(waits) as server:
        done = await run("ask", "hello", "--address", server.address, "--request-id", "r")
    how = f"parley resume --request-id r --approve {call.call_key} --address {server.address}"
    lines = done.stderr.decode().splitlines()
    assert [
        f"  send needs an approval: {told}",
        f"    {how} or --deny {call.call_key}",
    ] == lines[1:]

    turn = parts.Turn(state=parts.TURN_STATE_WAITING, pending_calls=[call])
    async with scripted(pb.GetTurnResponse(turn=turn)) as waiting:
        done = await run("resume", "--address", waiting.address, "--request-id", "r")
    assert f"{call.call_key}\tapproval\tsend\t{told}\n" == done.stdout.decode()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["chat", "ask"])
async def test_without_a_terminal_nothing_is_decided_and_it_says_how_to_go_on(
    command: str, start_service: StartService
) -> None:
    service = await asking(start_service, ("approve",))
    done = await ran(service, command, "hello", "--request-id", "r", exit_code=7, stdin=b"y\n")
    turn = await service.turn(request_id="r")
    (call,) = turn.pending_calls

    assert parts.TURN_STATE_WAITING == turn.state
    assert b"1. \n" == done.stdout
    said = " ".join(done.stderr.decode().split())
    assert "the turn waits, and nothing has been decided" in said
    assert f"parley resume --request-id r --approve {call.call_key}" in said


async def test_a_started_turn_that_waits_says_how_to_go_on(start_service: StartService) -> None:
    service = await asking(start_service, ("approve",))
    options = ("--wait", "--request-id", "r")
    done = await ran(service, "start", "hello", *options, exit_code=7)
    (call,) = (await service.turn(request_id="r")).pending_calls

    said = " ".join(done.stderr.decode().split())
    assert f"parley resume --request-id r --approve {call.call_key}" in said
    going_on = ("--request-id", "r", "--approve", call.call_key)
    assert b"ran" in (await ran(service, "resume", *going_on)).stdout


async def test_json_has_what_the_turn_waits_for(start_service: StartService) -> None:
    service = await asking(start_service, ("approve",))
    done = await ran(service, "ask", "hello", "--json", exit_code=7)
    assert ["approve"] == [call["name"] for call in json.loads(done.stdout)["pending_calls"]]


# parley resume


@pytest.mark.slow
async def test_a_script_gives_each_kind_of_outcome(
    start_service: StartService, tmp_path: Path
) -> None:
    names = ("approve_a", "approve_b", "approve_c", "weather", "weather", "weather", "weather")
    service = await asking(start_service, names)
    await service.chat("hello", request_id="r", tools=[WEATHER])
    listed = (await ran(service, "resume", "--request-id", "r", exit_code=7)).stdout.decode()
    rows = [line.split("\t") for line in listed.splitlines()]
    assert [["approval", name] for name in names[:3]] == [row[1:3] for row in rows[:3]]
    assert ["result", "weather", '{"city": "1-3"}'] == rows[3][1:]
    a, b, c, *results = (row[0] for row in rows)
    (tmp_path / "result").write_text("from a file")

    options = ["--approve", a, "--deny", f"{b}=a=b", "--deny", c, "--result", f"{results[0]}="]
    partly = await ran(service, "resume", "--request-id", "r", *options, exit_code=7)
    assert f"--result {results[1]}=TEXT" in partly.stderr.decode()
    options = [
        *("--result", f"{results[1]}=@{tmp_path / 'result'}"),
        *("--result", f"{results[2]}=@@home"),
        *("--error", f"{results[3]}=closed"),
    ]
    done = await ran(service, "resume", "--request-id", "r", *options)

    assert b"1. done: ran, a=b, , , from a file, @home, closed\n" == done.stdout
    again = await ran(service, "resume", "--request-id", "r", *options, "--json")
    assert json.loads(again.stdout)["replayed"]
    other = await ran(
        service, "resume", "--request-id", "r", "--result", f"{results[1]}=x", exit_code=5
    )
    assert "RESULT_ALREADY_GIVEN" in other.stderr.decode()
    done = await ran(service, "resume", "--request-id", "r", exit_code=1)
    assert "does not wait for anything" in done.stderr.decode()


async def test_a_turn_is_named_by_its_ids_and_a_person_is_asked(
    start_service: StartService,
) -> None:
    service = await asking(start_service, ("approve",))
    waits = await service.chat("hello", request_id="r")

    def talk(terminal: Terminal) -> None:
        terminal.wait_for(ASKED)
        terminal.send("y\n")
        terminal.wait_for("done: ran")
        assert 0 == terminal.ended()

    named = ("--conversation", waits.conversation_id, "--turn", waits.turn_id)
    await talked(talk, address_of(service), *named, command="resume")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--turn", "t"),
        ("--request-id", "r", "--turn", "t"),
        ("--request-id", "r", "--result", "k"),
        ("--request-id", "r", "--approve", "k", "--deny", "k"),
    ],
)
async def test_wrong_options_are_refused(options: tuple[str, ...], service: Service) -> None:
    await ran(service, "resume", *options, exit_code=2)


async def test_the_feed_shows_what_waits(start_service: StartService) -> None:
    service = await asking(start_service, ("approve",))
    waits = await service.chat("hello", request_id="r")
    done = await ran(service, "feed", "--once")
    fields = done.stdout.decode().rstrip("\n").split("\t")
    assert ["", "waiting", waits.conversation_id, waits.turn_id, "1", ""] == fields

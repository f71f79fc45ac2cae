"""What `parley chat` and `parley watch` show of an answer while it comes."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import ToolCall
from support.agents import ScriptedAgent, Speaker
from support.cut_connections import Wire
from support.scripted_server import Refusal, an_answer, never
from support.scripted_streams import chunk, completed, started, streaming
from support.services import Service, StartService, a_token
from support.terminals import PARLEY, ROOT, Terminal, environment, run

PROMPT = "> "
CTRL_C, CTRL_D = "\x03", "\x04"
CALL = ToolCall("c1", "weather", '{"city": "Ulm"}', "12 °C", False, 1)
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)
VOID = "the agent started over: its text so far is void"


class Spoken:
    """A worker whose agent says what a terminal's thread tells it to."""

    def __init__(self, speaker: Speaker, service: Service, agent: ScriptedAgent) -> None:
        self._speaker = speaker
        self._loop = asyncio.get_running_loop()
        self.service = service
        self.agent = agent

    def say(self, *lines: str | ToolCall | Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._speaker.say, *lines)


@pytest.fixture
async def spoken(start_service: StartService) -> Spoken:
    speaker = Speaker()
    agent = ScriptedAgent(speaker)
    return Spoken(speaker, await start_service(agent), agent)


async def talked(
    talk: Callable[[Terminal], Any], address: str, *arguments: str, **variables: str
) -> Any:
    """Let a person talk on a terminal."""

    def sit_down() -> Any:
        variables.setdefault("PARLEY_TOKEN", a_token())
        with Terminal(*arguments, PARLEY_ADDRESS=address, **variables) as terminal:
            return talk(terminal)

    return await asyncio.to_thread(sit_down)


async def only_conversation(service: Service) -> str:
    (conversation,) = (await service.conversations()).conversations
    return conversation.conversation_id


async def test_text_and_tool_calls_are_shown_as_they_come(spoken: Spoken) -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for(PROMPT)
        terminal.send("weather?\n")
        spoken.say("Let me ")
        terminal.wait_for("Let me")
        spoken.say("see.", CALL)
        assert terminal.wait_for("12 °C").endswith('see.\n  → weather({"city": "Ulm"}): 12 °C')
        spoken.say("Twelve ", None)
        terminal.wait_for("Twelve\n")
        terminal.wait_for(PROMPT)
        terminal.send(CTRL_D)
        assert 0 == terminal.ended()

    await talked(talk, f"127.0.0.1:{spoken.service.port}", "chat")


async def test_ctrl_c_cancels_the_turn_and_keeps_the_text(spoken: Spoken) -> None:
    """Fails when Ctrl-C only ends the call: the turn has no answer then."""

    def talk(terminal: Terminal) -> None:
        terminal.wait_for(PROMPT)
        terminal.send("hello\n")
        spoken.say("so far ")
        terminal.wait_for("so far")
        terminal.send(CTRL_C)
        terminal.wait_for("(ended: cancelled)")
        terminal.wait_for(PROMPT)
        terminal.send("more\n")
        spoken.say("and on", None)
        terminal.wait_for("and on\n")
        terminal.wait_for(PROMPT)
        terminal.send(CTRL_D)
        assert 0 == terminal.ended()

    await talked(talk, f"127.0.0.1:{spoken.service.port}", "chat")
    history = await spoken.service.history(await only_conversation(spoken.service))
    assert ["hello", "so far ", "more", "and on"] == [m.content for m in history.messages]
    assert parts.FINISH_REASON_CANCELLED == history.messages[1].finish_reason


async def test_ctrl_c_in_one_shot_keeps_the_text_and_ends_with_130(spoken: Spoken) -> None:
    def talk(terminal: Terminal) -> int:
        spoken.say("so far ")
        terminal.wait_for("so far")
        terminal.send(CTRL_C)
        return terminal.ended()

    address = f"127.0.0.1:{spoken.service.port}"
    assert 130 == await talked(talk, address, "chat", "hello", "--request-id", "r")
    turn = await spoken.service.turn(request_id="r")
    assert parts.TURN_STATE_CANCELLED == turn.state


async def test_a_second_ctrl_c_does_not_wait() -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for(PROMPT)
        terminal.send("hello\n")
        terminal.wait_for("so far")
        terminal.send(CTRL_C)
        asked = asyncio.run_coroutine_threadsafe(two_calls(), loop)
        asked.result(20)
        terminal.send(CTRL_C)
        terminal.wait_for("Stopped waiting.")
        terminal.wait_for(PROMPT)
        terminal.send(CTRL_D)
        assert 0 == terminal.ended()

    async def two_calls() -> None:
        while len(server.asked) < 2:
            await asyncio.sleep(0.01)

    loop = asyncio.get_running_loop()
    async with streaming([started(), chunk("so far", 0), never], never) as server:
        await talked(talk, server.address, "chat")
    stream, cancel = (asked.request for asked in server.asked)
    assert stream.chat.request_id == cancel.request_id


async def test_a_lost_connection_is_noticed_and_the_text_goes_on(spoken: Spoken) -> None:
    async with Wire(spoken.service.port).running() as wire:
        loop = asyncio.get_running_loop()

        def talk(terminal: Terminal) -> None:
            terminal.wait_for(PROMPT)
            terminal.send("hello\n")
            spoken.say("before ")
            terminal.wait_for("before")
            loop.call_soon_threadsafe(wire.cut)
            terminal.wait_for("\n(connection lost: reconnecting)\n")
            spoken.say("after", None)
            assert "after\n" == terminal.wait_for("after\n")
            terminal.wait_for(PROMPT)
            assert VOID not in terminal.screen
            terminal.send(CTRL_D)
            assert 0 == terminal.ended()

        await talked(talk, wire.address, "chat")
    assert 1 == len(spoken.agent.runs)


async def test_a_new_attempt_says_so_and_begins_anew() -> None:
    lost = [started(), chunk("first", 0), DRAINED]
    anew = [started(2), chunk("second ", 0, 2), completed(an_answer("second try"), 2)]

    def talk(terminal: Terminal) -> None:
        assert 0 == terminal.ended()
        assert f"first\n(worker drained: reconnecting)\n({VOID})\nsecond try\n" in shown(
            terminal.screen
        )

    async with streaming(lost, anew) as server:
        await talked(talk, server.address, "chat", "hello")


def shown(screen: str) -> str:
    """Return the screen without the line that says that an answer is awaited."""
    return re.sub(r"\r?[⠀-⣿] waiting [\d:]+\r?", "", screen)


async def test_nothing_raw_reaches_the_terminal_however_it_is_cut() -> None:
    evil = "\x1b[2J\x1b]0;mine\x07 one\r\ntwo\rthree"
    pieces = [chunk(character, n) for n, character in enumerate(evil)]

    def talk(terminal: Terminal) -> tuple[str, str]:
        assert 0 == terminal.ended()
        return terminal.screen, terminal.raw

    async with streaming([started(), *pieces, completed(an_answer(evil), 1)]) as server:
        screen, raw = await talked(talk, server.address, "chat", "hello")
    assert "␛[2J␛]0;mine␇ one\ntwo␍three\n" in screen
    assert "\x1b[2J" not in raw
    assert "\x1b]0;" not in raw


async def test_a_pipe_gets_the_text_as_it_comes(spoken: Spoken) -> None:
    def read() -> tuple[bytes, bytes, int]:
        address = f"127.0.0.1:{spoken.service.port}"
        with subprocess.Popen(
            [*PARLEY, "chat", "hello"],
            stdout=subprocess.PIPE,
            env=environment(PARLEY_ADDRESS=address, PARLEY_TOKEN=a_token()),
        ) as process:
            assert process.stdout is not None
            spoken.say("first \x1b[1m")
            first = process.stdout.read(len("first \x1b[1m"))
            spoken.say(CALL, "last\n", None)
            rest = process.stdout.read()
            return first, rest, process.wait(20)

    assert (b"first \x1b[1m", b"last\n\n", 0) == await asyncio.to_thread(read)


async def test_a_pipe_is_told_that_the_agent_began_anew() -> None:
    lost = [started(), chunk("first", 0), DRAINED]
    anew = [started(2), chunk("second", 0, 2), completed(an_answer("second"), 2)]
    async with streaming(lost, anew) as server:
        done = await run("chat", "hello", "--address", server.address)
    assert (0, b"first\nsecond\n") == (done.returncode, done.stdout)
    assert f"parley: {VOID}\n" == done.stderr.decode()


async def test_json_is_the_last_event_alone() -> None:
    events = [started(), chunk("first", 0), completed(an_answer("first and last"), 1)]
    async with streaming(events) as server:
        done = await run("chat", "hello", "--json", "--address", server.address)
    assert "first and last" == json.loads(done.stdout)["response"]
    assert 1 == len(done.stdout.splitlines())


# How to go on


async def test_the_closing_hint_is_what_started_it_says(service: Service) -> None:
    def talk(terminal: Terminal) -> str:
        assert 0 == terminal.ended()
        return terminal.screen

    address = f"127.0.0.1:{service.port}"
    by_make = await talked(
        talk, address, "chat", "hello", PARLEY_GO_ON_WITH="make chat CONVERSATION="
    )
    conversation_id = await only_conversation(service)
    assert f"Continue with: make chat CONVERSATION={conversation_id}\n" in by_make
    options = ("--address", address, "--timeout", "9", "--token", a_token())
    by_hand = await talked(
        talk, address, "chat", "hello", *options, "--conversation", conversation_id
    )
    wanted = f"parley chat --address {address} --timeout 9.0 --conversation {conversation_id}\n"
    assert f"Continue with: {wanted}" in by_hand


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("", {}),
        ("127.0.0.1:7", {"PARLEY_LISTEN": "127.0.0.1:7"}),
        ("127.0.0.1:7", {"PARLEY_LISTEN": "0.0.0.0:7"}),
        ("127.0.0.1:8", {"PARLEY_LISTEN": "127.0.0.1:7", "PARLEY_ADDRESS": "127.0.0.1:8"}),
    ],
)
def test_make_chat_goes_on_and_finds_the_server(
    address: str, variables: dict[str, str], tmp_path: Path
) -> None:
    told = made_chat(tmp_path, PARLEY_TOKEN="t", **variables)
    prefix = f"PARLEY_ADDRESS={address} " if address else ""
    assert f"chat --conversation c-1|{address}|t|none|{prefix}make chat CONVERSATION=\n" == told


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("PARLEY_TOKEN", "given"),
        ("PARLEY_TOKEN_FILE", ""),
        ("PARLEY_TOKEN_COMMAND", ""),
        ("NOTHING", "minted"),
    ],
)
def test_make_chat_mints_a_token_only_where_none_is_given(
    name: str, token: str, tmp_path: Path
) -> None:
    """Fails when one is minted beside another: `parley` takes one of them only."""
    assert token == made_chat(tmp_path, **{name: "given"}).split("|")[2]


def made_chat(folder: Path, **variables: str) -> str:
    """Run `make chat` in an environment that says how it was called. Returns: what it says."""
    bin_ = folder / "bin"
    bin_.mkdir()
    told = "$*|$PARLEY_ADDRESS|$PARLEY_TOKEN|$PARLEY_PROFILE|$PARLEY_GO_ON_WITH"
    for name, says in (("parley", told), ("parley-server", "minted")):
        (bin_ / name).write_text(f'#!/bin/sh\necho "{says}"\n')
        (bin_ / name).chmod(0o755)
    stamp = folder / ".set-up"
    stamp.touch()
    done = subprocess.run(
        ["make", "-s", "-o", str(stamp), f"VENV={folder}", "chat", "CONVERSATION=c-1"],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


# parley watch


@pytest.mark.slow
async def test_watch_shows_messages_and_an_answer_as_it_comes(spoken: Spoken) -> None:
    spoken.say("ONE", None)
    conversation_id = (await spoken.service.chat("one")).conversation_id
    loop = asyncio.get_running_loop()

    async def answered() -> None:
        await spoken.service.stream("two", conversation_id=conversation_id).code()

    def watch(terminal: Terminal) -> None:
        terminal.wait_for("#2 agent")
        terminal.wait_for("(up to date; Ctrl-C ends)")
        answering = asyncio.run_coroutine_threadsafe(answered(), loop)
        terminal.wait_for("#3 you")
        spoken.say("half ")
        terminal.wait_for("half")
        spoken.say(CALL, "whole", None)
        terminal.wait_for("whole\n")
        answering.result(20)
        terminal.send(CTRL_C)
        assert 130 == terminal.ended()
        assert 1 == terminal.screen.count("half") == terminal.screen.count("12 °C")
        assert "interrupted" not in terminal.screen

    address = f"127.0.0.1:{spoken.service.port}"
    await talked(watch, address, "watch", conversation_id, "--events")


async def test_watch_as_json_is_the_contracts_updates() -> None:
    gone = Refusal(grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
    first = [pb.WatchConversationResponse(message=parts.Message(sequence=8)), DRAINED]
    async with streaming(first, gone) as server:
        done = await run("watch", "c", "--after", "7", "--json", "--address", server.address)
    assert 0 == done.returncode  # as when a watch that was not lost is told of the deletion
    message, deleted = (json.loads(line) for line in done.stdout.splitlines())
    assert ("8", {"deleted": {}}) == (message["message"]["sequence"], deleted)
    assert [(7, False), (8, False)] == [
        (asked.request.after_sequence, asked.request.include_events) for asked in server.asked
    ]

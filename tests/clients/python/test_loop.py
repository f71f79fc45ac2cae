"""The command `parley chat` as a person uses it: on a terminal, line by line."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from support.agents import ScriptedAgent
from support.scripted_server import Code, Refusal, ScriptedServer, an_answer, never
from support.scripted_streams import streaming
from support.services import Service, StartService, a_token
from support.terminals import Terminal

PROMPT = "> "
CTRL_C, CTRL_D = "\x03", "\x04"
AGAIN = "An empty line asks again."


async def talked(
    talk: Callable[[Terminal], Any], address: str, *arguments: str, **variables: str
) -> Any:
    """Let a person talk on a terminal."""

    def sit_down() -> Any:
        with Terminal(*arguments, PARLEY_ADDRESS=address, **variables) as terminal:
            return talk(terminal)

    return await asyncio.to_thread(sit_down)


def say(terminal: Terminal, text: str) -> None:
    terminal.wait_for(PROMPT)
    terminal.send(text + "\n")


def leave(terminal: Terminal) -> None:
    terminal.wait_for(PROMPT)
    terminal.send(CTRL_D)
    assert 0 == terminal.ended()


def arrived(server: ScriptedServer) -> None:
    """Wait, in a thread, until a call has reached the server."""
    deadline = time.monotonic() + 20
    while not server.asked and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.slow
async def test_a_conversation_is_had_ended_and_gone_on_with(service: Service) -> None:
    def first(terminal: Terminal) -> str:
        say(terminal, "hello")
        terminal.wait_for("HELLO\n")
        say(terminal, "more")
        terminal.wait_for("MORE\n")
        leave(terminal)
        found = re.search(r"Continue with: parley chat --conversation (\S+)\n", terminal.screen)
        assert found
        return found[1]

    def second(terminal: Terminal) -> None:
        shown = terminal.wait_for(PROMPT)
        assert "more\n" in shown
        assert "MORE\n" in shown
        assert "hello" not in shown
        terminal.send("and then\n")
        terminal.wait_for("AND THEN\n")
        leave(terminal)

    address, token = f"127.0.0.1:{service.port}", a_token()
    conversation_id = await talked(first, address, "chat", PARLEY_TOKEN=token)
    await talked(second, address, "chat", "--conversation", conversation_id, PARLEY_TOKEN=token)
    assert 6 == (await service.history(conversation_id)).last_sequence


async def test_ctrl_c_before_the_turn_gives_up_the_wait_and_an_empty_line_asks_again() -> None:
    """The call is cancelled, and the same turn is asked for again, not a second one."""
    no_turn = Refusal(Code.NOT_FOUND, "TURN_NOT_FOUND")

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for("waiting")
        arrived(server)
        terminal.send(CTRL_C)
        terminal.wait_for("Stopped waiting.")
        say(terminal, "")
        terminal.wait_for("HELLO")
        say(terminal, "")
        say(terminal, "more")
        terminal.wait_for("MORE")
        leave(terminal)

    async with streaming(never, no_turn, an_answer(), an_answer("MORE")) as server:
        await talked(talk, server.address, "chat")
        await asyncio.wait_for(server.cancelled.wait(), 5)
    given_up, cancel, again, more = (asked.request for asked in server.asked)
    assert given_up == again
    assert again.chat.request_id == cancel.request_id != more.chat.request_id
    assert "more" == more.chat.message
    assert again.chat.conversation_id == more.chat.conversation_id


async def test_ctrl_c_at_the_prompt_begins_a_new_line() -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for(PROMPT)
        terminal.send("half a tho")
        terminal.wait_for("half a tho")
        terminal.press(CTRL_C, PROMPT)
        terminal.send("hello\n")
        terminal.wait_for("HELLO")
        leave(terminal)

    async with streaming(an_answer()) as server:
        await talked(talk, server.address, "chat")
    assert ["hello"] == [asked.request.chat.message for asked in server.asked]


async def test_the_same_line_after_an_error_is_the_same_turn(
    start_service: StartService,
) -> None:
    """The first answer is lost with the connection's last try: the model must run once."""
    agent = ScriptedAgent()
    service = await start_service(agent)

    async def forwarded(request: pb.StreamChatRequest) -> pb.ChatResponse:
        fields = {field.name: value for field, value in request.chat.ListFields()}
        return await service.chat(**fields)

    async def answer_lost(request: pb.StreamChatRequest) -> Refusal:
        await forwarded(request)
        return Refusal(Code.INTERNAL, "INTERNAL", "a defect")

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        assert AGAIN in terminal.wait_for(AGAIN)
        say(terminal, "hello")
        terminal.wait_for("HELLO")
        leave(terminal)

    async with streaming(answer_lost, forwarded) as server:
        await talked(talk, server.address, "chat")
    assert 2 == len(server.asked)
    assert 1 == len({asked.request.chat.request_id for asked in server.asked})
    assert 1 == len(agent.runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "code", "is_same_turn"),
    [
        ("AGENT_TIMEOUT", Code.DEADLINE_EXCEEDED, True),
        ("TURN_IN_PROGRESS", Code.ABORTED, True),
        ("TURN_SUPERSEDED", Code.FAILED_PRECONDITION, False),
        ("ATTEMPTS_EXHAUSTED", Code.FAILED_PRECONDITION, False),
    ],
)
async def test_an_error_is_shown_and_asked_again_as_it_may_help(
    reason: str, code: Any, is_same_turn: bool
) -> None:
    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for(f"parley: {reason}: words")
        terminal.wait_for(AGAIN)
        say(terminal, "")
        terminal.wait_for("HELLO")
        leave(terminal)

    async with streaming(Refusal(code, reason, "words"), an_answer()) as server:
        await talked(talk, server.address, "chat")
    first, second = (asked.request.chat for asked in server.asked)
    assert "hello" == second.message
    assert is_same_turn == (first.request_id == second.request_id)


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(Code.INVALID_ARGUMENT, "INVALID_REQUEST", "message: is too long"),
        Refusal(Code.NOT_FOUND, "CONVERSATION_NOT_FOUND", "it was deleted"),
    ],
    ids=["invalid", "deleted"],
)
async def test_what_is_wrong_is_not_asked_again(refusal: Refusal) -> None:
    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for(refusal.text)
        say(terminal, "")
        say(terminal, "shorter")
        terminal.wait_for("HELLO")
        assert AGAIN not in terminal.screen
        leave(terminal)

    async with streaming(refusal, an_answer()) as server:
        await talked(talk, server.address, "chat")
    assert ["hello", "shorter"] == [asked.request.chat.message for asked in server.asked]


async def test_nothing_from_the_model_reaches_the_terminal_raw() -> None:
    evil = "\x1b]0;mine\x07\x1b[2J\x9b31mred\rover [bold]:smile:"
    call = conversation_pb2.ToolCall(name="ev\x1b[1mil", arguments="{}", result="\x1b[5mblink")

    def talk(terminal: Terminal) -> str:
        say(terminal, "hello")
        leave(terminal)
        return terminal.raw

    async with streaming(an_answer(evil, tool_calls=[call])) as server:
        raw = await talked(talk, server.address, "chat")
    assert "␛]0;mine␇␛[2J\\x9b31mred␍over [bold]:smile:" in raw
    assert "→ ev␛[1mil({}): ␛[5mblink" in raw
    for sequence in ("\x1b]0;", "\x1b[2J", "\x9b", "\x1b[5m", "\x07"):
        assert sequence not in raw


async def test_an_unknown_conversation_ends_it_at_once(service: Service) -> None:
    def talk(terminal: Terminal) -> int:
        return terminal.ended()

    missing = "018f0000-0000-7000-8000-000000000001"
    exit_code = await talked(
        talk,
        f"127.0.0.1:{service.port}",
        "chat",
        "--conversation",
        missing,
        PARLEY_TOKEN=a_token(),
    )
    assert 4 == exit_code


async def test_one_shot_on_a_terminal_says_how_to_go_on(service: Service) -> None:
    def talk(terminal: Terminal) -> str:
        terminal.wait_for("waiting")
        assert 0 == terminal.ended()
        return terminal.screen

    screen = await talked(
        talk, f"127.0.0.1:{service.port}", "chat", "hello", PARLEY_TOKEN=a_token()
    )
    (conversation,) = (await service.conversations()).conversations
    assert f"Continue with: parley chat --conversation {conversation.conversation_id}" in screen


async def test_one_shot_given_up_with_ctrl_c_ends_with_130() -> None:
    def talk(terminal: Terminal) -> int:
        terminal.wait_for("waiting")
        arrived(server)
        terminal.send(CTRL_C)
        return terminal.ended()

    async with streaming(never, Refusal(Code.NOT_FOUND, "TURN_NOT_FOUND")) as server:
        assert 130 == await talked(talk, server.address, "chat", "hello")
        await asyncio.wait_for(server.cancelled.wait(), 5)


async def test_list_on_a_terminal_is_a_table_with_relative_times(service: Service) -> None:
    first = await service.chat("a \x1b[31mtitle")

    def talk(terminal: Terminal) -> str:
        assert 0 == terminal.ended()
        return terminal.screen

    screen = await talked(talk, f"127.0.0.1:{service.port}", "list", PARLEY_TOKEN=a_token())
    head, row = screen.splitlines()[:2]
    assert ["conversation", "last", "turn", "messages", "title"] == head.split()
    assert [first.conversation_id, "just", "now", "2", "a", "␛[31mtitle"] == row.split()

"""`parley rehearse`: the stored answer, and those of agents, in columns or below one another."""

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import error_reason_pb2 as reasons
from parley_client.cli.screen import Screen
from parley_server.agents.echo import EchoAgent
from parley_server.core.attempts.roster import NamedAgent
from support.agents import ScriptedAgent
from support.rosters import WINDOW, AddAgents, add_agents  # noqa: F401 - a fixture
from support.scripted_server import Code, Refusal, never
from support.scripted_streams import streaming
from support.services import StartService, a_token
from support.terminal_chats import talked
from support.terminals import Terminal, run

CONVERSATION = "018f0000-0000-7000-8000-000000000001"
TURN = "018f0000-0000-7000-8000-000000000002"
NAMED = (CONVERSATION, TURN)
CTRL_C = "\x03"
CALL = parts.ToolCall(id="1", name="look_up", arguments="{}", result="found")
FOUND = pb.GetTurnResponse(
    turn=parts.Turn(
        turn_id=TURN,
        conversation_id=CONVERSATION,
        state=parts.TURN_STATE_COMPLETED,
        agent="helper",
        model="small-1",
        response_sequence=10,
        finish_reason=parts.FINISH_REASON_STOP,
        usage=parts.Usage(input_tokens=1234, output_tokens=56),
    )
)
STORED = pb.GetHistoryResponse(
    messages=[parts.Message(sequence=10, content="You are **Ada**.", tool_calls=[CALL])]
)
FAR = Refusal(Code.FAILED_PRECONDITION, "NO_REHEARSAL", "it might act", metadata={"agent": "far"})
REFUSED = Refusal(Code.FAILED_PRECONDITION, "WINDOW_INCOMPLETE", "not whole any more")
Event = pb.RehearseTurnResponse
Answers = Callable[[Any], Awaitable[Any]]


def started(agent: str) -> Event:
    return Event(started=pb.RehearsalStarted(agent=agent))


def a_piece(text: str) -> Event:
    return Event(chunk=pb.TextChunk(text=text))


def completed(text: str, **fields: Any) -> Event:
    usual = {"usage": parts.Usage(input_tokens=900, output_tokens=40), "model": "big-1"}
    return Event(completed=pb.RehearsalCompleted(response=text, **usual | fields))


def by_agent(**answers: Any) -> Answers:
    """Answer each rehearsal with its agent's events, in whichever order they begin."""

    async def answer(request: pb.RehearseTurnRequest) -> Any:
        return answers[request.agent or "helper"]

    return answer


def an_answer_of(agent: str, text: str = "") -> list[Event]:
    text = text or f"I am *{agent}*."
    return [started(agent), a_piece(text[:4]), completed(text)]


async def ran(
    address: str, *arguments: str, exit_code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = await run("rehearse", *arguments, PARLEY_ADDRESS=address, PARLEY_TOKEN=a_token())
    assert exit_code == done.returncode, done.stderr.decode()
    return done


def agents(*names: str) -> list[str]:
    return [word for name in names for word in ("--agent", name)]


def to_the_end(terminal: Terminal) -> tuple[int, str]:
    exit_code = terminal.ended()
    return exit_code, terminal.screen


def columns_of(screen: str, *beginnings: str) -> list[list[str]]:
    """Cut a screen into columns, which begin where these words do in its first line."""
    first, *lines = screen.splitlines()
    places = [first.index(each) for each in beginnings]
    ends = [*places[1:], None]
    return [
        [line[place:end].strip() for line in (first, *lines)]
        for place, end in zip(places, ends, strict=True)
    ]


async def test_answers_are_side_by_side_with_their_tokens() -> None:
    big = an_answer_of("big", "I am *big* and " + "talk " * 20)
    scripts = by_agent(big=big, small=an_answer_of("small"))
    async with streaming(FOUND, STORED, scripts) as server:
        exit_code, screen = await talked(
            to_the_end, server.address, *NAMED, *agents("big", "small"), command="rehearse"
        )
    stored, first, second = columns_of(screen, "helper · stored", "big · reh", "small · reh")
    assert ("→ look_up({}): found", "You are Ada.") == tuple(stored[1:3])
    assert ["", "small-1 · 1,234 tokens in, 56 out"] == stored[3:5]
    assert first[1].startswith("I am big and talk talk")
    assert first[2].startswith("talk ")
    assert "big-1 · 900 tokens in, 40 out" in first
    assert ("small · rehearsed", "I am small.") == tuple(second[:2])
    assert (0, 1) == (exit_code, screen.count("I am small."))
    requests = [asked.request for asked in server.asked]
    assert pb.GetTurnRequest(conversation_id=CONVERSATION, turn_id=TURN) == requests[0]
    assert (9, 1) == (requests[1].after_sequence, requests[1].page_size)
    assert {"big", "small"} == {request.agent for request in requests[2:]}


async def test_answers_grow_side_by_side_and_text_may_be_as_it_was_written() -> None:
    """The second agent's answer is shown while the first one is still under way."""
    released, loop = asyncio.Event(), asyncio.get_running_loop()

    async def later(_request: Any) -> Event:
        await released.wait()
        return completed("*Wait* for it.")

    slow = [started("slow"), a_piece("*Wait* for"), later]
    scripts = by_agent(slow=slow, quick=an_answer_of("quick"))

    def look(terminal: Terminal) -> tuple[int, str]:
        terminal.wait_for("I am *quick*.")
        assert "*Wait* for" in terminal.screen
        assert "for it." not in terminal.screen
        loop.call_soon_threadsafe(released.set)
        return to_the_end(terminal)

    async with streaming(FOUND, STORED, scripts) as server:
        options = (*agents("slow", "quick"), "--plain")
        exit_code, screen = await talked(look, server.address, *NAMED, *options, command="rehearse")
    stored, slowly, _ = columns_of(screen, "helper · stored", "slow · reh", "quick · reh")
    assert ("You are **Ada**.", "*Wait* for it.") == (stored[2], slowly[1])
    assert (0, 1) == (exit_code, screen.count("helper · stored"))


async def test_answers_longer_than_the_screen_are_whole_at_the_end() -> None:
    """Fails when what was drawn for the screen's height stays."""
    text = "\n".join(f"line {n}" for n in range(60))
    released, loop = asyncio.Event(), asyncio.get_running_loop()

    async def later(_request: Any) -> Event:
        await released.wait()
        return completed(text + "\nthe end")

    def look(terminal: Terminal) -> tuple[int, str]:
        shown = terminal.wait_for("line 59")  # the last lines, while it grows
        assert "line 10" not in shown
        loop.call_soon_threadsafe(released.set)
        return to_the_end(terminal)

    scripts = by_agent(helper=[started("helper"), a_piece(text), later])
    async with streaming(FOUND, STORED, scripts) as server:
        options = ("--plain",)
        exit_code, screen = await talked(
            look, server.address, *NAMED, *options, command="rehearse", rows=20
        )
    _, rehearsed = columns_of(screen, "helper · stored", "helper · reh")
    assert 0 == exit_code
    assert [f"line {n}" for n in range(60)] == rehearsed[1:61]
    assert "the end" == rehearsed[61]


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"columns": 60}, {"TERM": "dumb"}], ids=str)
async def test_a_narrow_or_dumb_terminal_shows_them_below_one_another(
    variables: dict[str, Any],
) -> None:
    scripts = by_agent(big=an_answer_of("big"), small=an_answer_of("small"))
    async with streaming(FOUND, STORED, scripts) as server:
        exit_code, screen = await talked(
            to_the_end,
            server.address,
            *NAMED,
            *agents("big", "small"),
            command="rehearse",
            **variables,
        )
    written = screen.replace("*", "")
    places = [
        written.index(text)
        for text in (
            *("helper · stored\n  → look_up({}): found\nYou are Ada.\nsmall-1 · 1,234 tokens",),
            *("big · rehearsed\nI am big.\nbig-1 · 900", "small · rehearsed\nI am small.\n"),
        )
    ]
    assert (0, sorted(places)) == (exit_code, places)


async def test_a_pipe_gets_them_below_one_another_as_they_were_written() -> None:
    scripts = by_agent(big=an_answer_of("big"), far=FAR)
    async with streaming(FOUND, STORED, scripts) as server:
        done = await ran(server.address, *NAMED, *agents("big", "far"), exit_code=1)
    assert (
        "helper · stored\nYou are **Ada**.\nsmall-1 · 1,234 tokens in, 56 out\n\n"
        "big · rehearsed\nI am *big*.\nbig-1 · 900 tokens in, 40 out\n\n"
        "far · rehearsed\nNO_REHEARSAL: it might act\n\n"
    ) == done.stdout.decode()
    told = " ".join(done.stderr.decode().split())
    assert "parley: far: NO_REHEARSAL: it might act `parley agents` shows" in told


async def test_json_has_a_line_for_each_answer_and_the_others_when_one_fails() -> None:
    ended = completed("", finish_reason=parts.FINISH_REASON_LENGTH, tool_calls=[CALL])
    scripts = by_agent(far=[started("far"), a_piece("I"), FAR], big=[started("big"), ended])
    async with streaming(FOUND, STORED, scripts) as server:
        options = (*agents("far", "big"), "--json")
        done = await ran(server.address, *NAMED, *options, exit_code=1)
    stored, far, big = (json.loads(line) for line in done.stdout.splitlines())
    assert ("helper", True, "You are **Ada**.", "1234") == (
        stored["agent"],
        stored["is_stored"],
        stored["response"],
        stored["usage"]["input_tokens"],
    )
    error = {"reason": "NO_REHEARSAL", "message": "it might act"}
    assert {"agent": "far", "is_stored": False, "error": error} == far
    assert ("big", "FINISH_REASON_LENGTH", "big-1", "look_up") == (
        big["agent"],
        big["finish_reason"],
        big["model"],
        big["tool_calls"][0]["name"],
    )


async def test_the_turns_own_agent_is_asked_where_its_answer_is_missing() -> None:
    turn = parts.Turn(
        turn_id=TURN,
        conversation_id=CONVERSATION,
        state=parts.TURN_STATE_FAILED,
        error_reason=reasons.ERROR_REASON_AGENT_TIMEOUT,
    )
    answers = [started("echo"), completed("I am echo.")]
    async with streaming(pb.GetTurnResponse(turn=turn), answers) as server:
        done = await ran(server.address, "--request-id", "r")
    assert (
        "the default agent · stored\nno answer: failed, AGENT_TIMEOUT\n\n"
        "echo · rehearsed\nI am echo.\nbig-1 · 900 tokens in, 40 out\n\n"
    ) == done.stdout.decode()
    assert pb.RehearseTurnRequest(request_id="r") == server.asked[1].request


@pytest.mark.slow
async def test_a_real_turn_is_explained_and_rehearsed(
    start_service: StartService,
    add_agents: AddAgents,  # noqa: F811 - the fixture
) -> None:
    add_agents(NamedAgent("other", EchoAgent(), WINDOW))
    service = await start_service(ScriptedAgent())
    answered = await service.chat("Hello.")
    address = f"127.0.0.1:{service.port}"

    done = await ran(address, answered.conversation_id, *agents("other", "main"))
    assert (
        "the default agent · stored\nHELLO.\nscripted-1\n\n"
        "other · rehearsed\nHello.\necho · 1 tokens in, 1 out\n\n"
        "main · rehearsed\nHELLO.\nscripted-1\n\n"
    ) == done.stdout.decode()
    variables = {"PARLEY_ADDRESS": address, "PARLEY_TOKEN": a_token()}
    explained = await run("explain", answered.conversation_id, **variables)
    lines = explained.stdout.decode().splitlines()
    assert "shown\t1\tuser\t6\t\t\tHello." in lines
    assert ["attempt\t1"] == [line[:9] for line in lines if line.startswith("attempt")]
    assert 2 == (await service.history(answered.conversation_id)).last_sequence


async def test_a_window_that_is_not_whole_says_what_to_do() -> None:
    async with streaming(FOUND, STORED, REFUSED) as server:
        done = await ran(server.address, *NAMED, exit_code=1)
    told = " ".join(done.stderr.decode().split())
    assert "WINDOW_INCOMPLETE: not whole any more Rehearse another turn" in told


async def test_ctrl_c_ends_the_rehearsals_and_leaves_what_has_come() -> None:
    async with streaming(FOUND, STORED, [started("helper"), a_piece("Half"), never]) as server:

        def leave(terminal: Terminal) -> tuple[int, str]:
            terminal.wait_for("Half")
            terminal.press(CTRL_C, "interrupted")
            return to_the_end(terminal)

        exit_code, screen = await talked(leave, server.address, *NAMED, command="rehearse")
        await asyncio.wait_for(server.cancelled.wait(), 10)
    assert (130, 1) == (exit_code, screen.count("Half"))


async def test_what_an_agent_says_is_shown_and_not_obeyed() -> None:
    scripts = by_agent(helper=[started("hel\x1b[2Jper"), completed("\x1b[2Jgone", model="\x1b]")])
    async with streaming(FOUND, STORED, scripts) as server:
        _, screen = await talked(to_the_end, server.address, *NAMED, command="rehearse")
    for text in ("hel␛[2Jper · rehearsed", "␛[2Jgone", "␛] · 900 tokens", "helper · stored"):
        assert text in screen


def test_what_is_drawn_again_stays_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Fails when the last drawing is left out because the block has failed."""
    with pytest.raises(KeyboardInterrupt), Screen().redrawing(lambda is_whole: f"{is_whole}"):
        raise KeyboardInterrupt
    assert f"True{os.linesep}" == capfd.readouterr().out

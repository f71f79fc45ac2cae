"""Lines and keys at the prompt of `parley chat`."""

import asyncio
import signal
import stat
from pathlib import Path

import pytest

from support.agents import ScriptedAgent, Speaker
from support.scripted_server import an_answer
from support.scripted_streams import streaming
from support.services import StartService
from support.terminal_chats import ALT_ENTER, PROMPT, UP, address_of, leave, say, talked
from support.terminals import Terminal


async def test_a_paste_of_several_lines_is_one_message() -> None:
    def talk(terminal: Terminal) -> None:
        say(terminal, "\x1b[200~one\r\n  two\nthree\x1b[201~")
        terminal.wait_for("HELLO")
        leave(terminal)

    async with streaming(an_answer()) as server:
        await talked(talk, server.address)
    assert ["one\n  two\nthree"] == [asked.request.chat.message for asked in server.asked]


@pytest.mark.parametrize("variables", [{}, {"TERM": "dumb"}])
async def test_a_backslash_before_enter_goes_on_in_another_line(variables: dict[str, str]) -> None:
    def talk(terminal: Terminal) -> str:
        say(terminal, "one\\")
        terminal.wait_for("one")
        terminal.send("two\r")
        terminal.wait_for("HELLO")
        leave(terminal)
        return terminal.raw

    async with streaming(an_answer("**HELLO**")) as server:
        raw = await talked(talk, server.address, **variables)
    assert ["one\ntwo"] == [asked.request.chat.message for asked in server.asked]
    assert bool(variables) == ("\x1b" not in raw)
    assert bool(variables) == ("**HELLO**" in raw)


@pytest.mark.slow
async def test_what_was_written_is_remembered_in_a_file_of_ones_own(tmp_path: Path) -> None:
    """Fails when the file is made as files usually are: others could read it."""

    def first(terminal: Terminal) -> None:
        say(terminal, f"one{ALT_ENTER}two")
        terminal.wait_for("HELLO")
        leave(terminal)

    def second(terminal: Terminal) -> None:
        terminal.wait_for(f"\n{PROMPT}")
        terminal.press(UP, "two")
        terminal.send("!\r")
        terminal.wait_for("HELLO")
        leave(terminal)

    variables = {"XDG_STATE_HOME": str(tmp_path), "PARLEY_INPUT_HISTORY": "1"}
    async with streaming(an_answer()) as server:
        await talked(first, server.address, **variables)
        file = tmp_path / "parley" / "history"
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)
        assert 0o700 == stat.S_IMODE(file.parent.stat().st_mode)
        await talked(second, server.address, **variables)
        before = file.read_bytes()
        await talked(first, server.address, "--no-input-history", **variables)
    assert ["one\ntwo", "one\ntwo!", "one\ntwo"] == [a.request.chat.message for a in server.asked]
    assert before == file.read_bytes()


async def test_a_history_that_cannot_be_kept_keeps_nobody_from_talking(tmp_path: Path) -> None:
    (tmp_path / "parley").write_text("a file where a folder has to be")

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        terminal.wait_for("HELLO")
        leave(terminal)
        assert "Traceback" not in terminal.screen

    async with streaming(an_answer()) as server:
        variables = {"XDG_STATE_HOME": str(tmp_path), "PARLEY_INPUT_HISTORY": "1"}
        await talked(talk, server.address, **variables)


async def test_what_is_typed_during_an_answer_waits_for_the_prompt(
    start_service: StartService,
) -> None:
    """Fails when keys are echoed meanwhile: they then stand in the middle of the answer."""
    speaker, loop = Speaker(), asyncio.get_running_loop()
    service = await start_service(ScriptedAgent(speaker))

    def talk(terminal: Terminal) -> str:
        say(terminal, "hello")
        loop.call_soon_threadsafe(speaker.say, "The first")
        terminal.wait_for("The first")
        terminal.send("typed ahead\r")
        loop.call_soon_threadsafe(speaker.say, " answer", None)
        terminal.wait_for(" answer")
        loop.call_soon_threadsafe(speaker.say, "second", None)
        terminal.wait_for("\nsecond")
        leave(terminal)
        return terminal.screen

    screen = await talked(talk, address_of(service))
    assert f"{PROMPT}hello\nThe first answer\n{PROMPT}typed ahead\nsecond\n>\n" in screen


SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_during_an_answer_leaves_the_terminal_as_it_was(
    start_service: StartService, number: signal.Signals
) -> None:
    """Fails when a signal ends the process at once: the shell then shows nothing that is typed."""
    speaker, loop = Speaker(), asyncio.get_running_loop()
    service = await start_service(ScriptedAgent(speaker))

    def talk(terminal: Terminal) -> None:
        say(terminal, "hello")
        loop.call_soon_threadsafe(speaker.say, "The first")
        terminal.wait_for("The first")
        assert (False, True) == terminal.settings
        terminal.kill(number)
        assert 128 + number == terminal.ended()
        assert (True, True) == terminal.settings
        # The turn goes on without its caller, and is waited for at the end.
        loop.call_soon_threadsafe(speaker.say, None)

    await talked(talk, address_of(service))


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_at_the_prompt_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for(PROMPT)
        assert (False, False) == terminal.settings
        terminal.kill(number)
        assert 128 + number == terminal.ended()
        assert (True, True) == terminal.settings

    await talked(talk, "127.0.0.1:1")


async def test_tab_completes_commands() -> None:
    def talk(terminal: Terminal) -> None:
        terminal.wait_for(PROMPT)
        terminal.press("/he\t", "/help")
        terminal.send("\r")
        terminal.wait_for("/export [FILE]")
        leave(terminal)

    async with streaming(an_answer()) as server:
        await talked(talk, server.address)

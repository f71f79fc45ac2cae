"""Commands inside `parley chat`: lines that begin with a slash."""

import json
import os
import re
from pathlib import Path

import pytest

from parley.v1 import conversation_pb2 as parts
from support.agents import ScriptedAgent, Speaker
from support.scripted_server import an_answer
from support.scripted_streams import streaming
from support.services import Service, StartService
from support.terminal_chats import ALT_ENTER, address_of, leave, say, talked
from support.terminals import Terminal


@pytest.mark.slow
async def test_conversations_are_begun_listed_and_opened(service: Service) -> None:
    first = (await service.chat("the first one")).conversation_id

    def talk(terminal: Terminal) -> None:
        say(terminal, "/list")
        assert "1  just now          2  the first one" in terminal.wait_for("first one")
        say(terminal, "/open 1")
        assert "THE FIRST ONE" in terminal.wait_for("THE FIRST ONE")
        say(terminal, "more here")
        terminal.wait_for("MORE HERE")
        say(terminal, "/new")
        terminal.wait_for("A new conversation.")
        say(terminal, "elsewhere")
        terminal.wait_for("ELSEWHERE")
        say(terminal, "/list")
        terminal.wait_for("*  1  just now          2  elsewhere")
        say(terminal, f"/open {first}")
        terminal.wait_for("MORE HERE")
        leave(terminal)
        terminal.wait_for(f"--conversation {first}")

    await talked(talk, address_of(service))
    assert 4 == (await service.history(first)).last_sequence
    assert 2 == len((await service.conversations()).conversations)


async def test_what_cannot_be_opened_leaves_the_conversation_open(service: Service) -> None:
    first = (await service.chat("one")).conversation_id
    missing = "018f0000-0000-7000-8000-000000000001"

    def talk(terminal: Terminal) -> None:
        say(terminal, f"/open {missing}")
        terminal.wait_for("CONVERSATION_NOT_FOUND")
        say(terminal, "/open 7")
        terminal.wait_for("no conversation has the number 7")
        say(terminal, "more")
        terminal.wait_for("MORE")
        leave(terminal)

    await talked(talk, address_of(service), "--conversation", first)
    assert 4 == (await service.history(first)).last_sequence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/histroy", "unknown command /histroy. Did you mean /history?"),
        ("/xyzzy 1", "unknown command /xyzzy. /help lists the commands."),
        ("/new york", "/new has no argument"),
        ("/list many", "/list takes a number"),
        ("/open", "/open needs a number from /list"),
        ("/export", "this conversation has no messages to export"),
        ("/history", "This conversation has no messages yet."),
        ("/cancel", "No answer is under way here."),
        ("/help", "/export [FILE]"),
    ],
)
async def test_a_command_that_makes_no_sense_says_what_would(line: str, said: str) -> None:
    def talk(terminal: Terminal) -> None:
        say(terminal, line)
        terminal.wait_for(said)
        leave(terminal)

    async with streaming(an_answer()) as server:
        await talked(talk, server.address)
    assert [] == server.asked


async def test_two_slashes_say_one_and_lines_with_a_slash_are_a_message() -> None:
    def talk(terminal: Terminal) -> None:
        say(terminal, "//etc is a folder")
        terminal.wait_for("HELLO")
        say(terminal, f"/* code{ALT_ENTER}*/")
        terminal.wait_for("AGAIN")
        say(terminal, "/exit")
        assert 0 == terminal.ended()

    async with streaming(an_answer(), an_answer("AGAIN")) as server:
        await talked(talk, server.address)
    said = [asked.request.chat.message for asked in server.asked]
    assert ["/etc is a folder", "/* code\n*/"] == said


async def test_a_turn_under_way_elsewhere_is_cancelled(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker))
    speaker.say("one", None)
    conversation_id = (await service.chat()).conversation_id
    stream = service.stream("go on", conversation_id=conversation_id, timeout=60)
    await speaker.entered.wait()
    speaker.say("half a thought")
    while not (await stream.read()).HasField("chunk"):
        pass

    def talk(terminal: Terminal) -> None:
        say(terminal, "/cancel")
        terminal.wait_for("Stopped. Its text so far is kept:")
        terminal.wait_for("half a thought")
        say(terminal, "/cancel")
        terminal.wait_for("No answer is under way here.")
        leave(terminal)

    await talked(talk, address_of(service), "-c", conversation_id)
    history = await service.history(conversation_id)
    assert parts.FINISH_REASON_CANCELLED == history.messages[-1].finish_reason


async def test_a_conversation_is_exported_as_its_files_ending_says(
    service: Service, tmp_path: Path
) -> None:
    text = "fences: ```\nand ```` more"
    conversation_id = (await service.chat(text)).conversation_id
    markdown, document = tmp_path / "talk.md", tmp_path / "talk.json"

    def talk(terminal: Terminal) -> None:
        for file in (markdown, document):
            say(terminal, f"/export {file}")
            terminal.wait_for("2 messages written to")
        say(terminal, f"/export {markdown}")
        terminal.wait_for("already exists")
        say(terminal, "/export ~nobody-here/talk.md")
        terminal.wait_for("there is no home folder for ~nobody-here/talk.md")
        say(terminal, f"/export {tmp_path / 'talk.pdf'}")
        terminal.wait_for("must end in .md or .json")
        leave(terminal)

    await talked(talk, address_of(service), "-c", conversation_id, columns=300)
    lines = markdown.read_text().splitlines()
    assert f"# Conversation {conversation_id}" == lines[0]
    assert ["## 1 · User", "## 2 · Agent"] == [
        re.sub(r" · 2\d\d\d-.*", "", line) for line in lines if line.startswith("## ")
    ]
    assert text in markdown.read_text()
    exported = json.loads(document.read_text())
    assert conversation_id == exported["conversation_id"]
    assert [text, text.upper()] == [message["content"] for message in exported["messages"]]
    assert ["talk.json", "talk.md"] == sorted(os.listdir(tmp_path))

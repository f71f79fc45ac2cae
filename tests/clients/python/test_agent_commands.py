"""`parley agents` and `parley explain`, the same inside a conversation, and agents of one's own."""

import json
import subprocess
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import error_reason_pb2 as reasons
from support.configs import Configure
from support.scripted_server import Code, Refusal, never
from support.scripted_streams import streaming
from support.services import a_token
from support.terminal_chats import leave, say, talked
from support.terminals import Terminal, run

CONVERSATION = "018f0000-0000-7000-8000-000000000001"
TURN = "018f0000-0000-7000-8000-000000000002"
DIGEST = "3f2a" * 16
AGENTS = pb.ListAgentsResponse(
    agents=[
        pb.Agent(name="echo", description="Repeats.", is_default=True, can_rehearse=True),
        pb.Agent(name="far", description="Acts \x1b[2J\nelsewhere."),
    ]
)


def at(seconds: int, ms: int = 0) -> Timestamp:
    return Timestamp(seconds=1_790_000_000 + seconds, nanos=ms * 1_000_000)


def an_explanation(**fields: Any) -> pb.ExplainTurnResponse:
    turn = parts.Turn(
        turn_id=TURN,
        conversation_id=CONVERSATION,
        state=parts.TURN_STATE_COMPLETED,
        attempt=2,
        agent="helper",
        model="small-1",
        usage=parts.Usage(input_tokens=1234, output_tokens=56, model_requests=2),
    )
    usual: dict[str, Any] = {
        "turn": turn,
        "context": parts.Context(first_sequence=5, message_count=3, omitted_count=5),
        "messages": [
            pb.ShownMessage(
                sequence=5, role=parts.ROLE_USER, preview="I am\nAda.", content_bytes=9
            ),
            pb.ShownMessage(
                sequence=6,
                role=parts.ROLE_ASSISTANT,
                preview="Good " * 40,
                content_bytes=10_000,
                is_shortened=True,
                tools=["look_up", "send"],
            ),
            pb.ShownMessage(sequence=9, role=parts.ROLE_USER, preview="And?", content_bytes=4),
        ],
        "omitted": [
            pb.OmittedMessages(first_sequence=1, last_sequence=4, reason=pb.OMISSION_REASON_OLDER),
            pb.OmittedMessages(
                first_sequence=7, last_sequence=7, reason=pb.OMISSION_REASON_UNANSWERED
            ),
        ],
        "instructions_digest": DIGEST,
        "tool_calls": [
            parts.ToolCall(
                name="look_up", arguments='{"w":\n1}', result="no", is_error=True, step=1
            )
        ],
        "attempts": [
            pb.Attempt(
                number=1,
                start_time=at(0),
                end_time=at(3, 200),
                error_reason=reasons.ERROR_REASON_AGENT_TIMEOUT,
            ),
            pb.Attempt(number=2, start_time=at(5), end_time=at(6)),
        ],
    }
    return pb.ExplainTurnResponse(**usual | fields)


async def ran(
    address: str, *arguments: str, exit_code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = await run(*arguments, PARLEY_ADDRESS=address, PARLEY_TOKEN=a_token())
    assert exit_code == done.returncode, done.stderr.decode()
    return done


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode().replace("│", " ").split())


def rows_of(done: subprocess.CompletedProcess[bytes]) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.decode().splitlines()]


def to_the_end(terminal: Terminal) -> str:
    assert 0 == terminal.ended()
    return terminal.screen


# parley agents


@pytest.mark.slow
async def test_agents_are_a_line_each_or_json() -> None:
    async with streaming(AGENTS) as server:
        plain = await ran(server.address, "agents")
        as_json = await ran(server.address, "agents", "--json")
    assert [
        ["echo", "default", "rehearses", "Repeats."],
        ["far", "", "", "Acts ␛[2J elsewhere."],
    ] == rows_of(plain)
    told = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [("echo", True, True), ("far", False, False)] == [
        (agent["name"], agent["is_default"], agent["can_rehearse"]) for agent in told
    ]


async def test_agents_are_a_table_to_a_person() -> None:
    async with streaming(AGENTS) as server:
        screen = await talked(to_the_end, server.address, command="agents")
    lines = [line.split() for line in screen.splitlines()]
    assert ["agent", "description"] == lines[0]
    assert ["echo", "default", "rehearses", "Repeats."] == lines[1]
    assert ["far", "Acts", "␛[2J", "elsewhere."] == lines[2]


# parley explain


async def test_explain_prints_lines_that_say_what_they_are() -> None:
    async with streaming(an_explanation()) as server:
        done = await ran(server.address, "explain", CONVERSATION, TURN)
    assert server.asked[0].request == pb.ExplainTurnRequest(
        conversation_id=CONVERSATION, turn_id=TURN
    )
    assert [
        ["turn", TURN],
        ["conversation", CONVERSATION],
        ["state", "completed"],
        ["agent", "helper"],
        ["model", "small-1"],
        ["instructions", DIGEST, "changed"],
        ["usage", "1234", "0", "56", "2"],
        ["shown", "5", "user", "9", "", "", "I am Ada."],
        ["shown", "6", "assistant", "10000", "shortened", "look_up,send", ("Good " * 40).strip()],
        ["shown", "9", "user", "4", "", "", "And?"],
        ["omitted", "1", "4", "older"],
        ["omitted", "7", "7", "unanswered"],
        ["call", "1", "look_up", '{"w": 1}', "no", "failed"],
        [
            *("attempt", "1", "2026-09-21T14:13:20.000+00:00", "2026-09-21T14:13:23.200+00:00"),
            "AGENT_TIMEOUT",
        ],
        ["attempt", "2", "2026-09-21T14:13:25.000+00:00", "2026-09-21T14:13:26.000+00:00", ""],
    ] == rows_of(done)


@pytest.mark.slow
async def test_explain_shows_a_person_the_window_in_order() -> None:
    async with streaming(an_explanation()) as server:
        arguments = (CONVERSATION, TURN)
        wide = await talked(to_the_end, server.address, *arguments, command="explain")
        narrow = await talked(to_the_end, server.address, *arguments, command="explain", columns=60)
    lines = [" ".join(line.split()) for line in wide.splitlines()]
    for line in (
        f"instructions {DIGEST[:12]}…, other ones now",
        "window 3 messages, from #5 on; 5 left out",
        "used 1,234 tokens in, 56 out, 2 requests",
        'step 1 → look_up({"w": 1}): failed: no',
        "1 2026-09-21T14:13:20+00:00 3.2 s AGENT_TIMEOUT",
        "2 2026-09-21T14:13:25+00:00 1.0 s ended",
    ):
        assert line in lines
    begin = lines.index("What it was shown")
    shown = lines[begin + 1 : begin + 6]
    assert "#1 to #4 left out: older than the window" == shown[0]
    assert "#5 you 9 B I am Ada." == shown[1]
    assert shown[2].startswith(
        "#6 agent 10,000 B (its middle was left out) → look_up, → send · Good Good"
    )
    assert ["#7 left out: not answered", "#9 you 4 B And?"] == shown[3:]
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert "#5 " in narrow


async def test_explain_of_a_turn_without_an_answer_says_what_it_would_be_shown() -> None:
    turn = parts.Turn(
        turn_id=TURN,
        state=parts.TURN_STATE_RUNNING,
        attempt=3,
        error_reason=reasons.ERROR_REASON_UNSPECIFIED,
    )
    attempts = [pb.Attempt(number=2), pb.Attempt(number=3, start_time=at(0))]
    explained = an_explanation(
        turn=turn, context=None, instructions_unchanged=True, attempts=attempts
    )
    async with streaming(explained) as server:
        screen = await talked(to_the_end, server.address, "--request-id", "r", command="explain")
    assert pb.ExplainTurnRequest(request_id="r") == server.asked[0].request
    lines = [" ".join(line.split()) for line in screen.splitlines()]
    assert "What it would be shown" in lines
    assert "agent the default agent" in lines
    assert f"instructions {DIGEST[:12]}…, the same now" in lines
    assert ["2 unknown its end is not known", "3 2026-09-21T14:13:20+00:00 running"] == lines[-2:]


async def test_explain_says_when_windows_have_another_size_now() -> None:
    context = parts.Context(first_sequence=1, message_count=7)
    async with streaming(an_explanation(context=context)) as server:
        arguments = (CONVERSATION, TURN)
        screen = await talked(to_the_end, server.address, *arguments, command="explain")
    assert "7 messages, from #1 on (windows are of another size now: 3 of them are here)" in screen


async def test_explain_without_a_turn_takes_the_newest() -> None:
    appended = parts.Message(sequence=9, role=parts.ROLE_SYSTEM)
    question = parts.Message(sequence=8, role=parts.ROLE_USER, turn_id=TURN)
    older = parts.Message(sequence=7, role=parts.ROLE_ASSISTANT, turn_id="another")
    page = pb.GetHistoryResponse(messages=[appended, question, older])
    async with streaming(page, an_explanation()) as server:
        done = await ran(server.address, "explain", CONVERSATION, "--json")
    assert pb.ORDER_NEWEST_FIRST == server.asked[0].request.order
    assert TURN == server.asked[1].request.turn_id
    told = json.loads(done.stdout)
    assert ("10000", "OMISSION_REASON_OLDER", DIGEST) == (
        told["messages"][1]["content_bytes"],
        told["omitted"][0]["reason"],
        told["instructions_digest"],
    )

    async with streaming(pb.GetHistoryResponse(messages=[appended])) as server:
        done = await ran(server.address, "explain", CONVERSATION, exit_code=2)
    assert "belong to no turn" in said(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [(), (CONVERSATION, "--request-id", "r"), (CONVERSATION, TURN, "--request-id", "r")],
)
@pytest.mark.parametrize("command", ["explain", "rehearse"])
async def test_a_turn_is_named_in_one_way(command: str, arguments: tuple[str, ...]) -> None:
    done = await ran("127.0.0.1:1", command, *arguments, exit_code=2)
    assert "name the turn: CONVERSATION [TURN], or --request-id" in said(done)


async def test_explain_of_no_turn_ends_with_4() -> None:
    async with streaming(Refusal(Code.NOT_FOUND, "TURN_NOT_FOUND", "there is none")) as server:
        done = await ran(server.address, "explain", CONVERSATION, TURN, exit_code=4)
    assert "TURN_NOT_FOUND: there is none" in said(done)


# In a conversation


@pytest.mark.slow
async def test_agents_and_explanations_inside_a_conversation() -> None:
    page = pb.GetHistoryResponse(messages=[parts.Message(sequence=1, turn_id=TURN)])

    def talk(terminal: Terminal) -> None:
        say(terminal, "/explain")
        terminal.wait_for("no messages yet")
        say(terminal, "/agents")
        assert "rehearses" in terminal.wait_for("elsewhere.")
        say(terminal, f"/open {CONVERSATION}")
        say(terminal, "/explain")
        terminal.wait_for("AGENT_TIMEOUT")
        leave(terminal)

    async with streaming(AGENTS, page, page, an_explanation()) as server:
        await talked(talk, server.address)
    assert server.asked[3].request == pb.ExplainTurnRequest(
        conversation_id=CONVERSATION, turn_id=TURN
    )


# A conversation's agent


@pytest.mark.slow
async def test_a_conversation_is_given_an_agent_and_another_one() -> None:
    found = parts.Conversation(conversation_id=CONVERSATION, agent="helper", title="A case")
    created = pb.CreateConversationResponse(conversation=found)
    updated = pb.UpdateConversationResponse(conversation=found)
    async with streaming(created, updated) as server:
        await ran(server.address, "create", "--agent", "helper")
        done = await ran(server.address, "update", CONVERSATION, "--agent", "echo", "--json")
        await ran(server.address, "update", CONVERSATION, "--agent", "")
    requests = [asked.request for asked in server.asked]
    assert ["helper", "echo", ""] == [request.agent for request in requests]
    assert [["agent"]] * 2 == [list(request.update_mask.paths) for request in requests[1:]]
    assert "helper" == json.loads(done.stdout)["agent"]


@pytest.mark.slow
async def test_update_changes_what_is_given(tmp_path: Any) -> None:
    file = tmp_path / "instructions.txt"
    file.write_text("Be brief.\n")
    async with streaming(pb.UpdateConversationResponse()) as server:
        options = ("--title", "", "--instructions-file", str(file))
        await ran(server.address, "update", CONVERSATION, *options)
        screen = await talked(
            to_the_end, server.address, CONVERSATION, "--instructions", "", command="update"
        )
    first, second = (asked.request for asked in server.asked)
    assert (["title", "instructions"], "", "Be brief.") == (
        list(first.update_mask.paths),
        first.title,
        first.instructions,
    )
    assert ["instructions"] == list(second.update_mask.paths)
    assert "Changed." in screen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "give what to change"),
        (("--instructions", "", "--instructions-file", __file__), "--instructions excludes"),
    ],
)
async def test_update_says_what_is_missing(options: tuple[str, ...], why: str) -> None:
    assert why in said(await ran("127.0.0.1:1", "update", CONVERSATION, *options, exit_code=2))


@pytest.mark.slow
async def test_a_profiles_agent_is_no_conversations(configure: Configure) -> None:
    """Fails when the option's parameter is called as the profile's key: a new title would do it."""
    async with streaming(pb.UpdateConversationResponse()) as server:
        profile = f"""
            default_profile = "work"
            [profiles.work]
            address = "{server.address}"
            agent = "helper"
        """
        variables = configure(profile) | {"PARLEY_PROFILE": "work"}
        done = await run("update", CONVERSATION, "--title", "x", **variables)
    assert 0 == done.returncode
    assert ["title"] == list(server.asked[0].request.update_mask.paths)


@pytest.mark.slow
async def test_a_conversations_agent_is_shown_where_it_is_set() -> None:
    own = parts.Conversation(conversation_id=CONVERSATION, title="A case", agent="hel\nper")
    usual = parts.Conversation(conversation_id=TURN, title="Another")
    listed = pb.ListConversationsResponse(conversations=[own, usual])
    async with streaming(listed) as server:
        rows = rows_of(await ran(server.address, "list"))
        screen = await talked(to_the_end, server.address, command="list")
    assert [["A case", "hel per"], ["Another", ""]] == [row[3:] for row in rows]
    assert "(hel per) A case" in screen
    assert "() Another" not in screen

    async with streaming(pb.GetConversationResponse(conversation=own)) as server:
        rows = rows_of(await ran(server.address, "show", CONVERSATION))
    assert ["agent", "hel per"] in rows


@pytest.mark.slow
async def test_an_agent_that_there_is_not_says_where_to_look() -> None:
    unknown = Refusal(Code.INVALID_ARGUMENT, "AGENT_UNKNOWN", "there is no agent x")
    async with streaming(unknown) as server:
        done = await ran(server.address, "create", "--agent", "x", exit_code=2)
    assert "`parley agents` shows" in said(done)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["parley chat --agent", "parley create --agent"])
async def test_agents_are_completed(line: str) -> None:
    async def completed(address: str) -> list[str]:
        done = await run(
            _PARLEY_COMPLETE="complete_bash",
            COMP_WORDS=f"{line} e",
            COMP_CWORD="3",
            PARLEY_ADDRESS=address,
        )
        assert b"" == done.stderr
        return done.stdout.decode().split()

    async with streaming(AGENTS) as server:
        assert ["echo"] == await completed(server.address)
    async with streaming(never) as server:
        assert [] == await completed(server.address)

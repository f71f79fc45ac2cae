"""The command `parley` as scripts use it: arguments, pipes, JSON, exit codes."""

import asyncio
import json
import os
import pty
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from typer.testing import CliRunner

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.app import app
from parley_client.cli.failures import row_of
from parley_client.errors import BY_REASON, ParleyError
from support.scripted_server import Code, Refusal, an_answer, never, scripted
from support.scripted_streams import streaming
from support.services import Service, a_token
from support.terminals import PARLEY, environment, run


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the variables of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("PARLEY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PARLEY_PROFILE", "none")


LONG = "a title\twith\na line break and " + "much " * 30


async def ran(service: Service, *arguments: str, stdin: bytes = b"") -> CompletedProcess[bytes]:
    """Run the command as ada; it has to work."""
    address = f"127.0.0.1:{service.port}"
    done = await run(*arguments, stdin=stdin, PARLEY_ADDRESS=address, PARLEY_TOKEN=a_token())
    assert (0, b"") == (done.returncode, done.stderr)
    return done


async def test_chat_prints_the_answer_and_nothing_else(service: Service) -> None:
    assert b"HELLO\n" == (await ran(service, "chat", "hello")).stdout


@pytest.mark.slow
async def test_chat_goes_on_with_a_conversation(service: Service) -> None:
    first = await service.chat("hello")
    await ran(service, "chat", "more", "--conversation", first.conversation_id)
    assert 4 == (await service.history(first.conversation_id)).last_sequence


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("chat", "-"), ("chat",)])
async def test_chat_reads_a_message_from_a_pipe(
    service: Service, arguments: tuple[str, ...]
) -> None:
    done = await ran(service, *arguments, stdin="zwei\nZeilen: äöü\n".encode())
    assert "ZWEI\nZEILEN: ÄÖÜ\n".encode() == done.stdout


@pytest.mark.slow
async def test_chat_as_json_is_the_contracts_answer(service: Service) -> None:
    done = await ran(service, "chat", "hello", "--json", "--request-id", "order-7")
    answer = json.loads(done.stdout)

    assert ("HELLO", "FINISH_REASON_STOP") == (answer["response"], answer["finish_reason"])
    assert ("2", False, []) == (
        answer["response_sequence"],
        answer["replayed"],
        answer["tool_calls"],
    )
    assert (await service.turn(request_id="order-7")).turn_id == answer["turn_id"]
    again = await ran(service, "chat", "hello", "--json", "--request-id", "order-7")
    assert {**answer, "replayed": True} == json.loads(again.stdout)


@pytest.mark.slow
async def test_history_prints_messages_in_order(service: Service) -> None:
    conversation_id = (await service.chat("one")).conversation_id
    await service.chat("two", conversation_id=conversation_id)

    lines = (await ran(service, "history", conversation_id)).stdout.decode().splitlines()
    assert ["#1 you", "#2 agent", "#3 you", "#4 agent"] == [
        line.partition(" · ")[0] for line in lines if line.startswith("#")
    ]
    assert ["one", "ONE", "two", "TWO"] == lines[1::3]


@pytest.mark.slow
async def test_history_is_limited_and_turned_around(service: Service) -> None:
    conversation_id = (await service.chat("one")).conversation_id
    await service.chat("two", conversation_id=conversation_id)

    done = await ran(service, "history", conversation_id, "--newest-first", "-n", "3", "--json")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["TWO", "two", "ONE"] == [message["content"] for message in messages]
    assert ["ROLE_ASSISTANT", "ROLE_USER", "ROLE_ASSISTANT"] == [m["role"] for m in messages]


async def test_history_shows_tool_calls_a_line_each() -> None:
    call = conversation_pb2.ToolCall(name="search", arguments='{"q":\n1}', result="no\nluck")
    message = conversation_pb2.Message(
        sequence=2, role=conversation_pb2.ROLE_ASSISTANT, content="HELLO", tool_calls=[call, call]
    )
    async with scripted(pb.GetHistoryResponse(messages=[message])) as server:
        done = await run("history", str(uuid.uuid4()), "--address", server.address)
    assert ['  → search({"q": 1}): no luck'] * 2 == done.stdout.decode().splitlines()[1:3]


@pytest.mark.slow
async def test_list_prints_a_line_for_each_conversation(service: Service) -> None:
    first = await service.chat(LONG)
    second = await service.chat("another")

    lines = (await ran(service, "list")).stdout.decode().splitlines()
    fields = [line.split("\t") for line in lines]
    assert [5, 5] == [len(each) for each in fields]
    assert [second.conversation_id, first.conversation_id] == [each[0] for each in fields]
    assert ["2", "another", ""] == fields[0][2:]
    assert fields[1][3].startswith("a title with a line break and much")


async def test_list_is_limited_and_may_be_json(service: Service) -> None:
    for n in range(3):
        await service.chat(f"number {n}")
    done = await ran(service, "list", "--json", "--limit", "2")
    listed = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["number 2", "number 1"] == [conversation["title"] for conversation in listed]


async def test_a_pipe_gets_the_answer_as_it_was_said() -> None:
    async with streaming(an_answer("\x1b[31mred\r\n")) as server:
        done = await run("chat", "hello", "--address", server.address)
    assert b"\x1b[31mred\r\n\n" == done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exit_code", "refusal"),
    [
        (1, Refusal(Code.FAILED_PRECONDITION, "AGENT_REFUSED")),
        (2, Refusal(Code.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (3, Refusal(Code.UNAUTHENTICATED, "UNAUTHENTICATED")),
        (4, Refusal(Code.NOT_FOUND, "CONVERSATION_NOT_FOUND")),
        (5, Refusal(Code.ABORTED, "TURN_IN_PROGRESS", retry_s=1)),
        (6, Refusal(Code.UNAVAILABLE, "AGENT_UNAVAILABLE", retry_s=0.01)),
    ],
    ids=str,
)
async def test_an_error_ends_with_its_exit_code(exit_code: int, refusal: Refusal) -> None:
    async with streaming(refusal) as server:
        done = await run("chat", "hello", "--address", server.address)
    assert (exit_code, b"") == (done.returncode, done.stdout)
    assert f"parley: {refusal.reason}: {refusal.text}" == done.stderr.decode().splitlines()[0]


def test_every_error_has_an_exit_code_by_its_kind() -> None:
    exit_codes: dict[int, set[str]] = {}
    for reason, kind in BY_REASON.items():
        exit_codes.setdefault(row_of(kind("")).exit_code, set()).add(reason)
    assert {
        1: {
            "AGENT_REFUSED",
            "ATTEMPTS_EXHAUSTED",
            "CONVERSATION_EXISTS",
            "CURSOR_EXPIRED",
            "INTERNAL",
            "NOT_A_TURN_BOUNDARY",
            "NO_REHEARSAL",
            "REQUEST_ID_REUSED",
            "SEQUENCE_NOT_REACHED",
            "WINDOW_INCOMPLETE",
        },
        2: {"AGENT_UNKNOWN", "INVALID_PAGE_TOKEN", "INVALID_REQUEST"},
        3: {"SCOPE_MISSING", "UNAUTHENTICATED"},
        4: {"CONVERSATION_NOT_FOUND", "TURN_NOT_FOUND"},
        5: {
            "CALL_NOT_PENDING",
            "LEASE_LOST",
            "RESULT_ALREADY_GIVEN",
            "REVISION_MISMATCH",
            "SEQUENCE_MISMATCH",
            "TURN_IN_PROGRESS",
            "TURN_SUPERSEDED",
        },
        6: {
            "AGENT_TIMEOUT",
            "AGENT_UNAVAILABLE",
            "BUDGET_EXHAUSTED",
            "CALLER_LOST",
            "DEADLINE_TOO_SHORT",
            "KEYS_UNAVAILABLE",
            "OVERLOADED",
            "QUEUE_FULL",
            "STORE_UNAVAILABLE",
            "TURN_ABANDONED",
            "TURN_LIMIT_REACHED",
            "WATCH_EXPIRED",
            "WORKER_DRAINED",
        },
    } == exit_codes
    assert 1 == row_of(ParleyError("")).exit_code


@pytest.mark.slow
async def test_a_server_that_is_away_is_said_so() -> None:
    async with scripted(an_answer()) as server:
        pass
    done = await run("list", "--address", server.address)
    assert 6 == done.returncode
    assert f"Is the server running at {server.address}?" in done.stderr.decode()


async def test_a_call_that_is_too_slow_can_be_made_again() -> None:
    async with streaming(never) as server:
        done = await run("chat", "hello", "--address", server.address, "--timeout", "0.5")
    assert 6 == done.returncode
    message = done.stderr.decode()
    assert "Allow more time with --timeout." in message
    assert f"--request-id {server.asked[0].request.chat.request_id}" in message


async def test_errors_are_harmless_and_explained() -> None:
    refusal = Refusal(Code.NOT_FOUND, "CONVERSATION_NOT_FOUND", "no \x1b[2J conversation")
    async with scripted(refusal) as server:
        done = await run("history", "x", "--address", server.address)
    assert (
        "parley: CONVERSATION_NOT_FOUND: no ␛[2J conversation\n"
        "  `parley list` shows the conversations that this token may see.\n"
    ) == done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "hello", "--timeout", "0"),
        ("chat", "hello", "--timeout", "inf"),  # for gRPC it would be over
        ("chat", "hello", "--nonsense"),
        ("history",),
        ("list", "--limit", "0"),
        ("watch",),
        ("watch", "x", "--after", "-1"),
        ("list", "--plaintext", "--ca-file", __file__),
        ("list", "--token", "one", "--token-file", "two"),
        ("list", "--token-file", "no/such/file"),
        ("list", "--ca-file", "no/such/file"),
        ("list", "--token", "one\ntwo"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_a_sentence(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, arguments, env={"PARLEY_ADDRESS": "127.0.0.1:1"})
    assert isinstance(done.exception, SystemExit)
    assert (2, "") == (done.exit_code, done.stdout)
    assert done.stderr


async def test_wrong_usage_leaves_no_trace() -> None:
    done = await run("list", "--token-file", "no/such/file")
    assert 2 == done.returncode
    assert b"no/such/file" in done.stderr
    assert b"Traceback" not in done.stderr


async def test_standard_input_has_to_be_utf_8() -> None:
    done = await run("chat", "-", stdin=b"\xff\xfe", PARLEY_ADDRESS="127.0.0.1:1")
    assert 2 == done.returncode
    assert b"the message is not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("used", "arguments", "variables"),
    [
        ("env", (), ("PARLEY_TOKEN",)),
        ("file", (), ("PARLEY_TOKEN_FILE",)),
        ("option", ("--token", "option"), ("PARLEY_TOKEN",)),
        ("option", ("--token", "option"), ("PARLEY_TOKEN_FILE",)),
        ("file", ("--token-file", "FILE"), ("PARLEY_TOKEN",)),
    ],
)
async def test_a_token_option_goes_before_the_environment(
    used: str, arguments: tuple[str, ...], variables: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text("file")
    values = {"PARLEY_TOKEN": "env", "PARLEY_TOKEN_FILE": str(path)}
    line = ["list", *(str(path) if a == "FILE" else a for a in arguments)]
    async with scripted(pb.ListConversationsResponse()) as server:
        done = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            [*line, "--address", server.address],
            env={name: values[name] for name in variables},
        )
    assert 0 == done.exit_code
    assert [f"Bearer {used}"] == [asked.metadata["authorization"] for asked in server.asked]


def test_an_empty_variable_counts_as_unset() -> None:
    env = {"PARLEY_TOKEN": "", "PARLEY_TOKEN_FILE": "", "PARLEY_ADDRESS": "", "PARLEY_CA_FILE": ""}
    done = CliRunner().invoke(app, ["list", "--timeout", "0.5"], env=env)
    assert (6, "") == (done.exit_code, done.stdout)
    assert "127.0.0.1:50051" in done.stderr or "DEADLINE_EXCEEDED" in done.stderr


def test_two_tokens_in_the_environment_are_one_too_many() -> None:
    env = {"PARLEY_TOKEN": "env", "PARLEY_TOKEN_FILE": __file__}
    assert 2 == CliRunner().invoke(app, ["list"], env=env).exit_code


async def test_help_names_commands_and_exit_codes() -> None:
    done = await run("--help")
    text = " ".join(done.stdout.decode().split())
    assert 0 == done.returncode
    for word in ("chat", "watch", "history", "list", "create", "delete", "Exit codes:"):
        assert word in text


def test_version_is_that_of_the_package() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (0, f"parley {version('parley')}\n") == (done.exit_code, done.stdout)


# How a script may start it


async def test_a_pipe_stays_a_pipe_where_colours_are_forced(service: Service) -> None:
    """Rich takes a pipe for a terminal then, and services of CI set the variable."""
    conversation_id = (await service.chat("a\x1b[31m **b**")).conversation_id
    variables = {
        "PARLEY_ADDRESS": f"127.0.0.1:{service.port}",
        "PARLEY_TOKEN": a_token(),
        "FORCE_COLOR": "1",
    }
    listed = await run("list", **variables)
    assert listed.stdout.startswith(f"{conversation_id}\t20".encode())
    answer = await run("ask", "a\x1b[31m **b**", **variables)
    assert (b"A\x1b[31M **B**\n", b"") == (answer.stdout, answer.stderr)


async def in_bash(service: Service, line: str) -> CompletedProcess[bytes]:
    variables = {"PARLEY_ADDRESS": f"127.0.0.1:{service.port}", "PARLEY_TOKEN": a_token()}
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", line, "bash", *PARLEY],
        capture_output=True,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "exit_code", "stdout"),
    [
        ('"$@" ask hello <&-', 0, b"HELLO\n"),
        ('"$@" chat <&-', 2, b""),  # an empty message
        ('"$@" list >&-', 0, b""),
        ('"$@" ask hello >&-', 0, b""),
        ('"$@" export >&-', 0, b""),
        ('"$@" show none 2>&-', 2, b""),  # no error on standard output
    ],
)
async def test_closed_streams_lead_nowhere(
    line: str, exit_code: int, stdout: bytes, service: Service
) -> None:
    await service.chat()
    done = await in_bash(service, line)
    assert (exit_code, stdout) == (done.returncode, done.stdout), done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["--version", "list", "export", "profiles"])
async def test_a_full_disk_is_said_so(arguments: str, service: Service, tmp_path: Path) -> None:
    await service.chat()
    config = tmp_path / "config.toml"
    config.write_text("[profiles.work]\ntimeout = 3\n")
    line = f'PARLEY_CONFIG_FILE={config} "$@" {arguments} > /dev/full'
    done = await in_bash(service, line)
    assert (1, b"parley: [Errno 28] No space left on device\n") == (done.returncode, done.stderr)


# A shell's job in the background, whose end or stop it tells.
JOB = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(job, os.WUNTRACED)
if os.WIFSTOPPED(status):
    os.killpg(job, 9)
    sys.exit("stopped")
sys.exit(os.waitstatus_to_exitcode(status))
"""


async def test_an_answer_comes_to_a_job_in_the_background(service: Service) -> None:
    """A process in the background is stopped when it changes what its terminal does with keys."""
    ours, theirs = pty.openpty()
    variables = {"PARLEY_ADDRESS": f"127.0.0.1:{service.port}", "PARLEY_TOKEN": a_token()}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", JOB, *PARLEY, "ask", "hello"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**variables),
        start_new_session=True,
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert (0, b"HELLO\n", b"") == (done.returncode, done.stdout, done.stderr)

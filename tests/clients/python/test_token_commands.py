"""Tokens that a command prints."""

import base64
import json
import sys
from pathlib import Path

import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.tokens import NoToken, TokenCommand
from parley_client.cli.words import loss_of
from parley_client.errors import Unavailable
from parley_client.tokens import tokenless
from support.configs import NOWHERE
from support.scripted_server import Code, Refusal, an_answer, scripted
from support.scripted_streams import chunk, started, streaming
from support.terminals import run

REFUSED = Refusal(Code.UNAUTHENTICATED, "UNAUTHENTICATED")


def a_jwt(expires_at: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires_at}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.c2ln"


def counting(tmp_path: Path, *tokens: str) -> str:
    """Return a command that prints one token after the other, and the last one from then on."""
    script = tmp_path / "token.py"
    script.write_text(
        "import pathlib\n"
        f"runs, tokens = pathlib.Path({str(tmp_path / 'runs')!r}), {tokens!r}\n"
        "n = len(runs.read_text()) if runs.exists() else 0\n"
        "runs.write_text('.' * (n + 1))\n"
        "print(tokens[min(n, len(tokens) - 1)])\n"
    )
    return f"'{sys.executable}' '{script}'"


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text())


def test_a_token_command_runs_again_only_when_the_token_has_expired(tmp_path: Path) -> None:
    now = 1_000_000.0
    first, second = a_jwt(now + 100), a_jwt(now + 1000)
    command = TokenCommand(counting(tmp_path, first, second), clock=lambda: now)
    assert [first, first] == [command(), command()]
    now += 69.9
    assert first == command()
    now += 0.1
    assert [second, second] == [command(), command()]
    command.forget()
    assert second == command()
    assert 3 == runs(tmp_path)


@pytest.mark.slow
async def test_a_token_that_is_refused_is_asked_for_once_more(tmp_path: Path) -> None:
    """Fails when the first refusal stands, and when a stream asks without an end."""
    line = ("--token-command", counting(tmp_path, "one", "two"))
    async with scripted(REFUSED, pb.ListConversationsResponse()) as server:
        done = await run("list", "--address", server.address, *line)
        assert 0 == done.returncode, done.stderr
        assert ["Bearer one", "Bearer two"] == [a.metadata["authorization"] for a in server.asked]
    async with streaming(REFUSED, an_answer()) as server:
        done = await run("ask", "hello", "--address", server.address, *line)
        assert (0, b"HELLO\n") == (done.returncode, done.stdout)
        assert 1 == len({asked.request.chat.request_id for asked in server.asked})
    async with streaming([started(), chunk("HE", 0), REFUSED], REFUSED) as server:
        done = await run("ask", "hello", "--address", server.address, *line)
        assert 3 == done.returncode
        assert [0, 1] == [asked.request.after_attempt for asked in server.asked]


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("the token command cannot run: ", "no-such-command-here"),
        ("ended with 3", f"'{sys.executable}' -c 'raise SystemExit(3)'"),
        ("printed nothing", f"'{sys.executable}' -c pass"),
    ],
)
async def test_a_command_that_prints_no_token_ends_with_3(said: str, command: str) -> None:
    with pytest.raises(NoToken, match=said):
        TokenCommand(command)()
    done = await run("list", "--address", NOWHERE, "--token-command", command)
    assert (3, b"") == (done.returncode, done.stdout)
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("command", ["'no end", "  "])
async def test_a_token_command_that_is_none_is_wrong_usage(command: str) -> None:
    done = await run("list", "--address", NOWHERE, "--token-command", command)
    assert 2 == done.returncode
    assert b"--token-command" in done.stderr


async def test_a_token_command_does_not_read_the_message() -> None:
    async with streaming(an_answer()) as server:
        line = ("--address", server.address, "--token-command", "cat")
        done = await run("ask", "-", *line, stdin=b"hello")
    assert 3 == done.returncode  # it printed nothing
    assert [] == server.asked


async def test_a_token_file_that_is_not_utf_8_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes("a token".encode("utf-16"))
    done = await run("list", "--address", NOWHERE, "--token-file", str(file))
    assert (2, b"parley: the token file is not UTF-8\n") == (done.returncode, done.stderr)


def test_a_stream_that_waits_for_its_token_says_so() -> None:
    """Fails when it speaks of a connection that was lost, and the user looks for that one."""
    failed = NoToken("the token command vault ended with 2")
    said = loss_of(tokenless(failed, "r"))
    assert "no token: the token command vault ended with 2" == said
    assert "connection lost" == loss_of(Unavailable("stream reset"))
    assert "worker drained" == loss_of(Unavailable("x", reason="WORKER_DRAINED"))


async def test_a_token_file_without_a_token_is_said_so(tmp_path: Path) -> None:
    """Fails when the call is made without one: the server then says only that it needs one."""
    file = tmp_path / "token"
    file.write_text("\n")
    done = await run("list", "--address", NOWHERE, PARLEY_TOKEN_FILE=str(file))
    assert 3 == done.returncode
    assert f"parley: the token file {file} is empty" in " ".join(done.stderr.decode().split("\n"))

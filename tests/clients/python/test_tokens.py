"""Where tokens come from, and that each call asks anew."""

import asyncio
import math
import os
from pathlib import Path
from typing import Any

import pytest

from parley_client import AsyncParleyClient, DeadlineExceeded, ParleyClient, TokenFile
from parley_client.tokens import metadata_from, metadata_from_async
from support.scripted_server import Refusal, an_answer, scripted
from support.services import Service, a_token


def replace(path: Path, text: str, mtime_ns: int) -> None:
    """Put a new file in the place of another, as a mounted secret changes."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    os.utime(draft, ns=(mtime_ns, mtime_ns))
    draft.rename(path)


@pytest.mark.parametrize("token", [None, "", "  \n"])
def test_without_a_token_there_is_no_metadata(token: str | None) -> None:
    assert () == metadata_from(token)


def test_a_token_is_stripped() -> None:
    assert (("authorization", "Bearer abc"),) == metadata_from("abc\n")


@pytest.mark.parametrize("token", ["a\nb", "tökén", "a\x00b"])
def test_what_cannot_be_a_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        metadata_from(token)
    assert token not in str(caught.value)


async def test_a_function_is_asked_before_every_call() -> None:
    tokens = iter(["one", "two"])

    async def later() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    async with (
        scripted(an_answer()) as server,
        AsyncParleyClient(server.address, token=later) as client,
    ):
        await client.chat("hello")
        await client.chat("hello")
    assert ["Bearer one", "Bearer two"] == [a.metadata["authorization"] for a in server.asked]


async def test_the_clients_own_retry_asks_for_a_token_again() -> None:
    tokens = iter(["one", "two"])
    import grpc

    lost = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=0.01)
    async with scripted(lost, an_answer()) as server:
        with ParleyClient(server.address, token=lambda: next(tokens)) as client:
            await asyncio.to_thread(client.chat, "hello")
    assert ["Bearer one", "Bearer two"] == [a.metadata["authorization"] for a in server.asked]


def test_the_synchronous_client_takes_no_asynchronous_function() -> None:
    async def later() -> str:
        return "one"

    with pytest.raises(TypeError, match="needs AsyncParleyClient"):
        metadata_from(later)  # type: ignore[arg-type] # that is the point


async def test_the_asynchronous_client_takes_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from a file\n".replace(" ", "-"))
    for token, text in [("plain", "plain"), (lambda: "called", "called")]:
        assert f"Bearer {text}" == (await metadata_from_async(token, 1, ""))[0][1]
    assert "Bearer from-a-file" == (await metadata_from_async(TokenFile(path), 1, ""))[0][1]


async def test_a_token_function_takes_no_longer_than_the_call_may() -> None:
    """Fails when the function is waited for without a limit."""

    async def never() -> str:
        await asyncio.sleep(math.inf)
        raise AssertionError

    async with (
        scripted(an_answer()) as server,
        AsyncParleyClient(server.address, token=never) as client,
    ):
        with pytest.raises(DeadlineExceeded, match="no token in time") as late:
            await asyncio.wait_for(client.chat("hello", request_id="r", timeout_s=0.1), 5)
        with pytest.raises(DeadlineExceeded):
            async with asyncio.timeout(5):
                await anext(client.stream("hello", timeout_s=0.1))
    assert "r" == late.value.request_id
    assert [] == server.asked


async def test_a_token_functions_own_timeout_is_its_own() -> None:
    async def late() -> str:
        raise TimeoutError("the issuer")

    async with AsyncParleyClient(token=late) as client:
        with pytest.raises(TimeoutError, match="the issuer"):
            await client.chat("hello")


@pytest.mark.parametrize("token", [b"one", lambda: b"one"], ids=["given", "returned"])
async def test_a_token_that_is_no_text_is_refused_by_its_type(token: Any) -> None:
    with pytest.raises(TypeError, match="has to be a str, not bytes"):
        metadata_from(token)
    with pytest.raises(TypeError, match="has to be a str, not bytes"):
        await metadata_from_async(token, 1, "")


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    replace(path, "one", 1_000)
    token = TokenFile(path)
    assert ["one", "one"] == [token(), token()]
    replace(path, "two", 2_000)
    assert "two" == token()
    replace(path, "six", 2_000)  # the same size and time: another file
    assert "six" == token()


def test_a_token_file_that_did_not_change_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path)
    token()
    monkeypatch.setattr(Path, "read_text", None)
    assert "one" == token()


def test_a_token_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        TokenFile(tmp_path / "nothing-here")()


async def test_a_new_token_in_the_file_opens_the_server(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "token"
    replace(path, "expired", 1_000)
    async with AsyncParleyClient(f"127.0.0.1:{service.port}", token=TokenFile(path)) as client:
        with pytest.raises(Exception, match="a valid bearer token is required"):
            await client.chat("hello")
        replace(path, a_token(), 2_000)
        assert "HELLO" == (await client.chat("hello")).response

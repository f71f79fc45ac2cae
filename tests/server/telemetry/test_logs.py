"""What libraries log, as Parley writes it down."""

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator
from functools import partial

import pytest
import structlog

from parley_server.telemetry import logs
from support.http2 import Connection, message
from support.services import Service, a_token

SAID = "the quick brown fox"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged by libraries."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.set_up("json")
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def fail(_: str) -> None:
    raise ValueError(SAID)


async def fail_unseen() -> None:
    fail("")


async def test_what_fails_unseen_is_logged_without_what_was_said(written: io.StringIO) -> None:
    """Fails when asyncio's own words are kept: they show exceptions and arguments."""
    task = asyncio.create_task(fail_unseen())
    await asyncio.wait([task])
    del task
    asyncio.get_running_loop().call_soon(fail, SAID)
    asyncio.get_running_loop().call_soon(partial(fail, SAID))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    lines = [json.loads(line) for line in written.getvalue().splitlines()]

    assert SAID not in str(lines)
    assert ["ValueError"] * 3 == [line["error"] for line in lines]
    assert {"Exception in callback", "Task exception was never retrieved"} == {
        line["event"] for line in lines
    }
    assert all(line["place"].endswith(" fail") for line in lines)


async def test_metadata_that_is_no_text_is_not_shown(
    service: Service, written: io.StringIO
) -> None:
    """A token with an odd byte, and what a stranger sends: thousands of values in one call.

    Fails without the filter: gRPC logs each value twice, before any token is checked.
    """
    token = a_token()
    connection = await Connection.opened(service.port)
    odd = [("authorization", f"Bearer {token}\udcff"), *[("x", f"{SAID}\udcff")] * 20]
    stream, frames = connection.call("ListAgents", odd, message(b""))
    await connection.send(frames)

    assert b"grpc-status" in await connection.end_of(stream)
    assert "" == written.getvalue()
    connection.close()

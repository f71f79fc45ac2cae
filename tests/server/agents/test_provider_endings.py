"""When a stream is over, by the clock: what is waited for behind the end of an answer."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from parley_server.agents.boundary import body, hook
from support.wire_provider import DONE, chunk, event

PING = ": ping\n\n"


async def read_from(stream: httpx2.AsyncByteStream, path: str, status: int = 200) -> str:
    """Return what a client behind the boundary reads."""
    answer = httpx2.Response(status, stream=stream)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: answer)) as client:
        hook.Boundary().guard(client)
        got = await client.post(f"http://provider{path}", json={"stream": True}, timeout=None)
    return got.text


class Slowly(httpx2.AsyncByteStream):
    """Pieces, and before each of them the clock moves on."""

    def __init__(self, step_s: float, *pieces: str) -> None:
        self._step_s = step_s
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        time, skipped_s = loop.time, 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "time", lambda: time() + skipped_s)
            for piece in self._pieces:
                skipped_s += self._step_s
                for _ in range(3):  # whoever waits for it is woken
                    await asyncio.sleep(0)
                yield piece.encode()


@pytest.mark.parametrize(
    ("expected", "pieces"),
    [
        ("abc", [chunk({"content": each}, "stop") for each in "abc"]),
        ("a", [chunk({"content": "a"}, "stop"), PING, PING, PING, chunk({"content": "b"})]),
    ],
    ids=["text", "keep-alives"],
)
async def test_what_says_more_behind_a_finish_reason_is_waited_for(
    expected: str, pieces: list[str]
) -> None:
    """Fails for text if the end is awaited from the first finish reason on alone."""
    stream = Slowly(0.6 * hook.END_S, *pieces, DONE)
    got = await read_from(stream, "/chat/completions")
    events = [line[6:] for line in got.split("\n") if line.startswith("data: {")]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]

    assert expected == "".join(delta.get("content", "") for delta in deltas)


class LeftOpen(httpx2.AsyncByteStream):
    """Bytes, and then nothing: not even the end."""

    def __init__(self, body: str) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body.encode()
        await asyncio.Event().wait()


BEGUN = {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 1}}
WHOLE = {
    "/chat/completions": chunk({"content": "ab"}, "stop") + DONE,
    "/responses": event({"type": "response.output_text.delta", "delta": "ab"})
    + event({"type": "response.completed", "response": {"id": "r"}}),
    "/messages": event({"type": "message_start", "message": BEGUN})
    + event({"type": "message_stop"}),
}


@pytest.mark.parametrize("path", WHOLE)
async def test_a_connection_that_is_left_open_behind_the_end_holds_up_no_answer(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Fails if all that may come behind the end is waited for."""
    monkeypatch.setattr(hook, "DRAIN_S", 0.01)
    async with asyncio.timeout(10):
        got = await read_from(LeftOpen(WHOLE[path]), path)

    assert got.endswith("\n\n")


async def test_an_error_whose_body_never_ends_is_known_by_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails if all of its body is waited for: the turn takes until its deadline."""
    monkeypatch.setattr(body, "ERROR_S", 0.01)
    async with asyncio.timeout(10):
        got = await read_from(LeftOpen('{"error":'), "/chat/completions", 429)

    assert '{"error":' == got

"""A provider that writes without end: the turn ends, the worker stays small, others are served."""

import asyncio
import gzip
from pathlib import Path

import pytest

from parley_server.agents.catalog import create_agent
from support.fake_openai import FakeOpenAI, Forever, Raw, Say
from support.openai_script import Json, Step
from support.services import StartService, refused
from support.wire_provider import called, chunk, event, said

MAX_GROWTH_BYTES = 50_000_000
A_LOT = 64 * 1024
_TEXT = 'data: {"choices":[{"delta":{"content":"'

FLOODS: dict[str, Step] = {
    "an endless line": Forever(_TEXT.encode(), b"a" * A_LOT),
    "an endless comment": Forever(b":", b"a" * A_LOT),
    "an endless event": Forever(b"", b"data: [\n" * 8000),
    "endless JSON": Forever(b'{"choices":[', b" " * A_LOT),
    "endless keep-alives": Forever(b"", b": ping\n\n" * 8000),
    "endless blank lines": Forever(b"", b"\n" * A_LOT),
    "a bomb": Raw(
        gzip.compress(_TEXT.encode() + b"a" * 200_000_000, 1),
        content_type="text/event-stream\r\ncontent-encoding: gzip",
    ),
    "endless pings": Forever(b"", b"event: ping\ndata: {}\n\n" * 3000),
    "endless nothing": Forever(b"", b"data: {}\n\n" * 6000),
    "endless usage": Forever(
        b"", (event({"choices": [], "usage": {"prompt_tokens": 1}}) * 500).encode()
    ),
}
ENDED: dict[str, Step] = {
    "endless calls": Forever(
        b"", called({"function": {"name": "a", "arguments": "{}"}}).encode() * 9
    ),
    "endless arguments": Forever(
        called({"id": "i", "function": {"name": "a", "arguments": '{"a":"'}}).encode(),
        called({"function": {"arguments": "a" * 10_000}}).encode(),
    ),
    "endless text": Forever(b"", said("a" * 1000).encode() * 50),
    "endless thoughts": Forever(b"", chunk({"reasoning": "a" * 1000}).encode() * 50),
    "endless tagged thoughts": Forever(said("<think>").encode(), said("a" * 1000).encode() * 50),
    "endless behind the end": Forever((said("a") + chunk({}, "stop")).encode(), b": \n\n" * 8000),
}


def _memory(key: str) -> int:
    """Return one number of the memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def _peak_begins() -> int:
    """Let the peak of this process begin here. Returns: its memory, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


@pytest.mark.slow
@pytest.mark.parametrize("how", [*FLOODS, *ENDED])
async def test_a_flood_ends_its_turn_and_leaves_the_worker_small(
    start_service: StartService, how: str
) -> None:
    """Fails without the bounds: an endless line grows by 80 MB a second until the deadline."""

    def step(request: Json) -> Step:
        is_flooded = request["messages"][-1]["content"] == "flood"
        return {**FLOODS, **ENDED}[how] if is_flooded else Say("Hello.")

    with FakeOpenAI([step]) as fake:
        service = await start_service(create_agent("openai-chat:x", openai_base_url=fake.base_url))
        await service.chat("hello")
        before = _peak_begins()
        flooded = asyncio.ensure_future(service.chat("flood", timeout=60))
        for _ in range(3):
            assert "Hello." == (await service.chat("hello", timeout=10)).response
        if how in FLOODS:
            assert ("UNAVAILABLE", "AGENT_UNAVAILABLE") == await refused(flooded)
        else:
            await flooded
        grown = _memory("VmHWM") - before

    assert MAX_GROWTH_BYTES > grown

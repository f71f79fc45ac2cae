"""Reading streams of answers, as a caller does."""

from typing import Any

import grpc

from parley.v1 import conversation_service_pb2 as pb

Stream = Any
"""A call; its `read` returns the next event, or EOF, which the stubs call an object."""


async def next_of(stream: Stream, kind: str) -> pb.StreamChatResponse:
    """Return the next event, which has to be of this kind."""
    event = await stream.read()
    assert isinstance(event, pb.StreamChatResponse), f"the stream ended: {event}"
    assert kind == event.WhichOneof("event")
    return event


async def rest_of(stream: Stream) -> list[pb.StreamChatResponse]:
    return await _rest_of(stream)


async def resumed_events(stream: Stream) -> list[pb.StreamChatResponse]:
    """Return the events of StreamResumeTurn."""
    return [told.event for told in await _rest_of(stream)]


async def _rest_of(stream: Stream) -> list[Any]:
    events = []
    while (event := await stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # not in its stubs
        events.append(event)
    return events


async def until_progress(watch: Stream) -> list[pb.WatchTurnsResponse]:
    """Read a watch of turns until it says that all was told; the progress comes last."""
    updates: list[pb.WatchTurnsResponse] = []
    while not updates or not updates[-1].HasField("progress"):
        update = await watch.read()
        assert isinstance(update, pb.WatchTurnsResponse), update
        updates.append(update)
    return updates


def text_of(events: list[pb.StreamChatResponse]) -> str:
    return "".join(e.chunk.text for e in events)

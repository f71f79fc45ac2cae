"""The scripted server, for streams too: a step may be a list of events, and end in a refusal."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc
from support.scripted_server import Refusal, ScriptedServer, Step

Events = list[Step]


class ScriptedStreams(ScriptedServer):
    """Sends a step's events one by one. An answer alone is a turn that had ended before."""

    def __init__(self, *steps: Step | Events) -> None:
        super().__init__(*steps)  # type: ignore[arg-type]  # streams take lists as well

    async def StreamChat(  # type: ignore[override]  # noqa: N802 - a coroutine that writes
        self, request: Any, context: Any
    ) -> None:
        await self._send(request, context)

    async def StreamResumeTurn(  # type: ignore[override]  # noqa: N802 - a coroutine that writes
        self, request: Any, context: Any
    ) -> None:
        await self._send(request, context)

    async def WatchConversation(  # type: ignore[override]  # noqa: N802 - a coroutine that writes
        self, request: Any, context: Any
    ) -> None:
        await self._send(request, context)

    async def WatchTurns(  # type: ignore[override]  # noqa: N802 - a coroutine that writes
        self, request: Any, context: Any
    ) -> None:
        await self._send(request, context)

    async def RehearseTurn(  # type: ignore[override]  # noqa: N802 - a coroutine that writes
        self, request: Any, context: Any
    ) -> None:
        await self._send(request, context)

    async def ExportConversations(  # type: ignore[override]  # noqa: N802 - a coroutine that writes
        self, request: Any, context: Any
    ) -> None:
        await self._send(request, context)

    async def CancelTurn(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._step(request, context)

    async def _send(self, request: Any, context: Any) -> None:
        step: Any = await self._step(request, context)
        events: Sequence[Any] = step if isinstance(step, list) else [step]
        for event in events:
            if callable(event):
                event = await self._came_of(event, request)
            if isinstance(event, Refusal):
                await context.abort(event.code, event.text, event.trailing_metadata)
            if isinstance(event, pb.ChatResponse):
                event = completed(event)
            await context.write(event)

    async def _came_of(self, step: Any, request: Any) -> Any:
        try:
            return await step(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class PushedBack(Refusal):
    """A refusal whose wait is so long that the server asks for no retry."""

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return tuple(
            (key, "-1" if key == "grpc-retry-pushback-ms" else value)
            for key, value in super().trailing_metadata
        )


@asynccontextmanager
async def streaming(*steps: Step | Events) -> AsyncIterator[ScriptedStreams]:
    """Serve the steps inside the block."""
    servicer = ScriptedStreams(*steps)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_ConversationServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


def started(attempt: int = 1, **fields: Any) -> pb.StreamChatResponse:
    return pb.StreamChatResponse(attempt=attempt, started=pb.TurnStarted(**fields))


def chunk(text: str, index: int, attempt: int = 1) -> pb.StreamChatResponse:
    return pb.StreamChatResponse(attempt=attempt, index=index, chunk=pb.TextChunk(text=text))


def completed(answer: pb.ChatResponse, attempt: int = 0) -> pb.StreamChatResponse:
    return pb.StreamChatResponse(attempt=attempt, completed=answer)

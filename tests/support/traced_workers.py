"""Workers that record traces, and the collector that they send them to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.agents.model_strings import model_of
from parley_server.agents.pydantic_agent import PydanticAgent
from support.fake_openai import FakeOpenAI
from support.otlp_receiver import Received, Receiver
from support.services import Service, StartService, metadata

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
PARENT = ("traceparent", f"00-{TRACE}-{CALLER}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{CALLER}-00")
CHAT = "parley.v1.ConversationService/Chat"
SEND_MS = 50
"""How soon spans are sent, for the tests not to wait."""

Traced = Callable[..., Awaitable[Service]]


def aim(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Have workers that are started from now on send their traces there, and soon."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(SEND_MS))


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A collector that the workers of this test send their traces to."""
    with Receiver() as receiver:
        aim(monkeypatch, receiver.endpoint)
        yield receiver


@pytest.fixture
def start_traced(receiver: Receiver, start_service: StartService) -> Traced:
    """Start a worker that records: `await start_traced(agent, traces_sample=0.5)`."""

    async def start(agent: Any = None, **changes: Any) -> Service:
        return await start_service(agent, traces="otlp", **changes)

    return start


def a_model_agent(fake: FakeOpenAI, **changes: Any) -> tuple[Any, PydanticAgent]:
    """Return pydantic-ai's agent, to add tools to, and Parley's, around it."""
    from pydantic_ai import Agent

    model = model_of("openai-chat:any", openai_base_url=fake.base_url)
    agent: Any = Agent(model, name="support", **changes)
    return agent, PydanticAgent(agent, model)


async def chat(
    service: Service, message: str = "Hi", *trace: tuple[str, str], **fields: Any
) -> pb.ChatResponse:
    """Make a turn with these headers beside the token."""
    return await service.stub.Chat(
        pb.ChatRequest(message=message, **fields),
        timeout=60,
        metadata=(*metadata("ada"), *trace),
    )


async def until_calls(receiver: Receiver, count: int = 1) -> list[Received]:
    """Wait until the spans of so many calls have come in, and return all that there are.

    A call's span is the last of what is done for it.
    """

    def are_there(spans: Sequence[Received]) -> bool:
        return sum(span.kind == "SERVER" for span in spans) >= count

    return await asyncio.to_thread(receiver.until, are_there)


async def until_named(receiver: Receiver, *names: str) -> list[Received]:
    """Wait until there is a span of each name, and return all that there are."""
    return await asyncio.to_thread(
        receiver.until, lambda spans: set(names) <= {span.name for span in spans}
    )

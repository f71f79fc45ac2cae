"""The synchronous client: in a thread against a real server, and against gRPC's test channel."""

import asyncio
import inspect
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    ConversationNotFound,
    DeadlineExceeded,
    ParleyClient,
    TurnInProgress,
)
from support.scripted_server import Refusal, an_answer, never, scripted
from support.services import Service, a_token

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]


def answered(
    make: Callable[[ParleyClient], Any],
    response: Any,
    refusal: Refusal | None = None,
    token: str | None = None,
) -> tuple[Any, Any, dict[str, str]]:
    """Make one call on a test channel; return its result, its request and its metadata."""
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(make, ParleyClient(channel=channel, token=token))
        name = type(response).DESCRIPTOR.name.removesuffix("Response")
        metadata, request, rpc = channel.take_unary_unary(SERVICE.methods_by_name[name])
        if refusal is None:
            rpc.terminate(response, (), grpc.StatusCode.OK, "")
        else:
            rpc.terminate(None, refusal.trailing_metadata, refusal.code, refusal.text)
        return result, request, dict(metadata)


def test_chat_sends_what_it_is_given_and_says_who_calls() -> None:
    result, request, metadata = answered(
        lambda client: client.chat(
            "hello",
            conversation_id="c",
            request_id="order-7",
            allow_missing=True,
            expected_sequence=0,
            on_busy="wait",
            on_disconnect="continue",
            agent="poet",
        ),
        an_answer(),
        token="secret",
    )
    expected = pb.ChatRequest(
        conversation_id="c",
        message="hello",
        request_id="order-7",
        allow_missing=True,
        expected_sequence=0,
        on_busy=pb.ON_BUSY_WAIT,
        on_disconnect=pb.ON_DISCONNECT_CONTINUE,
        agent="poet",
    )
    assert expected == request
    assert "Bearer secret" == metadata["authorization"]
    assert an_answer() == result.result()


def test_an_error_is_built_from_the_trailing_metadata() -> None:
    refusal = Refusal(
        grpc.StatusCode.ABORTED, "TURN_IN_PROGRESS", metadata={"turn_id": "t"}, retry_s=1.5
    )
    result, _, _ = answered(
        lambda client: client.chat("hello", request_id="order-7"), an_answer(), refusal
    )
    with pytest.raises(TurnInProgress) as caught:
        result.result()
    assert ("t", 1.5, "order-7") == (
        caught.value.turn_id,
        caught.value.retry_after_s,
        caught.value.request_id,
    )


def test_history_asks_for_page_after_page() -> None:
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    method = SERVICE.methods_by_name["GetHistory"]
    pages = {
        "": pb.GetHistoryResponse(
            messages=[conversation_pb2.Message(sequence=2)], next_page_token="more"
        ),
        "more": pb.GetHistoryResponse(messages=[conversation_pb2.Message(sequence=1)]),
    }
    with ThreadPoolExecutor(1) as thread:
        history = thread.submit(
            lambda: [
                m.sequence for m in ParleyClient(channel=channel).history("c", order="newest_first")
            ]
        )
        for page_token, page in pages.items():
            _, request, rpc = channel.take_unary_unary(method)
            assert page_token == request.page_token
            assert pb.ORDER_NEWEST_FIRST == request.order
            rpc.terminate(page, (), grpc.StatusCode.OK, "")
    assert [2, 1] == history.result()


async def test_sync_client_talks_to_a_real_server(service: Service) -> None:
    def talk() -> None:
        with ParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client:
            first = client.chat("hello", request_id="order-7")
            client.chat("more", conversation_id=first.conversation_id)
            history = client.history(first.conversation_id, page_size=1)
            assert ["hello", "HELLO", "more", "MORE"] == [m.content for m in history]
            assert [first.conversation_id] == [c.conversation_id for c in client.conversations()]
            assert first.turn_id == client.turn(request_id="order-7").turn_id
            with pytest.raises(ConversationNotFound):
                client.history_page("018f0000-0000-7000-8000-000000000001")

    await asyncio.to_thread(talk)


async def test_sync_client_ends_at_its_deadline() -> None:
    def wait() -> float:
        started = time.monotonic()
        with ParleyClient(server.address) as client, pytest.raises(DeadlineExceeded) as caught:
            client.chat("hello", request_id="order-7", timeout_s=0.5)
        assert "order-7" == caught.value.request_id
        return time.monotonic() - started

    async with scripted(never) as server:
        assert 0.4 < await asyncio.to_thread(wait) < 3


async def test_sync_client_serves_many_threads(service: Service) -> None:
    def talk() -> set[str]:
        with (
            ParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client,
            ThreadPoolExecutor(8) as threads,
        ):
            answers = threads.map(client.chat, (f"number {n}" for n in range(24)))
            return {answer.response for answer in answers}

    assert {f"NUMBER {n}" for n in range(24)} == await asyncio.to_thread(talk)


class Interrupted:
    """A channel on which Ctrl-C is pressed while an answer is awaited."""

    def __init__(self) -> None:
        self.cancelled = 0

    def unary_unary(self, *_: Any, **__: Any) -> "Interrupted":
        return self

    unary_stream = unary_unary

    def future(self, *_: Any, **__: Any) -> "Interrupted":
        return self

    def result(self) -> None:
        raise KeyboardInterrupt

    def cancel(self) -> None:
        self.cancelled += 1


def test_ctrl_c_while_a_call_waits_cancels_it_at_once() -> None:
    """gRPC would cancel it too, but not before the traceback lets go of the call."""
    channel: Any = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        ParleyClient(channel=channel).chat("hello")
    assert 1 == channel.cancelled


def test_both_clients_have_the_same_surface() -> None:
    def alike(parameter: inspect.Parameter) -> inspect.Parameter:
        # What the asynchronous client asks may be asynchronous.
        is_asked = parameter.name == "approve"
        return parameter.replace(annotation=None) if is_asked else parameter

    def surface(client: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(map(alike, inspect.signature(method).parameters.values()))
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert {
        "chat",
        "history",
        "history_page",
        "conversations",
        "conversations_page",
        "conversation",
        "create_conversation",
        "update_conversation",
        "delete_conversation",
        "undelete_conversation",
        "turn",
    } < set(surface(ParleyClient))
    assert surface(AsyncParleyClient) == surface(ParleyClient)

"""Closing a client while it is used: nothing outlives it, and each call ends as a ParleyError."""

import asyncio
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import AsyncParleyClient, ParleyClient, ParleyError, tool
from support.scripted_server import Refusal, an_answer, scripted
from support.scripted_streams import streaming

LEASE_LOST = Refusal(grpc.StatusCode.ABORTED, "LEASE_LOST", retry_s=60)
LOST = Refusal(reason="WORKER_DRAINED", retry_s=60)
STILL_RUNNING = pb.EraseOwnerResponse(state=pb.ERASURE_STATE_RUNNING)
WAITS = pb.ChatResponse(
    finish_reason=parts.FINISH_REASON_ACTION_REQUIRED,
    pending_calls=[
        parts.PendingCall(call_key="k", name="leave", kind=parts.PENDING_CALL_KIND_RESULT)
    ],
)
PAGES = {
    "history": pb.GetHistoryResponse(messages=[parts.Message()], next_page_token="more"),
    "conversations": pb.ListConversationsResponse(
        conversations=[parts.Conversation()], next_page_token="more"
    ),
}


async def never(_request: Any) -> Refusal:
    await asyncio.sleep(300)
    return LOST


class Closing:
    """One of the clients, and a call that is under way."""

    def __init__(self, address: str, *, is_async: bool, **options: Any) -> None:
        self.is_async = is_async
        made = AsyncParleyClient if is_async else ParleyClient
        self.client: Any = made(address, **options)

    def begin(self, method: str) -> asyncio.Task[Any]:
        """Make a call, or take the first event of a stream."""
        made = getattr(self.client, method)
        if not self.is_async:
            take = made if method == "chat" else lambda arg, **o: list(made(arg, **o))
            return asyncio.create_task(asyncio.to_thread(take, "c", request_id="r"))
        if method == "chat":
            return asyncio.create_task(made("c", request_id="r"))

        async def taken() -> list[Any]:
            return [event async for event in made("c", request_id="r")]

        return asyncio.create_task(taken())

    async def close(self) -> None:
        await (self.client.close() if self.is_async else asyncio.to_thread(self.client.close))


is_async = pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
method = pytest.mark.parametrize("method", ["chat", "stream"])


async def until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.01)


@is_async
@method
async def test_a_call_that_rests_between_tries_ends_with_its_client(
    method: str, is_async: bool
) -> None:
    """Fails when the rest goes on, and when the next try opens a channel that nothing closes."""
    unary = scripted(LEASE_LOST, an_answer())
    async with unary if method == "chat" else streaming([LOST], an_answer()) as server:
        caller = Closing(server.address, is_async=is_async)
        call = caller.begin(method)
        await until(lambda: server.asked)
        await asyncio.sleep(0.1)  # it rests for a minute
        await caller.close()
        with pytest.raises(ParleyError, match="the client was closed") as closed:
            await asyncio.wait_for(call, 10)
    assert (grpc.StatusCode.CANCELLED, "r") == (closed.value.code, closed.value.request_id)
    assert 1 == len(server.asked)


@is_async
async def test_a_call_for_which_grpc_rests_ends_with_its_client(is_async: bool) -> None:
    """gRPC itself repeats what ended UNAVAILABLE, as soon as the server wants it to."""
    async with scripted(LOST, an_answer()) as server:
        caller = Closing(server.address, is_async=is_async)
        call = caller.begin("chat")
        await until(lambda: server.asked)
        await asyncio.sleep(0.1)
        await caller.close()
        with pytest.raises(ParleyError, match="the client was closed"):
            await asyncio.wait_for(call, 10)
    assert 1 == len(server.asked)


@is_async
async def test_a_wait_for_an_erasure_ends_with_its_client(is_async: bool) -> None:
    """Fails when the erasure is asked about on a channel that nothing closes."""
    async with scripted(STILL_RUNNING) as server:
        caller = Closing(server.address, is_async=is_async)
        erase, options = caller.client.erase_owner, {"wait": True}
        call = asyncio.ensure_future(
            erase("r", **options) if is_async else asyncio.to_thread(erase, "r", **options)
        )
        await until(lambda: server.asked)
        await asyncio.sleep(0.1)
        await caller.close()
        with pytest.raises(ParleyError, match="the client was closed") as ended:
            await asyncio.wait_for(call, 10)
    assert (grpc.StatusCode.CANCELLED, "r") == (ended.value.code, ended.value.request_id)
    assert 1 == len(server.asked)


@is_async
async def test_a_turn_whose_client_is_closed_while_a_tool_runs_is_not_resumed(
    is_async: bool,
) -> None:
    """Fails when it is resumed on a channel that nothing closes."""
    async with scripted(WAITS, an_answer()) as server:
        caller = Closing(server.address, is_async=is_async)

        async def leave_async() -> None:
            await caller.client.close()

        leave = tool(leave_async if is_async else caller.client.close, name="leave")
        run = caller.client.run_with_tools
        call = asyncio.ensure_future(
            run("c", [leave], request_id="r")
            if is_async
            else asyncio.to_thread(run, "c", [leave], request_id="r")
        )
        with pytest.raises(ParleyError, match="the client was closed") as ended:
            await asyncio.wait_for(call, 10)
    assert (grpc.StatusCode.CANCELLED, "r") == (ended.value.code, ended.value.request_id)
    assert 1 == len(server.asked)


@is_async
@pytest.mark.parametrize("method", PAGES)
async def test_no_page_is_fetched_for_an_iteration_whose_client_was_closed(
    method: str, is_async: bool
) -> None:
    """Fails when the next one is fetched on a channel that nothing closes."""
    async with scripted(PAGES[method]) as server:
        caller = Closing(server.address, is_async=is_async)
        items = getattr(caller.client, method)(*(["c"] if method == "history" else []))

        async def item() -> Any:
            return await (anext(items) if is_async else asyncio.to_thread(next, items))

        await item()
        await caller.close()
        with pytest.raises(ParleyError, match="the client was closed") as ended:
            await item()
    assert grpc.StatusCode.CANCELLED == ended.value.code
    assert 1 == len(server.asked)


@is_async
@method
async def test_a_call_under_way_ends_as_an_error_and_not_as_a_cancelled_task(
    method: str, is_async: bool
) -> None:
    """Fails when gRPC's CancelledError passes: a group of tasks, for one, takes no notice of it."""
    async with scripted(never) if method == "chat" else streaming(never) as server:
        caller = Closing(server.address, is_async=is_async)
        call = caller.begin(method)
        await until(lambda: server.asked)
        await caller.close()
        (ended,) = await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 10)
    assert isinstance(ended, ParleyError)
    assert (grpc.StatusCode.CANCELLED, "r") == (ended.code, ended.request_id)
    assert "the client was closed" in str(ended)


async def test_a_call_that_waits_for_its_token_ends_with_its_client() -> None:
    given = asyncio.Event()

    async def later() -> str:
        await given.wait()
        return "token"

    async with scripted(an_answer()) as server:
        caller = Closing(server.address, is_async=True, token=later)
        call = caller.begin("chat")
        await asyncio.sleep(0)
        await caller.close()
        given.set()
        with pytest.raises(ParleyError, match="the client was closed"):
            await asyncio.wait_for(call, 10)
    assert [] == server.asked


@is_async
async def test_a_closed_client_can_be_used_again(is_async: bool) -> None:
    async with scripted(an_answer()) as server:
        caller = Closing(server.address, is_async=is_async)
        for _ in range(2):
            await caller.begin("chat")
            await caller.close()
    assert 2 == len(server.asked)

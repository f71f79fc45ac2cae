"""What deploy/envoy/envoy.yaml sends again: reads, and what is said to have a request id."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_client import AsyncParleyClient, ParleyError, StoreUnavailable
from parley_client.channels import options
from parley_server.core.model import AgentRun
from support.agents import Gate, ScriptedAgent, say_back
from support.cut_connections import Wire
from support.envoys import Caller, Envoy
from support.processes import ServerProcess
from support.scripted_server import Refusal, Step, an_answer, never, scripted
from support.services import StartService, a_token, an_id, metadata

SAFE = ("parley-retry", "safe")
SERVICE_CONFIG = str(dict(options())["grpc.service_config"])
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.1)
REFUSED_AGAIN: dict[str, Step] = {
    "CreateConversation": pb.CreateConversationResponse(),
    "UpdateConversation": Refusal(grpc.StatusCode.ABORTED, "REVISION_MISMATCH"),
    "DeleteConversation": Refusal(grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND"),
}
"""What a worker answers to a change that was carried out and is sent again."""


def counted(database_url: str) -> tuple[int, int]:
    """Return how many turns and messages there are."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM turn), (SELECT count(*) FROM message)"
        ).fetchone()
    assert found is not None
    return found[0], found[1]


class HangsOnce:
    """A script that never answers the first time."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._runs = 0

    async def __call__(self, run: AgentRun) -> Any:
        self._runs += 1
        self.entered.set()
        if self._runs == 1:
            await asyncio.Event().wait()
        async for event in say_back(run):
            yield event


@pytest.mark.parametrize("request_id", ["r", ""], ids=["request_id", "no_request_id"])
async def test_turn_cut_off_in_mid_call_is_sent_again_only_with_a_request_id(
    request_id: str, start_service: StartService, database_url: str, tmp_path: Path
) -> None:
    """With the route's retries for every Chat, the turn without a request id is made twice."""
    script = HangsOnce()
    first = await start_service(ScriptedAgent(script))
    second = await start_service(ScriptedAgent(script))
    async with (
        Wire(first.port).running() as wire,
        Wire(second.port).running() as other,
        Envoy(tmp_path, [wire.port, other.port]) as envoy,
    ):
        await envoy.until_healthy(wire.port, other.port)
        async with Caller(envoy.address) as caller:
            call = caller.stub.Chat(
                pb.ChatRequest(message="hello", request_id=request_id),
                metadata=(*metadata("ada"), *([SAFE] if request_id else [])),
                timeout=60,
            )
            await script.entered.wait()
            wire.cut()
            other.cut()
            (answer,) = await asyncio.gather(call, return_exceptions=True)

    if request_id:
        assert "HELLO" == answer.response
        assert (1, 2) == counted(database_url)
    else:
        assert grpc.StatusCode.UNAVAILABLE == answer.code()
        assert (1, 1) == counted(database_url)


@pytest.mark.slow
async def test_killed_workers_turns_are_answered_by_the_other_worker(
    start_service: StartService, database_url: str, tmp_path: Path
) -> None:
    """Each caller makes one plain call. Only Envoy carries it over, and waits out the lease."""
    gate = Gate()
    agent = ScriptedAgent(gate)
    heir = await start_service(agent, lease_s=1.5)
    with ServerProcess(database_url, agent="echo:60", lease_s=1.5) as doomed:
        async with Envoy(tmp_path, [doomed.port, heir.port]) as envoy:
            await envoy.until_healthy(doomed.port, heir.port)
            async with Caller(envoy.address) as caller:
                calls = [
                    asyncio.ensure_future(
                        caller.stub.Chat(
                            pb.ChatRequest(message="hello", request_id=an_id()),
                            metadata=(*metadata("ada"), SAFE),
                            timeout=60,
                        )
                    )
                    for _ in range(12)
                ]
                while counted(database_url) != (12, 12):
                    await asyncio.sleep(0.05)
                lost = 12 - len(agent.runs)
                doomed.kill()
                gate.opened.set()
                answers = await asyncio.gather(*calls)

    assert lost > 3  # Envoy retries three at once if it is not told otherwise
    assert ["HELLO"] * 12 == [answer.response for answer in answers]
    assert (12, 24) == counted(database_url)


@pytest.mark.slow
async def test_killed_workers_watches_go_on_at_the_other_worker(
    start_service: StartService, database_url: str, tmp_path: Path
) -> None:
    """Fails when a client takes the reset that Envoy sends, INTERNAL for gRPC, for a defect."""
    lost: list[ParleyError] = []
    heir = await start_service()
    with ServerProcess(database_url) as doomed:
        async with (
            Envoy(tmp_path, [doomed.port, heir.port]) as envoy,
            AsyncParleyClient(envoy.address, token=a_token()) as parley,
            AsyncExitStack() as left,
        ):
            await envoy.until_healthy(doomed.port, heir.port)
            first = await parley.chat("hello")
            watches = []
            for _ in range(6):
                watch = parley.watch(first.conversation_id, on_retry=lost.append)
                watches.append(await left.enter_async_context(aclosing(watch)))
                async for update in watch:
                    if update.HasField("progress"):
                        break
            doomed.kill()
            await parley.chat("again", conversation_id=first.conversation_id)
            told = []
            for watch in watches:
                messages = (u.message async for u in watch if u.HasField("message"))
                told.append([(await anext(messages)).sequence for _ in range(2)])

    assert [[3, 4]] * 6 == told
    assert grpc.StatusCode.INTERNAL in {error.code for error in lost}


async def attempts(
    tmp_path: Path, refusal: Refusal, *, safe: bool, service_config: str | None = None
) -> int:
    """Return how often a worker is asked for one turn that it always refuses."""
    async with (
        scripted(refusal) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        Caller(envoy.address, service_config) as caller,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.stub.Chat(
                pb.ChatRequest(message="hello", request_id="r"),
                metadata=[SAFE] if safe else [],
                timeout=60,
            )
    assert refusal.code == caught.value.code()
    return len(worker.asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refusal", "safe", "service_config", "tries"),
    [
        (DRAINED, True, None, 3),
        (DRAINED, False, None, 1),
        (DRAINED, True, SERVICE_CONFIG, 7),
        (DRAINED, False, SERVICE_CONFIG, 5),
        (Refusal(reason="AGENT_UNAVAILABLE", retry_s=1), True, None, 1),
        (Refusal(grpc.StatusCode.ABORTED, "SEQUENCE_MISMATCH"), True, None, 1),
    ],
    ids=["safe", "plain", "safe_and_grpcs", "grpcs_alone", "provider_is_down", "needs_a_decision"],
)
async def test_tries_of_envoy_add_to_grpcs_own(
    tmp_path: Path, refusal: Refusal, safe: bool, service_config: str | None, tries: int
) -> None:
    """Fails with 15 instead of 7 when grpc-previous-rpc-attempts is not looked at."""
    asked = await attempts(tmp_path, refusal, safe=safe, service_config=service_config)
    assert tries == asked


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GetTurn", "CancelTurn", "ResumeTurn", "EraseOwner"])
async def test_tries_of_envoy_add_to_grpcs_own_without_a_mark_too(
    tmp_path: Path, method: str
) -> None:
    """Fails with 15 where the route does not look at grpc-previous-rpc-attempts."""
    async with (
        scripted(DRAINED) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        Caller(envoy.address, SERVICE_CONFIG) as caller,
    ):
        call = getattr(caller.stub, method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(getattr(pb, f"{method}Request")(), timeout=60)
    assert (grpc.StatusCode.UNAVAILABLE, 7) == (caught.value.code(), len(worker.asked))


async def test_python_clients_turn_is_tried_seven_times_in_all(tmp_path: Path) -> None:
    """The client says itself that its turns have request ids."""
    async with (
        scripted(Refusal(reason="STORE_UNAVAILABLE", retry_s=0.05)) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        AsyncParleyClient(envoy.address, token=a_token()) as client,
    ):
        with pytest.raises(StoreUnavailable):
            await client.chat("hello")
    assert 7 == len(worker.asked)
    assert 1 == len({asked.request.request_id for asked in worker.asked})


async def test_read_is_sent_again_without_asking(tmp_path: Path) -> None:
    async with (
        scripted(DRAINED, DRAINED, pb.GetTurnResponse(turn=cpb.Turn(attempt=7))) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        Caller(envoy.address) as caller,
    ):
        answer = await caller.stub.GetTurn(pb.GetTurnRequest(request_id="r"), timeout=60)
    assert (7, 3) == (answer.turn.attempt, len(worker.asked))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "safe", "tries"),
    [
        ("CreateConversation", False, 1),
        ("CreateConversation", True, 3),
        ("StartTurn", False, 1),
        ("StartTurn", True, 3),
        ("AppendMessages", False, 1),
        ("AppendMessages", True, 3),
        ("UpdateConversation", False, 1),
        ("DeleteConversation", False, 1),
        ("UndeleteConversation", False, 3),
        ("GetConversation", False, 3),
        ("GetHistory", False, 3),
        ("ListConversations", False, 3),
    ],
)
async def test_change_is_sent_once_and_read_again(
    tmp_path: Path, method: str, safe: bool, tries: int
) -> None:
    async with (
        scripted(DRAINED) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        Caller(envoy.address) as caller,
    ):
        call = getattr(caller.stub, method)
        request = getattr(pb, f"{method}Request")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=[SAFE] if safe else [], timeout=60)
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert tries == len(worker.asked)


@pytest.mark.slow
@pytest.mark.parametrize("method", REFUSED_AGAIN)
async def test_change_cut_off_in_mid_call_is_not_answered_for_its_second_try(
    tmp_path: Path, method: str
) -> None:
    """Fails with the retries of reads: a delete that was carried out then ends with NOT_FOUND."""

    async def carry_out_and_cut(request: Any) -> Refusal:
        wire.cut()
        await never(request)

    async with (
        scripted(carry_out_and_cut, REFUSED_AGAIN[method]) as worker,
        Wire(worker.port).running() as wire,
        Envoy(tmp_path, [wire.port]) as envoy,
        Caller(envoy.address) as caller,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(caller.stub, method)(getattr(pb, f"{method}Request")(), timeout=60)
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert 1 == len(worker.asked)


async def test_json_delete_is_sent_once_and_json_read_again(tmp_path: Path) -> None:
    """The path that counts is the one behind the transcoder."""
    async with (
        scripted(DRAINED) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        httpx.AsyncClient(base_url=f"http://{envoy.address}") as http,
    ):
        statuses, asked = [], []
        for method in ("DELETE", "GET"):
            statuses.append((await http.request(method, "/v1/conversations/c")).status_code)
            asked.append(len(worker.asked))
    assert ([503, 503], [1, 1 + 3]) == (statuses, asked)


async def test_json_caller_may_say_that_a_turn_is_safe_too(tmp_path: Path) -> None:
    async with (
        scripted(DRAINED, an_answer()) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        httpx.AsyncClient(base_url=f"http://{envoy.address}") as http,
    ):
        response = await http.post(
            "/v1/conversations:chat",
            json={"message": "hello", "request_id": "r"},
            headers=dict([SAFE]),
        )
    assert (200, "HELLO", 2) == (
        response.status_code,
        response.json()["response"],
        len(worker.asked),
    )

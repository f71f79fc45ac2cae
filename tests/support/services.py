"""Real workers on a real Postgres, called through a real channel."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from parley.v1 import conversation_pb2, conversation_service_pb2_grpc, error_reason_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_server.auth.tokens import mint
from parley_server.config import Settings
from parley_server.core.ports import Agent
from parley_server.process.worker import Worker
from parley_server.storage.schema import integrity
from support.agents import ScriptedAgent
from support.databases import as_superuser
from support.ledgers import imbalances
from support.streams import Stream

SECRET = "a secret of this test run, thirty-two bytes and more"
ISSUER = AUDIENCE = "parley-test"
GONE = ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
"""How calls about a conversation end that is not there, or no longer."""
BEHIND_PGBOUNCER = {"db_prepare": False, "notify": "poll"}
PATIENCE_S = 30
"""How long something may take that is done in the background."""


async def until_true(condition: Callable[[], bool]) -> None:
    """Wait for something that is done in the background."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)


def a_token(
    user: str = "ada", *, scope: str | None = None, ttl_s: int = 600, tenant: str = ""
) -> str:
    claim = "tenant" if tenant else None
    return mint(SECRET.encode(), user, tenant, ttl_s, ISSUER, AUDIENCE, claim, scope)


def an_id() -> str:
    return str(uuid.uuid4())


class _Said(Settings):
    """Settings as a test says them: to read the environment takes as long as a worker's start."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out all but the arguments."""
        return (init_settings,)


def settings_for(database_url: str, **changes: Any) -> Settings:
    """Return the settings of a worker with few connections: each costs its test 7 ms."""
    return _Said(
        **{
            "database_url": database_url,
            "db_pool_size": 4,
            "listen": "127.0.0.1:0",
            "agent": "echo",
            "auth_hs256_secret": SECRET,
            "auth_issuer": ISSUER,
            "auth_audience": AUDIENCE,
            "drain_s": 5,
            **changes,
        }
    )


class Service:
    """A worker that serves, and a channel to it."""

    def __init__(self, worker: Worker, port: int, channel: grpc.aio.Channel) -> None:
        self.worker = worker
        self.port = port
        self.channel = channel
        self.stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)

    async def chat(
        self, message: str = "hello", *, user: str = "ada", timeout: float = 20, **fields: Any
    ) -> pb.ChatResponse:
        request = pb.ChatRequest(message=message, **fields)
        return await self.stub.Chat(request, timeout=timeout, metadata=metadata(user))

    async def start(
        self, message: str = "hello", *, user: str = "ada", timeout: float = 20, **fields: Any
    ) -> pb.StartTurnResponse:
        request = pb.StartTurnRequest(chat=pb.ChatRequest(message=message, **fields))
        return await self.stub.StartTurn(request, timeout=timeout, metadata=metadata(user))

    async def until_turn(
        self, turn: conversation_pb2.Turn, *states: str, user: str = "ada"
    ) -> conversation_pb2.Turn:
        """Wait until a turn has one of the states, and return it."""
        while True:
            found = await self.turn(
                conversation_id=turn.conversation_id, turn_id=turn.turn_id, user=user
            )
            name = conversation_pb2.TurnState.Name(found.state).removeprefix("TURN_STATE_")
            if name in states:
                return found
            await asyncio.sleep(0.02)

    async def history(
        self, conversation_id: str, *, user: str = "ada", **fields: Any
    ) -> pb.GetHistoryResponse:
        request = pb.GetHistoryRequest(conversation_id=conversation_id, **fields)
        return await self.stub.GetHistory(request, timeout=20, metadata=metadata(user))

    async def conversations(
        self, *, user: str = "ada", **fields: Any
    ) -> pb.ListConversationsResponse:
        request = pb.ListConversationsRequest(**fields)
        return await self.stub.ListConversations(request, timeout=20, metadata=metadata(user))

    async def create(self, *, user: str = "ada", **fields: Any) -> pb.CreateConversationResponse:
        request = pb.CreateConversationRequest(**fields)
        return await self.stub.CreateConversation(request, timeout=20, metadata=metadata(user))

    async def conversation(
        self, conversation_id: str, *, user: str = "ada"
    ) -> conversation_pb2.Conversation:
        request = pb.GetConversationRequest(conversation_id=conversation_id)
        found = await self.stub.GetConversation(request, timeout=20, metadata=metadata(user))
        return found.conversation

    async def update(
        self, conversation_id: str, *, user: str = "ada", **fields: Any
    ) -> conversation_pb2.Conversation:
        request = pb.UpdateConversationRequest(conversation_id=conversation_id, **fields)
        found = await self.stub.UpdateConversation(request, timeout=20, metadata=metadata(user))
        return found.conversation

    async def delete(
        self, conversation_id: str, *, user: str = "ada", **fields: Any
    ) -> pb.DeleteConversationResponse:
        request = pb.DeleteConversationRequest(conversation_id=conversation_id, **fields)
        return await self.stub.DeleteConversation(request, timeout=20, metadata=metadata(user))

    async def usage(self, *, user: str = "ada", **fields: Any) -> list[pb.UsageRow]:
        request = pb.GetUsageRequest(**fields)
        found = await self.stub.GetUsage(request, timeout=20, metadata=metadata(user))
        return list(found.rows)

    async def undelete(
        self, conversation_id: str, *, user: str = "ada"
    ) -> conversation_pb2.Conversation:
        request = pb.UndeleteConversationRequest(conversation_id=conversation_id)
        found = await self.stub.UndeleteConversation(request, timeout=20, metadata=metadata(user))
        return found.conversation

    async def append(
        self,
        conversation_id: str,
        *messages: conversation_pb2.Message,
        user: str = "ada",
        timeout: float = 20,
        **fields: Any,
    ) -> pb.AppendMessagesResponse:
        request = pb.AppendMessagesRequest(
            conversation_id=conversation_id, messages=messages, **fields
        )
        return await self.stub.AppendMessages(request, timeout=timeout, metadata=metadata(user))

    async def fork(
        self, conversation_id: str, *, user: str = "ada", **fields: Any
    ) -> pb.ForkConversationResponse:
        request = pb.ForkConversationRequest(conversation_id=conversation_id, **fields)
        return await self.stub.ForkConversation(request, timeout=20, metadata=metadata(user))

    async def erase(
        self,
        request_id: str = "erase",
        *,
        user: str = "ada",
        scope: str | None = "parley.erase",
        timeout: float = 20,
    ) -> pb.EraseOwnerResponse:
        request = pb.EraseOwnerRequest(request_id=request_id)
        token = a_token(user, scope=scope)
        return await self.stub.EraseOwner(
            request, timeout=timeout, metadata=(("authorization", f"Bearer {token}"),)
        )

    async def erased(
        self, request_id: str = "erase", *, user: str = "ada"
    ) -> pb.EraseOwnerResponse:
        """Erase an owner, and return the receipt once it is done."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                receipt = await self.erase(request_id, user=user)
                if receipt.state == pb.ERASURE_STATE_DONE:
                    return receipt
                await asyncio.sleep(0.05)

    def export(self, *, user: str = "ada", timeout: float = 20, cursor: str = "") -> Stream:
        request = pb.ExportConversationsRequest(cursor=cursor)
        return self.stub.ExportConversations(request, timeout=timeout, metadata=metadata(user))

    def stream(
        self,
        message: str = "hello",
        *,
        user: str = "ada",
        timeout: float = 20,
        after: pb.StreamChatResponse | None = None,
        **fields: Any,
    ) -> Stream:
        """Start a stream, behind the last event seen."""
        request = pb.StreamChatRequest(chat=pb.ChatRequest(message=message, **fields))
        if after is not None:
            request.after_attempt = after.attempt
            request.after_index = after.index
        return self.stub.StreamChat(request, timeout=timeout, metadata=metadata(user))

    def watch(
        self, conversation_id: str, *, user: str = "ada", timeout: float = 20, **fields: Any
    ) -> Stream:
        request = pb.WatchConversationRequest(conversation_id=conversation_id, **fields)
        return self.stub.WatchConversation(request, timeout=timeout, metadata=metadata(user))

    def watch_turns(
        self, *, user: str = "ada", token: str | None = None, timeout: float = 20, **fields: Any
    ) -> Stream:
        """Watch the feed of turns, as a user or with a token."""
        given = (("authorization", f"Bearer {token}"),) if token else metadata(user)
        return self.stub.WatchTurns(pb.WatchTurnsRequest(**fields), timeout=timeout, metadata=given)

    async def cancel(self, *, user: str = "ada", **fields: Any) -> conversation_pb2.Turn:
        request = pb.CancelTurnRequest(**fields)
        return (await self.stub.CancelTurn(request, timeout=20, metadata=metadata(user))).turn

    async def resume(
        self,
        *results: pb.CallResult,
        user: str = "ada",
        timeout: float = 20,
        **fields: Any,
    ) -> pb.ChatResponse:
        """Give a turn what it waits for."""
        request = pb.ResumeTurnRequest(results=results, **fields)
        resuming = self.stub.ResumeTurn(request, timeout=timeout, metadata=metadata(user))
        return (await resuming).chat

    def stream_resume(
        self, *results: pb.CallResult, user: str = "ada", timeout: float = 20, **fields: Any
    ) -> Stream:
        """Give a turn what it waits for, and follow it."""
        resume = pb.ResumeTurnRequest(results=results, **fields)
        request = pb.StreamResumeTurnRequest(resume=resume)
        return self.stub.StreamResumeTurn(request, timeout=timeout, metadata=metadata(user))

    async def explain(self, *, user: str = "ada", **fields: Any) -> pb.ExplainTurnResponse:
        request = pb.ExplainTurnRequest(**fields)
        return await self.stub.ExplainTurn(request, timeout=20, metadata=metadata(user))

    def rehearse(self, *, user: str = "ada", timeout: float = 20, **fields: Any) -> Stream:
        request = pb.RehearseTurnRequest(**fields)
        return self.stub.RehearseTurn(request, timeout=timeout, metadata=metadata(user))

    async def turn(self, *, user: str = "ada", **fields: Any) -> conversation_pb2.Turn:
        request = pb.GetTurnRequest(**fields)
        return (await self.stub.GetTurn(request, timeout=20, metadata=metadata(user))).turn


async def health(service: Service, name: str = "") -> str:
    """Return what a service tells health checks."""
    asked = health_pb2.HealthCheckRequest(service=name)
    answer = await health_pb2_grpc.HealthStub(service.channel).Check(asked, timeout=20)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def until_health(service: Service, expected: str) -> None:
    """Wait until a service tells health checks what is expected."""
    while await health(service) != expected:
        await asyncio.sleep(0.05)


def metadata(user: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {a_token(user)}"),)


StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
def has_row_security(request: pytest.FixtureRequest) -> bool:
    """Whether workers have it: `pytestmark = WITH_AND_WITHOUT_ROW_SECURITY` runs tests twice."""
    return bool(getattr(request, "param", False))


WITH_AND_WITHOUT_ROW_SECURITY = pytest.mark.parametrize(
    "has_row_security", [False, True], indirect=True, ids=["", "row-security"]
)


@pytest.fixture
def usual(
    database_url: str, has_row_security: bool, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """The settings with which a worker finds this test's database.

    With PARLEY_TEST_PGBOUNCER=1 it goes through pgbouncer, if the database is an embedded one.
    """
    found: dict[str, Any] = {"database_url": database_url}
    if has_row_security:
        found = {"database_url": request.getfixturevalue("walled_url"), "row_security": True}
    if os.environ.get("PARLEY_TEST_PGBOUNCER") != "1":
        return found
    pgbouncer = request.getfixturevalue("pgbouncer")
    return {**found, "database_url": pgbouncer.url(found["database_url"])}


@pytest.fixture
async def start_service(
    usual: dict[str, Any], database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[StartService]:
    """Start workers of this test's database: `await start_service(agent, lease_s=1)`.

    Whatever the test did to them, what they have stored is whole at its end; tests that write rows
    by hand are marked `writes_rows`. The ledger says what the turns say, unless the test is marked
    `off_ledger`.
    """
    async with AsyncExitStack() as started:

        async def start(agent: Agent | None = None, **changes: Any) -> Service:
            if os.environ.get("PARLEY_TEST_PGBOUNCER") == "1" and "database_url" not in changes:
                changes |= BEHIND_PGBOUNCER
            settings = settings_for(**{**usual, **changes})
            scripted = None if settings.agents_file else ScriptedAgent()
            worker = Worker(settings, agent=agent or scripted)
            port = await started.enter_async_context(worker.serving())
            channel = await started.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            )
            return Service(worker, port, channel)

        yield start
    if request.node.get_closest_marker("writes_rows") is None:
        assert () == integrity.examine(as_superuser(database_url)).problems
        if request.node.get_closest_marker("off_ledger") is None:
            assert [] == imbalances(as_superuser(database_url))


@pytest.fixture
async def service(start_service: StartService) -> Service:
    """One worker with an agent that answers in capitals."""
    return await start_service()


def trailing_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return an error's trailing metadata."""
    return dict(error.trailing_metadata() or ())  # type: ignore[arg-type]  # pairs, which its stubs hide


def details_of(error: grpc.aio.AioRpcError) -> list[Any]:
    """Return the google.rpc details of an error."""
    found = trailing_of(error).get("grpc-status-details-bin")
    status = status_pb2.Status.FromString(found) if found else status_pb2.Status()
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    details = []
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.type_url.rpartition(".")[2])
        details.append(kind.FromString(packed.value))
    return details


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo that every error of Parley's carries."""
    infos = [d for d in details_of(error) if isinstance(d, error_details_pb2.ErrorInfo)]
    assert len(infos) == 1
    assert infos[0].domain == "parley.v1"
    return infos[0]


def reason_of(turn: conversation_pb2.Turn) -> str:
    """Return why a turn failed, by name."""
    name = error_reason_pb2.ErrorReason.Name(turn.error_reason)
    return name.removeprefix("ERROR_REASON_")


async def refused(call: Awaitable[Any]) -> tuple[str, str]:
    """Return the code and the reason that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, info_of(caught.value).reason


async def gathered(*calls: Awaitable[Any]) -> list[Any]:
    """Make all calls at once; return answers and errors, in order."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def eventually(call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call again until the service is available."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            assert grpc.StatusCode.UNAVAILABLE == error.code()
            await asyncio.sleep(0.05)

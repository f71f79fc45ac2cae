"""The database killed, read only, somewhere else, or silent: what calls see of it."""

import asyncio
import os
import signal
from pathlib import Path as File
from typing import Any

import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.v1 import conversation_service_pb2 as pb
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from support.databases import as_superuser
from support.moved_postgres import url_of
from support.paths import Path, to_socket
from support.services import Service, StartService, an_id, eventually, metadata, refused
from support.standbys import a_standby, folder_of, promote

STORE_UNAVAILABLE = ("UNAVAILABLE", "STORE_UNAVAILABLE")
READ_ONLY = "default_transaction_read_only"


async def health(service: Service) -> str:
    asked = health_pb2.HealthCheckRequest(service="")
    answer = await health_pb2_grpc.HealthStub(service.channel).Check(asked, timeout=20)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def until_health(service: Service, expected: str) -> None:
    while await health(service) != expected:
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_no_call_fails_while_the_database_is_killed_and_comes_back(
    primary: EmbeddedPostgres, start_service: StartService
) -> None:
    """Fails when calls do not wait for the database, and when a lost claim is not sent again."""
    service = await start_service(database_url=primary.start())
    calls: list[asyncio.Task[pb.ChatResponse]] = []

    async def talk() -> None:
        for n in range(160):
            fields: dict[str, Any] = {"conversation_id": an_id(), "allow_missing": True}
            if n % 2:
                fields = {"request_id": str(n)}
            calls.append(asyncio.create_task(service.chat(timeout=15, **fields)))
            await asyncio.sleep(1 / 40)  # the rate is the subject

    talking = asyncio.create_task(talk())
    while len(calls) < 20:
        await asyncio.sleep(0.01)
    os.kill(primary.pid, signal.SIGKILL)
    await asyncio.sleep(2)  # as long as the database is away
    await asyncio.to_thread(primary.start)
    await talking
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [] == [repr(a) for a in answers if isinstance(a, BaseException)]
    assert 160 == len({answer.turn_id for answer in answers})


@pytest.mark.slow
async def test_reads_go_on_while_the_database_is_read_only(
    start_service: StartService, database_url: str
) -> None:
    """Fails when what only reads is not lent, and when sessions live on that cannot write."""
    service = await start_service(store_wait_s=1)
    conversation_id = (await service.chat(request_id="r")).conversation_id
    admin = psycopg.connect(as_superuser(database_url), autocommit=True)
    name = admin.info.dbname
    admin.execute(f"ALTER DATABASE {name} SET {READ_ONLY} = on")
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await until_health(service, "NOT_SERVING")

    assert 2 == len((await service.history(conversation_id)).messages)
    assert 1 == len((await service.conversations()).conversations)
    assert conversation_id == (await service.turn(request_id="r")).conversation_id
    assert STORE_UNAVAILABLE == await refused(service.chat())

    admin.execute(f"ALTER DATABASE {name} RESET {READ_ONLY}")
    admin.close()
    await until_health(service, "SERVING")
    assert "HELLO" == (await service.chat()).response


@pytest.mark.slow
async def test_worker_that_starts_on_a_read_only_database_reads_and_is_not_ready(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a start takes readiness for granted."""
    with psycopg.connect(as_superuser(database_url), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET {READ_ONLY} = on")
        service = await start_service(store_wait_s=1)

        assert "NOT_SERVING" == await health(service)
        assert [] == list((await service.conversations()).conversations)
        admin.execute(f"ALTER DATABASE {admin.info.dbname} RESET {READ_ONLY}")
        await until_health(service, "SERVING")
        assert "HELLO" == (await service.chat()).response


@pytest.mark.slow
@pytest.mark.parametrize("is_old_one_killed", [False, True])
async def test_worker_follows_an_address_to_a_standby_that_is_promoted(
    primary: EmbeddedPostgres,
    path: Path,
    start_service: StartService,
    cluster_folder: File,
    is_old_one_killed: bool,
) -> None:
    """Fails when old connections are kept though new ones lead elsewhere: they write to the past.

    With the old primary killed it fails when connections to the standby are not looked at again.
    """
    with a_standby(primary.start(), cluster_folder / "standby") as standby_url:
        service = await start_service(database_url=url_of(path), store_wait_s=1)
        conversation_id = (await service.chat("before")).conversation_id
        await until_there(standby_url, conversation_id, 2)
        path.destination = to_socket(folder_of(standby_url))
        if is_old_one_killed:
            await asyncio.to_thread(primary.stop)
        await until_health(service, "NOT_SERVING")
        history = await service.history(conversation_id)
        assert ["before", "BEFORE"] == [m.content for m in history.messages]
        assert STORE_UNAVAILABLE == await refused(service.chat())

        await asyncio.to_thread(promote, standby_url)
        await until_health(service, "SERVING")
        answer = await service.chat("after", conversation_id=conversation_id)
        assert 4 == answer.response_sequence
        await until_there(standby_url, conversation_id, 4)


async def until_there(url: str, conversation_id: str, messages: int) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        count = "SELECT count(*) FROM message WHERE conversation_id = %s"
        while await (await connection.execute(count, [conversation_id])).fetchone() != (messages,):
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_every_call_ends_where_the_path_takes_all_and_passes_nothing_on(
    path: Path, start_service: StartService
) -> None:
    """Fails when an answer is waited for without an end, or dead connections are kept."""
    service = await start_service(
        database_url=url_of(path), store_wait_s=1, chat_timeout_s=3, db_pool_size=3
    )
    answer = await service.chat(request_id="r")
    name = {"conversation_id": answer.conversation_id}
    requests: list[tuple[Any, Any]] = [
        (service.stub.Chat, pb.ChatRequest(message="hello")),
        (service.stub.GetHistory, pb.GetHistoryRequest(**name)),
        (service.stub.ListConversations, pb.ListConversationsRequest()),
        (service.stub.GetTurn, pb.GetTurnRequest(request_id="r")),
        (service.stub.CancelTurn, pb.CancelTurnRequest(request_id="r")),
    ]
    path.go_silent()
    watch = service.stub.WatchConversation(
        pb.WatchConversationRequest(**name), metadata=metadata("ada")
    )
    calls = [method(request, metadata=metadata("ada")) for method, request in requests]
    ends = [refused(call) for call in [*calls, watch.read()]]

    assert [STORE_UNAVAILABLE] * len(ends) == list(await asyncio.gather(*ends))
    await until_health(service, "NOT_SERVING")
    path.pass_again()
    await until_health(service, "SERVING")
    assert "HELLO" == (await eventually(service.chat)).response
    for pool in service.worker.store.pools().values():
        while pool.in_use() > 0:
            await asyncio.sleep(0.02)


async def test_calls_go_on_when_a_paused_pooler_resumes(
    path: Path, start_service: StartService
) -> None:
    service = await start_service(database_url=url_of(path), db_prepare=False)
    await service.chat()
    path.go_silent()
    calls = [asyncio.ensure_future(service.chat(timeout=15)) for _ in range(40)]
    await asyncio.sleep(1)  # as long as it is paused
    path.resume()

    assert ["HELLO"] * 40 == [answer.response for answer in await asyncio.gather(*calls)]


@pytest.mark.slow
async def test_signals_come_back_after_a_silent_path(
    path: Path, start_service: StartService
) -> None:
    """Fails when the listening connection is waited on though nothing comes through any more."""
    service = await start_service(database_url=url_of(path))
    signals = service.worker.signals
    while not signals.are_live:
        await asyncio.sleep(0.02)
    path.go_silent()
    path.pass_again()
    while signals.are_live:
        await asyncio.sleep(0.02)
    while not signals.are_live:
        await asyncio.sleep(0.02)

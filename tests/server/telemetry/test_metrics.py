"""Metrics, scraped over HTTP as Prometheus does: what each series counts, and what stops none."""

import asyncio
import math
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import grpc
import httpx2
import psutil
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentUnavailable
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Text, Usage
from parley_server.telemetry.metrics import WorkerFiles, shared_page
from support.agents import Gate, ScriptedAgent, Speaker
from support.issuer import Issuer, a_signing_key
from support.processes import ServerProcess, run
from support.proxy import PostgresProxy
from support.rosters import started
from support.services import Service, StartService, a_token, an_id, metadata, refused
from support.waiting import WEATHER, AskingAgent, result

SERVICE = "parley.v1.ConversationService"
ANYWHERE = "127.0.0.1:0"
PATIENCE_S = 60


class Scrape:
    """One page, parsed."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of a series over all labels that are not named."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def calls(self, name: str, method: str, **labels: str) -> float:
        return self(name, grpc_service=SERVICE, grpc_method=method, **labels)


async def scraped(port: int) -> Scrape:
    async with httpx2.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S)
    assert 200 == response.status_code
    return Scrape(response.text)


async def scrape(service: Service) -> Scrape:
    assert service.worker.metrics_port is not None
    return await scraped(service.worker.metrics_port)


async def scraped_until(port: int, is_there: Callable[[Scrape], bool]) -> Scrape:
    """Return the first page on which something is to be seen."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_there(found := await scraped(port)):
            await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def measured(start_service: StartService) -> Service:
    return await start_service(metrics_listen=ANYWHERE)


async def test_page_is_prometheus_text_at_one_path_with_a_help_for_everything(
    measured: Service,
) -> None:
    await measured.chat()
    async with httpx2.AsyncClient(trust_env=False) as client:
        base = f"http://127.0.0.1:{measured.worker.metrics_port}"
        page = await client.get(f"{base}/metrics")
        others = [await client.get(f"{base}{path}") for path in ("/", "/metrics/x", "/favicon.ico")]
        posted = await client.post(f"{base}/metrics", content=b"x")

    assert 200 == page.status_code
    assert page.headers["content-type"].startswith("text/plain; version=")
    assert [404, 404, 404] == [other.status_code for other in others]
    assert 405 == posted.status_code
    families = Scrape(page.text).families
    assert {"grpc_server_started", "parley_turns", "parley_open_turns"} <= {
        family.name for family in families
    }
    assert [] == [family.name for family in families if not family.documentation.endswith(".")]


def test_nothing_is_imported_for_metrics_unless_they_are_asked_for() -> None:
    program = "import sys, parley_server.process.serving; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "False\n" == done.stdout


async def test_calls_are_counted_with_the_status_that_their_callers_get(measured: Service) -> None:
    """Fails when the layer is inside of the one that turns errors into statuses: all UNKNOWN."""
    await measured.chat()
    await measured.chat()
    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(measured.history(an_id()))
    nobody = measured.stub.GetHistory(pb.GetHistoryRequest(), timeout=20)
    assert "UNAUTHENTICATED" == (await refused(nobody))[0]
    malformed = measured.channel.unary_unary(f"/{SERVICE}/GetHistory", None, None)
    assert "INVALID_ARGUMENT" == (await refused(malformed(b"\xff", metadata=metadata("ada"))))[0]
    reader = (("authorization", f"Bearer {a_token(scope='parley.read')}"),)
    call = measured.stub.Chat(pb.ChatRequest(message="x"), metadata=reader, timeout=20)
    assert "PERMISSION_DENIED" == (await refused(call))[0]
    async for _ in measured.stream():
        pass
    with pytest.raises(grpc.aio.AioRpcError):
        await measured.watch(an_id()).read()
    found = await scrape(measured)

    def handled(method: str) -> dict[str, float]:
        return {
            sample.labels["grpc_code"]: sample.value
            for sample in found.samples
            if sample.name == "grpc_server_handled_total" and sample.labels["grpc_method"] == method
        }

    assert {"OK": 2, "PERMISSION_DENIED": 1} == handled("Chat")
    assert {"OK": 1} == handled("StreamChat")
    assert {"NOT_FOUND": 1, "UNAUTHENTICATED": 1, "INVALID_ARGUMENT": 1} == handled("GetHistory")
    assert {"NOT_FOUND": 1} == handled("WatchConversation")
    for method, kind, count in (("Chat", "unary", 3), ("StreamChat", "server_stream", 1)):
        assert count == found.calls("grpc_server_started_total", method, grpc_type=kind)
        assert count == found.calls("grpc_server_handling_seconds_count", method, grpc_type=kind)
        assert 0 < found.calls("grpc_server_handling_seconds_sum", method) < PATIENCE_S


async def test_a_call_whose_caller_leaves_is_counted_as_cancelled(
    start_service: StartService,
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), metrics_listen=ANYWHERE)
    call = asyncio.ensure_future(service.chat())
    await gate.entered.wait()
    before = await scrape(service)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await gate.closed.wait()

    assert (1, 0) == (
        before.calls("grpc_server_started_total", "Chat"),
        before.calls("grpc_server_handled_total", "Chat"),
    )
    assert service.worker.metrics_port is not None
    found = await scraped_until(
        service.worker.metrics_port,
        lambda found: found("parley_turns_total", outcome="CALLER_LOST") == 1,
    )
    assert 1 == found.calls("grpc_server_handled_total", "Chat", grpc_code="CANCELLED")


async def test_health_checks_are_counted(measured: Service) -> None:
    health = health_pb2_grpc.HealthStub(measured.channel)
    await health.Check(health_pb2.HealthCheckRequest())
    with pytest.raises(grpc.aio.AioRpcError):
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert health_pb2.HealthCheckResponse.SERVING == (await watching.read()).status
    watching.cancel()
    found = await scrape(measured)

    labels = {"grpc_service": "grpc.health.v1.Health", "grpc_method": "Check"}
    assert 2 == found("grpc_server_started_total", **labels)
    assert 1 == found("grpc_server_handled_total", **labels, grpc_code="OK")
    assert 1 == found("grpc_server_handled_total", **labels, grpc_code="NOT_FOUND")


async def test_names_that_callers_make_up_make_no_series(measured: Service) -> None:
    """Fails when a method's name is its label, whether there is such a method or not."""

    async def make_things_up() -> None:
        name = uuid.uuid4().hex
        for path in (f"/{SERVICE}/{name}", f"/{name}/Chat", f"/parley.v1.{name}/Chat", f"/{name}"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await measured.channel.unary_unary(path, None, None)(b"", timeout=20)
            assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()
        assert "INVALID_ARGUMENT" == (await refused(measured.chat(agent=name)))[0]
        await measured.chat(request_id=name, user=name)

    await make_things_up()
    before = await scrape(measured)
    for _ in range(20):
        await make_things_up()
    after = await scrape(measured)

    def series(found: Scrape) -> set[tuple[str, str]]:
        return {(sample.name, str(sorted(sample.labels.items()))) for sample in found.samples}

    assert series(before) == series(after)
    other = {"grpc_service": "other", "grpc_method": "other"}
    assert 84 == after("grpc_server_started_total", **other)
    assert 84 == after("grpc_server_handled_total", **other, grpc_code="UNIMPLEMENTED")
    assert 84 == after("grpc_server_handling_seconds_count", **other)


async def used_or_broken(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    if run.window.messages[-1].content == "break":
        raise AgentUnavailable
    yield Text("said")
    yield Finish(FinishReason.STOP, "any", Usage(11, 7, 3, 1))


async def test_turns_count_by_outcome_with_tokens_and_replays(start_service: StartService) -> None:
    service = await start_service(ScriptedAgent(used_or_broken), metrics_listen=ANYWHERE)
    conversation_id = (await service.chat(request_id="r")).conversation_id
    await service.chat(agent="echo", conversation_id=conversation_id)
    for _ in range(3):
        await service.chat(request_id="r")
    async for _ in service.stream(request_id="r"):
        pass
    assert "UNAVAILABLE" == (await refused(service.chat("break")))[0]
    found = await scrape(service)

    assert 2 == found("parley_turns_total", agent="echo", outcome="COMPLETED")
    assert 1 == found("parley_turns_total", agent="echo", outcome="AGENT_UNAVAILABLE")
    assert 3 == found("parley_turns_total")
    assert 4 == found("parley_replays_total", agent="echo")
    assert 3 == found("parley_agent_seconds_count", agent="echo")
    tokens = [
        found("parley_tokens_total", agent="echo", type=kind)
        for kind in ("input", "output", "cached_input")
    ]
    assert [22, 14, 6] == tokens
    assert (0, 0) == (found("parley_takeovers_total"), found("parley_leases_lost_total"))


async def test_waits_count_by_what_ended_them(start_service: StartService) -> None:
    service = await start_service(AskingAgent(), metrics_listen=ANYWHERE)
    for request_id in "rst":
        waits = await service.chat(request_id=request_id, tools=[WEATHER])
    await service.chat(conversation_id=waits.conversation_id, on_busy=pb.ON_BUSY_REPLACE)
    await service.cancel(request_id="r")
    pending = (await service.turn(request_id="s")).pending_calls
    await service.resume(result(pending[0]), request_id="s")
    found = await scrape(service)

    assert 4 == found("parley_waits_total", agent="echo")
    for how in ("REPLACED", "CANCELLED", "RESUMED"):
        assert 1 == found("parley_wait_ends_total", how=how)
    assert 1 == found("parley_turns_total")


async def test_a_cancelled_turn_counts_as_cancelled(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker), metrics_listen=ANYWHERE)
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await speaker.entered.wait()
    await service.cancel(request_id="r")
    await call

    found = await scrape(service)
    assert 1 == found("parley_turns_total", outcome="CANCELLED")
    assert 1 == found("parley_turns_total")


@pytest.mark.parametrize("by", ["the same request id", "the next message", "CancelTurn"])
async def test_a_takeover_counts_where_it_is_taken_and_where_it_is_lost(
    by: str, start_service: StartService, database_url: str
) -> None:
    gate = Gate()
    loser = await start_service(ScriptedAgent(gate), metrics_listen=ANYWHERE)
    winner = await start_service(metrics_listen=ANYWHERE)
    conversation_id = (await winner.chat("first")).conversation_id
    lost = asyncio.ensure_future(
        loser.chat("lost", conversation_id=conversation_id, request_id="r")
    )
    await gate.entered.wait()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now()")
    if by == "the same request id":
        await winner.chat("lost", conversation_id=conversation_id, request_id="r")
    elif by == "the next message":
        await winner.chat("next", conversation_id=conversation_id)
    else:
        loser.worker.turns.attempts.keeping.heard = lambda topic: None  # type: ignore[method-assign]
        await winner.cancel(request_id="r")
    gate.opened.set()
    with suppress(grpc.aio.AioRpcError):
        await lost
    there, here = await scrape(winner), await scrape(loser)

    assert (1, 0) == (there("parley_takeovers_total"), there("parley_leases_lost_total"))
    assert (0, 1) == (here("parley_takeovers_total"), here("parley_leases_lost_total"))
    assert 0 == here("parley_turns_total")


@pytest.mark.slow
async def test_gauges_tell_what_is_left_to_do_in_the_database(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns behind one that waits for its caller count when they could begin: no earlier, or the
    alert of old queues would fire for each approval that takes its time, and the autoscaler add
    workers that have nothing to do."""
    monkeypatch.setattr("parley_server.core.turns.starting.BACKLOG_S", 0.05)
    # Turns run on the one, of which there is nothing to see on the other but the database.
    service = await start_service(AskingAgent((("approve",),)))
    gate = Gate()
    busy = await start_service(ScriptedAgent(gate))
    other = await start_service(metrics_listen=ANYWHERE)
    port = other.worker.metrics_port
    assert port is not None
    waiting = (await service.chat()).conversation_id
    await service.chat()
    conversation_id = an_id()
    call = asyncio.ensure_future(busy.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    for _ in range(3):
        await other.start(conversation_id=waiting)
        await other.start(conversation_id=conversation_id)

    def left(found: Scrape) -> tuple[float, float]:
        return found("parley_waiting_turns"), found("parley_queue_turns")

    found = await scraped_until(port, lambda found: left(found) == (2, 3))
    assert found("parley_queue_oldest_seconds") > 0
    await service.delete(conversation_id)
    found = await scraped_until(port, lambda found: left(found) == (2, 0))
    assert 0 == found("parley_queue_oldest_seconds")
    await asyncio.gather(call, return_exceptions=True)
    await service.delete(waiting)
    await scraped_until(port, lambda found: left(found) == (1, 0))


@pytest.mark.slow
async def test_gauges_follow_what_is_open(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), metrics_listen=ANYWHERE, db_pool_size=6)
    port = service.worker.metrics_port
    assert port is not None
    call = asyncio.ensure_future(service.chat(conversation_id=an_id(), allow_missing=True))
    await gate.entered.wait()
    found = await scraped_until(port, lambda found: found("parley_open_turns") == 1)
    assert 0 == found("parley_watches")
    assert (1, 2500) == tuple(
        found(name, resource="open_chats") for name in ("parley_limit_in_use", "parley_limit")
    )
    gate.opened.set()
    watch = service.watch((await call).conversation_id)
    await watch.read()
    await scraped_until(
        port, lambda found: (found("parley_open_turns"), found("parley_watches")) == (0, 1)
    )
    watch.cancel()
    await scraped_until(port, lambda found: found("parley_watches") == 0)


@pytest.mark.slow
async def test_pools_show_who_works_and_who_waits(
    start_service: StartService, database_url: str
) -> None:
    service = await start_service(metrics_listen=ANYWHERE, db_pool_size=3)
    port = service.worker.metrics_port
    assert port is not None
    # An owner has one page read at a time, hence the four of them.
    owners = ["ada", "grace", "edsger", "barbara"]
    conversations = {user: (await service.chat(user=user)).conversation_id for user in owners}

    def claims(found: Scrape) -> tuple[float, float]:
        in_use = found("parley_database_connections_in_use", pool="claims")
        return in_use, found("parley_database_requests_waiting", pool="claims")

    await scraped_until(port, lambda found: claims(found) == (0, 0))
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE message")
        calls = [
            asyncio.ensure_future(service.history(conversation_id, user=user))
            for user, conversation_id in conversations.items()
        ]
        await scraped_until(port, lambda found: claims(found) == (2, 2))
    await asyncio.gather(*calls)
    found = await scraped_until(port, lambda found: claims(found) == (0, 0))

    pools = {s.labels["pool"] for s in found.samples if s.name.startswith("parley_database_")}
    assert {"claims", "ends"} == pools


@pytest.mark.slow
async def test_page_is_served_while_the_database_is_away(
    start_service: StartService, database_url: str
) -> None:
    async with PostgresProxy(database_url).running() as proxy:
        service = await start_service(
            database_url=proxy.url, notify="poll", metrics_listen=ANYWHERE
        )
        port = service.worker.metrics_port
        assert port is not None
        await scraped_until(port, lambda found: found("parley_ready") == 1)
        await service.chat()
        proxy.go_down()
        assert ("UNAVAILABLE", "STORE_UNAVAILABLE") == await refused(service.chat())
        await scraped_until(port, lambda found: found("parley_ready") == 0)
        found = await asyncio.wait_for(scrape(service), 20)
        proxy.come_back()
        await scraped_until(port, lambda found: found("parley_ready") == 1)

    assert 1 == found.calls("grpc_server_handled_total", "Chat", grpc_code="OK")
    assert 1 == found.calls("grpc_server_handled_total", "Chat", grpc_code="UNAVAILABLE")


def metrics_port_of(server: ServerProcess) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", "".join(server.output))
    assert found is not None
    return int(found[1])


async def open_turn(server: ServerProcess) -> "asyncio.Task[pb.ChatResponse]":
    """Begin a turn over a connection of its own, so that any worker may get it."""

    async def chat() -> pb.ChatResponse:
        options = (("grpc.use_local_subchannel_pool", 1),)
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            return await channel.unary_unary(
                f"/{SERVICE}/Chat",
                request_serializer=pb.ChatRequest.SerializeToString,
                response_deserializer=pb.ChatResponse.FromString,
            )(pb.ChatRequest(message="hello"), metadata=metadata("ada"), timeout=PATIENCE_S)

    return asyncio.ensure_future(chat())


@pytest.mark.slow
async def test_workers_have_one_page_and_a_killed_one_loses_no_counts(database_url: str) -> None:
    """Fails when files go by process and not by place, and when workers do not share them."""
    turns = 12
    with ServerProcess(
        database_url, workers=2, metrics_listen=ANYWHERE, agent="echo:5", drain_s=0
    ) as server:
        port = metrics_port_of(server)
        calls = [await open_turn(server) for _ in range(turns)]
        found = await scraped_until(port, lambda found: found("parley_open_turns") == turns)
        assert 1 == found("parley_ready"), "the lowest, not the sum"
        workers = psutil.Process(server.process.pid).children()
        assert 2 == len(workers)
        assert all(connections_of(worker) for worker in workers), "both have some of the calls"
        os.kill(workers[0].pid, signal.SIGKILL)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        answered = sum(isinstance(end, pb.ChatResponse) for end in ended)
        assert 0 < answered < turns
        found = await scraped_until(
            port,
            lambda found: (
                found("parley_turns_total", outcome="COMPLETED") == answered
                and found("parley_open_turns") == 0
            ),
        )
        assert turns == found.calls("grpc_server_started_total", "Chat")
        assert answered == found.calls("grpc_server_handled_total", "Chat")

        while len(now := psutil.Process(server.process.pid).children()) < 2 or workers[0] in now:
            await asyncio.sleep(0.05)
        again = [await open_turn(server) for _ in range(turns)]
        answered += sum(
            isinstance(end, pb.ChatResponse)
            for end in await asyncio.gather(*again, return_exceptions=True)
        )
        found = await scraped_until(
            port, lambda found: found("parley_turns_total", outcome="COMPLETED") == answered
        )
        assert 2 * turns >= found.calls("grpc_server_started_total", "Chat") > turns
        assert 0 == server.stop()


A_WORKER = """
import asyncio, time
from parley_server.core.model import Usage
from parley_server.telemetry.metrics import Metrics

async def work():
    metrics = Metrics(lambda: "echo", {place})
    metrics.gauge("parley_open_turns", lambda: 5)
    with metrics.looking():
        metrics.agent_ran("", 0.3, Usage(11, 7, 3, 1))
        print("counted", flush=True)
        time.sleep(60)

asyncio.run(work())
"""


def killed_worker(places: WorkerFiles, place: int) -> Scrape:
    """Let a process count in a place. Returns: the page before it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", A_WORKER.format(place=place)],
        env={**os.environ, **places.environment(place)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "counted\n" == process.stdout.readline()
        return Scrape(generate_latest(places.registry).decode())
    finally:
        process.kill()
        process.communicate()


def test_counts_of_the_dead_stay_and_their_gauges_go() -> None:
    """Fails without `died`; or when the next one in a place does not go on where it finds it."""
    with shared_page(ANYWHERE) as places:
        alive = [killed_worker(places, 0), killed_worker(places, 1)]
        places.died(0)
        one = Scrape(generate_latest(places.registry).decode())
        alive.append(killed_worker(places, 0))
        places.died(0)
        places.died(1)
        none = Scrape(generate_latest(places.registry).decode())

    assert [5, 10, 10] == [found("parley_open_turns") for found in alive]
    assert (5, 0) == (one("parley_open_turns"), none("parley_open_turns"))
    assert [11, 22, 33] == [found("parley_tokens_total", type="input") for found in alive]
    assert 33 == none("parley_tokens_total", type="input")
    assert 3 == none("parley_agent_seconds_count")
    assert 3 == none("parley_agent_seconds_bucket", le="0.5")


def connections_of(worker: psutil.Process) -> list[object]:
    """Return the connections that callers have to a worker."""
    return [c for c in worker.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_port_that_is_taken_is_refused_in_a_sentence(
    database_url: str, workers: int
) -> None:
    with ServerProcess(database_url, workers=workers, metrics_listen=ANYWHERE) as server:
        address = f"127.0.0.1:{metrics_port_of(server)}"
        done = await asyncio.to_thread(
            run,
            "serve",
            PARLEY_DATABASE_URL=database_url,
            PARLEY_AGENT="echo",
            PARLEY_AUTH_HS256_SECRET="s" * 32,
            PARLEY_AUTH_ISSUER="i",
            PARLEY_AUTH_AUDIENCE="a",
            PARLEY_LISTEN=ANYWHERE,
            PARLEY_WORKERS=str(workers),
            PARLEY_METRICS_LISTEN=address,
            PARLEY_LOG_FORMAT="json",
        )
        server.stop()

    expected = f"parley-server: PARLEY_METRICS_LISTEN: {address} is in use by another program"
    assert 1 == done.returncode
    assert f"{expected}: choose another" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "address", ["9464", "unix:/tmp/x", "127.0.0.1:", ":9464", "127.0.0.1:75000"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    done = run("serve", PARLEY_METRICS_LISTEN=address)

    assert 1 == done.returncode
    assert "PARLEY_METRICS_LISTEN: must be HOST:PORT, for example 127.0.0.1:9464" in done.stderr


async def test_a_silent_client_keeps_nobody_from_the_page(measured: Service) -> None:
    assert measured.worker.metrics_port is not None
    with socket.create_connection(("127.0.0.1", measured.worker.metrics_port)) as silent:
        silent.send(b"GET /metr")
        found = await scrape(measured)
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):  # it has not been dropped for the page's sake
            silent.recv(1)

    assert found.families


async def test_age_of_published_keys_shows_and_is_infinite_until_they_are_had(
    start_service: StartService,
) -> None:
    async with Issuer().running() as issuer:
        issuer.publish(a_signing_key())
        settings = {"auth_hs256_secret": None, "metrics_listen": ANYWHERE}
        had = await start_service(auth_jwks_url=issuer.url, **settings)
        issuer.go_down()
        never = await start_service(auth_jwks_url=issuer.url, **settings)
        assert had.worker.metrics_port is not None
        await scraped_until(
            had.worker.metrics_port, lambda found: 0 < found("parley_jwks_age_seconds") < 3600
        )

        assert math.inf == (await scrape(never))("parley_jwks_age_seconds")


async def test_turn_counts_under_the_agent_that_it_was_given_to(
    start_service: StartService,
) -> None:
    """Fails if counts go by what the caller named: it named none."""
    service = await started(start_service, metrics_listen=ANYWHERE)
    same = (await service.create(agent="poet")).conversation.conversation_id
    for _ in range(2):
        await service.chat(conversation_id=same, request_id="r")
    found = await scrape(service)

    assert 1 == found("parley_turns_total", agent="poet", outcome="COMPLETED")
    assert 1 == found("parley_replays_total", agent="poet")
    assert 1 == found("parley_agent_seconds_count", agent="poet")

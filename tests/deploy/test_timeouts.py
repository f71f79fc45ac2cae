"""How long deploy/envoy/envoy.yaml lets calls take: as long as the server does, and no longer."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import pytest
import yaml

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import Settings
from parley_server.core.streams import watches
from parley_server.core.turns import machine as turns
from support.agents import Gate, ScriptedAgent
from support.envoys import CONFIG, Caller, Change, Envoy
from support.scripted_server import scripted
from support.services import StartService, metadata

SAFE = ("parley-retry", "safe")

OURS = "max_stream_duration: 135s"
SHORT: Change = (OURS, "max_stream_duration: 2s")
BRIEF: Change = (
    "max_stream_duration: 30s, grpc_timeout_header_max: 30s",
    "max_stream_duration: 1s, grpc_timeout_header_max: 1s",
)
"""A second for what is no turn and no stream."""
LEFT_OUT: tuple[Change, ...] = (
    ("timeout: 0s", "timeout: 1s"),
    ("max_stream_duration: *turn", "retry_policy: *again"),
)
"""No limits of ours for the route without retries; a second stands for the default of fifteen."""
STREAMS = {
    "/parley.v1.ConversationService/StreamChat",
    "/parley.v1.ConversationService/StreamResumeTurn",
    "/parley.v1.ConversationService/WatchConversation",
    "/parley.v1.ConversationService/WatchTurns",
    "/parley.v1.ConversationService/ExportConversations",
    "/parley.v1.ConversationService/RehearseTurn",
}


def config() -> dict[str, Any]:
    """Return the file as it is read."""
    found: dict[str, Any] = yaml.safe_load(CONFIG.read_text().replace("!ignore ", ""))
    return found


def routes() -> dict[str, Any]:
    """Return the file's routes to workers, by name."""
    listener = config()["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found = manager["route_config"]["virtual_hosts"][0]["routes"]
    return {route["name"]: route for route in found if "route" in route}


def _names(match: dict[str, Any], path: str) -> bool:
    """Say whether a route names a method, alone or with others."""
    regex = match.get("safe_regex", {}).get("regex", "")
    return path == match.get("path") or re.fullmatch(regex, path) is not None


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


async def answered_after(
    seconds_: float,
    start_service: StartService,
    folder: Path,
    *changes: Change,
    **settings: float,
) -> pb.ChatResponse:
    """Make a turn whose agent takes so long."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), **settings)
    async with Envoy(folder, [service.port], *changes) as envoy:
        await envoy.until_healthy(service.port)
        async with Caller(envoy.address) as caller:
            call = asyncio.ensure_future(
                caller.stub.Chat(pb.ChatRequest(message="hello"), metadata=metadata("ada"))
            )
            entered = asyncio.ensure_future(gate.entered.wait())
            await asyncio.wait([call, entered], return_when=asyncio.FIRST_COMPLETED)
            asyncio.get_running_loop().call_later(seconds_, gate.opened.set)
            return await call


@pytest.mark.slow
async def test_turn_is_cut_by_envoys_default_and_not_by_ours(
    start_service: StartService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folders = [tmp_path_factory.mktemp("envoy") for _ in range(2)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered_after(30, start_service, folders[0], *LEFT_OUT)
    answer = await answered_after(3, start_service, folders[1])

    assert "HELLO" == answer.response
    assert "request timeout" in (caught.value.details() or "")


@pytest.mark.slow
async def test_turn_without_a_deadline_is_ended_by_our_limit(
    start_service: StartService, tmp_path: Path
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered_after(30, start_service, tmp_path, SHORT)
    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()


def test_every_route_has_limits_of_its_own() -> None:
    """Fails when one is left out: Envoy's 15 s hold then, and cut a turn of 20 s off."""
    for name, route in routes().items():
        assert "0s" == route["route"]["timeout"], name
        assert "grpc_timeout_header_max" in route["route"]["max_stream_duration"], name


def test_turns_may_take_as_long_as_the_server_lets_them() -> None:
    cap_s = Settings.model_fields["chat_timeout_s"].default
    found = routes()
    for name in ("chat", "chat-with-request-id"):
        route = found[name]["route"]
        for limit in ("max_stream_duration", "grpc_timeout_header_max"):
            assert seconds(route["max_stream_duration"][limit]) > cap_s + turns.OVERTIME_S
        assert seconds(route["idle_timeout"]) > cap_s + turns.OVERTIME_S


def test_streams_end_by_themselves_and_may_be_silent_for_longer_than_they_ever_are() -> None:
    cap_s = Settings.model_fields["chat_timeout_s"].default
    streams = [
        route
        for route in routes().values()
        if any(_names(route["match"], path) for path in STREAMS)
    ]
    assert 4 == len(streams)
    assert STREAMS == {p for p in STREAMS if any(_names(r["match"], p) for r in streams)}
    for route in streams:
        assert {"grpc_timeout_header_max": "0s"} == route["route"]["max_stream_duration"]
        idle_s = seconds(route["route"]["idle_timeout"])
        assert idle_s > cap_s + turns.OVERTIME_S
        assert idle_s > watches.PROGRESS_S


@pytest.mark.torture  # takes twenty seconds
async def test_turn_of_twenty_seconds_is_cut_where_nothing_is_said_and_not_by_ours(
    start_service: StartService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folders = [tmp_path_factory.mktemp("envoy") for _ in range(2)]
    nothing = [("timeout: 0s", "priority: DEFAULT"), LEFT_OUT[1]]
    said = await asyncio.gather(
        answered_after(20, start_service, folders[0], *nothing),
        answered_after(20, start_service, folders[1]),
        return_exceptions=True,
    )

    assert isinstance(said[0], grpc.aio.AioRpcError)
    assert "request timeout" in (said[0].details() or "")
    assert isinstance(said[1], pb.ChatResponse)


def default(setting: str) -> Any:
    return Settings.model_fields[setting].default


def test_workers_are_pinged_no_more_often_than_they_bear() -> None:
    """With pings too close together a worker hangs up ("Too many pings"), open turns and all."""
    (cluster,) = config()["static_resources"]["clusters"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    http2 = options["explicit_http_config"]["http2_protocol_options"]
    assert seconds(http2["connection_keepalive"]["interval"]) > default("grpc_min_ping_s")
    assert default("grpc_max_streams") == http2["max_concurrent_streams"]


@pytest.mark.slow
async def test_turn_outlives_pings_that_keep_their_distance(
    start_service: StartService, tmp_path: Path
) -> None:
    """A second for the file's thirty, half of one for the worker's twenty.

    Fails when the worker does not say how often it may be pinged: gRPC's own limit is five minutes.
    """
    often = ("interval: 30s, timeout", "interval: 1s, timeout")
    answer = await answered_after(6, start_service, tmp_path, often, grpc_min_ping_s=0.5)
    assert "HELLO" == answer.response


@pytest.mark.slow
async def test_stream_outlives_the_timeout_of_turns(
    start_service: StartService, tmp_path: Path
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    async with Envoy(tmp_path, [service.port], SHORT) as envoy:
        await envoy.until_healthy(service.port)
        async with Caller(envoy.address) as caller:
            request = pb.StreamChatRequest(chat=pb.ChatRequest(message="hello"))
            call = caller.stub.StreamChat(request, metadata=metadata("ada"), timeout=60)
            asyncio.get_running_loop().call_later(2.5, gate.opened.set)
            events = [event async for event in call]
    assert "HELLO" == events[-1].completed.response


@pytest.mark.slow
async def test_feed_outlives_the_timeouts_of_turns_and_of_other_calls(
    start_service: StartService, tmp_path: Path
) -> None:
    """Fails where WatchTurns has no route of its own: that of changes ends it."""
    service = await start_service()
    async with Envoy(tmp_path, [service.port], SHORT, BRIEF) as envoy:
        await envoy.until_healthy(service.port)
        async with Caller(envoy.address) as caller:
            watch: Any = caller.stub.WatchTurns(
                pb.WatchTurnsRequest(only_new=True), metadata=metadata("ada"), timeout=60
            )
            assert (await watch.read()).HasField("progress")
            await asyncio.sleep(2.5)
            request = pb.StartTurnRequest(chat=pb.ChatRequest(message="hello"))
            started = await caller.stub.StartTurn(request, metadata=metadata("ada"))
            told = await watch.read()
            watch.cancel()
    assert started.turn.turn_id == told.turn.turn_id


@pytest.mark.slow
@pytest.mark.parametrize("method", ["AppendMessages", "ForkConversation", "EraseOwner"])
async def test_what_writes_much_at_once_outlives_the_timeout_of_other_calls(
    tmp_path: Path, method: str
) -> None:
    """Clients give them a minute. Fails on the route of short calls."""

    async def written(_: Any) -> Any:
        await asyncio.sleep(1.5)
        return getattr(pb, f"{method}Response")()

    async with (
        scripted(written) as worker,
        Envoy(tmp_path, [worker.port], BRIEF) as envoy,
        Caller(envoy.address) as caller,
    ):
        call = getattr(caller.stub, method)
        for marks in ((), (SAFE,)):
            await call(getattr(pb, f"{method}Request")(), metadata=marks, timeout=60)
    assert 2 == len(worker.asked)


@asynccontextmanager
async def nobody_answers() -> AsyncIterator[int]:
    """Take connections and say nothing. Yields: the port."""
    over = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()


async def test_callers_deadline_ends_a_call_even_if_the_worker_says_nothing(
    tmp_path: Path,
) -> None:
    """Fails without grpc_timeout_header_max: the call then ends with the route's own limit."""
    async with (
        nobody_answers() as port,
        Envoy(tmp_path, [port]) as envoy,
        httpx.AsyncClient(base_url=f"http://{envoy.address}", timeout=30) as http,
    ):
        response = await http.post(
            "/v1/conversations:chat",
            json={"message": "hello", "request_id": "r"},
            headers={"grpc-timeout": "700m"},
        )
    assert 504 == response.status_code
    assert {"message": "downstream duration timeout"} == response.json()

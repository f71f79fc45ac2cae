"""Sending traces: a collector that is down, slow or hangs costs no turn anything."""

import asyncio
import threading
import time
from pathlib import Path

import httpx2
import pytest
import trustme

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import BadSettings
from parley_server.process.worker import Worker
from parley_server.telemetry.tracing.sending import SEND_S, Sending
from support.agents import ScriptedAgent
from support.certificates import BothSides
from support.otlp_receiver import Receiver, named
from support.processes import ServerProcess, lines_of, run
from support.services import StartService, metadata, settings_for
from support.traced_workers import (
    CHAT,
    PARENT,
    TRACE,
    Traced,
    aim,
    chat,
    until_calls,
    until_named,
)
from support.web_proxies import a_recording_proxy

PATIENCE_S = 60
ANY_PORT = "127.0.0.1:0"


async def until_line(server: ServerProcess, event: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not lines_of(server, event):
            await asyncio.sleep(0.05)


async def turns(server: ServerProcess, count: int) -> float:
    """Make turns one after the other. Returns: how long the slowest took, in s."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        await server.chat()
        took.append(time.monotonic() - began)
    return max(took)


@pytest.mark.slow
async def test_a_collector_that_is_down_costs_one_warning_and_gets_what_comes_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as gone:
        port = gone.port
    aim(monkeypatch, gone.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with ServerProcess(database_url, traces="otlp") as server:
        slowest_s = await turns(server, 10)
        await until_line(server, "traces lost")
        await turns(server, 10)
        with Receiver(port=port) as receiver:
            async with asyncio.timeout(PATIENCE_S):
                while not lines_of(server, "traces delivered again"):
                    await server.chat()
            spans = await until_named(receiver, CHAT)
            server.stop()

    assert slowest_s < 5
    assert CHAT in {span.name for span in spans}
    (warned,) = lines_of(server, "traces lost")
    assert "warning" == warned["level"]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warned["hint"]
    assert [] == [line for line in server.output if "opentelemetry" in line]


@pytest.mark.slow
async def test_a_collector_that_hangs_holds_up_neither_turns_nor_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the end waits for as long as the library does."""
    opened, reached = threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        opened.wait(PATIENCE_S)

    with Receiver(hang) as receiver:
        aim(monkeypatch, receiver.endpoint)
        with ServerProcess(database_url, traces="otlp") as server:
            await turns(server, 1)
            assert await asyncio.to_thread(reached.wait, PATIENCE_S)
            slowest_s = await turns(server, 20)
            began = time.monotonic()
            code = await asyncio.to_thread(server.stop)
            took_s = time.monotonic() - began
        opened.set()

    assert slowest_s < 5
    assert 0 == code
    assert took_s < SEND_S + 10
    assert 1 == len(lines_of(server, "traces not sent before the end"))


async def test_the_end_of_a_worker_sends_what_is_left(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        with ServerProcess(database_url, traces="otlp") as server:
            await server.chat()
            assert [] == receiver.requests
            assert 0 == await asyncio.to_thread(server.stop)
        assert CHAT in {span.name for span in receiver.spans()}
    assert [] == lines_of(server, "traces lost")


async def test_what_waits_for_a_collector_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, batch, made = 64, 16, 5_000
    opened, reached = threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        opened.wait(PATIENCE_S)

    with Receiver(hang) as receiver:
        aim(monkeypatch, receiver.endpoint)
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", str(queue))
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(batch))
        sending = Sending(sample=1, has_content=True, worker_index=None)
        tracer = sending.provider.get_tracer("flood")
        tracer.start_span("first").end()
        assert await asyncio.to_thread(reached.wait, PATIENCE_S)
        for number in range(made):
            tracer.start_span(f"span {number}", attributes={"error.type": "x" * 100_000}).end()
        opened.set()
        await sending.close()
        spans = receiver.spans()

    assert f"span {made - 1}" in {span.name for span in spans}
    assert len(spans) <= queue + 2 * batch
    assert 16_384 == len(str(named(spans, f"span {made - 1}").attributes["error.type"]))


async def test_traces_are_sent_with_certificates_that_were_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails with the library's exporter alone, which reads them once."""
    sides = BothSides.written(tmp_path)
    for name, file in (
        ("CERTIFICATE", sides.ours.client_ca),
        ("CLIENT_CERTIFICATE", sides.ours.cert),
        ("CLIENT_KEY", sides.ours.key),
    ):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", str(file))
    with Receiver(credentials=sides.server_credentials()) as receiver:
        aim(monkeypatch, receiver.endpoint)
        sending = Sending(sample=1, has_content=False, worker_index=None)
        tracer = sending.provider.get_tracer("renewing")
        tracer.start_span("before").end()
        await until_named(receiver, "before")
    sides.ca = trustme.CA()
    for side in (sides.theirs, sides.ours):
        sides.write(side)
    with Receiver(port=receiver.port, credentials=sides.server_credentials()) as receiver:
        tracer.start_span("after").end()
        await until_named(receiver, "after")
        await sending.close()


async def test_no_proxy_stands_before_a_collector_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails without grpc.enable_http_proxy: gRPC asks the proxy, and all traces are lost."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with a_recording_proxy() as proxy:
        for name, url in proxy.variables.items():
            monkeypatch.setenv(name, url)
        with Receiver() as receiver:
            aim(monkeypatch, receiver.endpoint)
            sending = Sending(sample=1, has_content=False, worker_index=None)
            sending.provider.get_tracer("direct").start_span("any").end()
            await sending.close()
            spans = receiver.spans()

    assert ["any"] == [span.name for span in spans]
    assert [] == proxy.asked


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "Parley sends traces over gRPC"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "begins with http:// or https://"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "OTEL_…: Invalid value"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "OTEL_…: could not convert"),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "/no/ca",
            "^OTEL_.*_CERTIFICATE: cannot read /no/ca",
        ),
    ],
)
async def test_variables_that_would_lose_traces_refuse_the_start(
    name: str, value: str, expected: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=expected):
        Worker(settings_for(database_url, traces="otlp"), agent=ScriptedAgent())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PARLEY_TRACES", "on", "PARLEY_TRACES: Input should be 'off' or 'otlp'"),
        ("PARLEY_TRACES_SAMPLE", "1.5", "PARLEY_TRACES_SAMPLE: Input should be less than or equal"),
        ("PARLEY_TRACES_CONTENT", "some", "PARLEY_TRACES_CONTENT: Input should be a valid boolean"),
    ],
)
def test_settings_that_are_wrong_are_named(name: str, value: str, expected: str) -> None:
    done = run("serve", **{name: value})
    assert 1 == done.returncode
    assert expected in done.stderr


async def test_workers_say_who_they_are(start_traced: Traced, receiver: Receiver) -> None:
    service = await start_traced()
    await chat(service)
    (call,) = [span for span in await until_calls(receiver) if span.kind == "SERVER"]
    assert "parley" == call.resource["service.name"]
    assert call.resource["service.version"]


async def test_variables_of_opentelemetry_name_the_service(
    start_traced: Traced, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat-eu")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    await chat(await start_traced())
    (call,) = [span for span in await until_calls(receiver) if span.kind == "SERVER"]
    assert "chat-eu" == call.resource["service.name"]
    assert "prod" == call.resource["deployment.environment.name"]
    assert "abc" == receiver.headers[0]["x-key"]


async def test_the_sdk_can_be_disabled_by_its_own_variable(
    start_traced: Traced, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    service = await start_traced()
    assert (await chat(service, "Hi", PARENT)).turn_id
    assert [] == receiver.requests


async def test_measured_times_name_a_recorded_trace_as_their_example(
    start_service: StartService,
) -> None:
    service = await start_service(metrics_listen=ANY_PORT)
    await chat(service, "Hi", PARENT)
    async with httpx2.AsyncClient(trust_env=False) as client:
        page = await client.get(
            f"http://127.0.0.1:{service.worker.metrics_port}/metrics",
            headers={"accept": "application/openmetrics-text; version=1.0.0"},
            timeout=PATIENCE_S,
        )

    examples = [line for line in page.text.splitlines() if f'# {{trace_id="{TRACE}"}}' in line]
    assert {"grpc_server_handling_seconds_bucket", "parley_agent_seconds_bucket"} == {
        line.partition("{")[0] for line in examples
    }


async def test_unrecorded_calls_are_no_examples(start_service: StartService) -> None:
    service = await start_service(metrics_listen=ANY_PORT)
    await chat(service)
    await chat(service, "Hi", ("traceparent", PARENT[1][:-1] + "0"))
    async with httpx2.AsyncClient(trust_env=False) as client:
        page = await client.get(
            f"http://127.0.0.1:{service.worker.metrics_port}/metrics",
            headers={"accept": "application/openmetrics-text; version=1.0.0"},
            timeout=PATIENCE_S,
        )
    assert "parley_agent_seconds_bucket" in page.text
    assert "trace_id" not in page.text


async def test_log_lines_name_the_span_that_they_are_about(
    database_url: str, receiver: Receiver
) -> None:
    with ServerProcess(database_url, traces="otlp") as server:
        await server.stub.Chat(
            pb.ChatRequest(message="Hi"),
            timeout=20,
            metadata=(*metadata("ada"), PARENT),
            wait_for_ready=True,
        )
        await server.chat()
        server.stop()
        spans = receiver.spans()
    calls = [span for span in spans if span.kind == "SERVER"]
    assert [(span.trace_id, span.id) for span in calls] == [
        (line["trace_id"], line["span_id"]) for line in lines_of(server, "call")
    ]

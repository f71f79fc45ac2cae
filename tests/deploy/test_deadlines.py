"""How long each call may take, by method: clients ask for no more than proxies let through."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_client import AsyncParleyClient
from parley_client.calls import RETRY_IS_SAFE
from parley_server.config import Settings
from parley_server.core.turns.machine import OVERTIME_S
from support.envoys import ROOT
from support.proxy_routes import Headers, envoy_route, grpc_route, istio_rule

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]
PATHS = {method.name: f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}
WITHOUT_END = {"WatchConversation", "WatchTurns", "ExportConversations"}
"""What clients begin again for as long as their callers like."""
STREAMS = {method.name for method in SERVICE.methods if method.server_streaming}
MARKED = dict(RETRY_IS_SAFE)
HEADERS: tuple[Headers, ...] = ({}, MARKED, {**MARKED, "grpc-previous-rpc-attempts": "1"})
"""As a caller says that a call may be sent again, or not; and as gRPC itself sends one again."""

PYTHON = {
    "stream": "StreamChat",
    "history_page": "GetHistory",
    "conversation": "GetConversation",
    "conversations_page": "ListConversations",
    "turn": "GetTurn",
    "usage": "GetUsage",
}
"""The Python client's names for methods that it names otherwise."""
GO = {"Stream": "StreamChat"}

Times = dict[str, float]


def python_times() -> Times:
    found = {}
    for name, method in inspect.getmembers(AsyncParleyClient, inspect.isfunction):
        timeout = inspect.signature(method).parameters.get("timeout_s")
        rpc = PYTHON.get(name, name.title().replace("_", ""))
        if timeout is not None and rpc in PATHS:
            found[rpc] = timeout.default
    return found


def go_times() -> Times:
    """Read each function's time, and the method that it calls, or else is named after."""
    defaults = _numbers(r"Default(\w+)Timeout += (\d+) \* time\.Second", "clients/go/options.go")
    found = {}
    for function in _parts("clients/go", "*.go", r"^(?=func )"):
        name = re.match(r"func \(c \*Client\) (\w+)", function)
        kind = re.search(r"withTimeout\(ctx, (?:c\.|Default)(\w+)Timeout\)", function)
        if name and kind:
            called = re.search(r"stub\.(\w+)", function)
            rpc = called[1] if called else GO.get(name[1], name[1])
            found[rpc] = defaults[kind[1].lower()]
    return found


def node_times() -> Times:
    """Read each builder's time and method. A stream's call is built as the other one's."""
    defaults = _numbers(r"(\w+)_TIMEOUT_MS = ([\d_]+);", "clients/node/src/calls.ts")
    found = {}
    for part in _parts("clients/node/src", "*.ts", r"^(?=(?:export )?(?:function|class) )"):
        kind = re.search(r"(?:=|\?\?) (\w+)_TIMEOUT_MS", part)
        called = re.search(r"rpcs\.(\w+)", part)
        if kind and called:
            rpc = called[1][0].upper() + called[1][1:]
            found[rpc] = defaults[kind[1].lower()] / 1000
    return found | {"StreamChat": found["Chat"], "StreamResumeTurn": found["ResumeTurn"]}


def java_times() -> Times:
    """Read each call's time. Streams of turns have that of turns; `change` is given its own."""
    folder = "clients/java/src/main/java/dev/parley/client"
    turns_and_reads = r"(\w+)Timeout = Duration\.ofSeconds\((\d+)\)"
    changes = r"(CHANGE)_TIMEOUT = Duration\.ofSeconds\((\d+)\)"
    defaults = _numbers(turns_and_reads, f"{folder}/ClientBuilder.java")
    defaults |= _numbers(changes, f"{folder}/Connection.java")
    (text,) = _texts(folder, "AsyncParleyClient.java")
    found = {}
    for part in re.split(r"^(?=    \S.*\{$)", text, flags=re.MULTILINE):
        called = re.search(r"get(\w+)Method\(\)", part)
        own = re.search(r"connection\.(read|chat)Timeout", part)
        kind = own or re.search(r"\b(read|change)\(\s*ConversationServiceGrpc", part)
        if called and kind:
            found[called[1]] = defaults[kind[1]]
    for name in ("Append", "Fork"):  # their options have it
        (options,) = _texts(folder, f"{name}Options.java")
        assert "Connection.CHANGE_TIMEOUT" in options
    for name in ("stream", "streamResumeTurn", "rehearseTurn"):
        assert re.search(rf" {name}\([^{{]*\{{[^}}]*connection\.chatTimeout\(\)", text), name
        found["StreamChat" if name == "stream" else name[0].upper() + name[1:]] = defaults["chat"]
    return found


def _texts(folder: str, pattern: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).glob(pattern)):
        yield path.read_text()


def _parts(folder: str, pattern: str, border: str) -> Iterator[str]:
    for text in _texts(folder, pattern):
        yield from re.split(border, text, flags=re.MULTILINE)


def _numbers(pattern: str, path: str) -> Times:
    """Return numbers of a file, each by its name in small letters."""
    found = re.findall(pattern, (ROOT / Path(path)).read_text())
    return {name.lower(): float(number) for name, number in found}


@pytest.mark.parametrize("times", [go_times, node_times, java_times])
def test_every_client_gives_each_call_the_same_time(times: Callable[[], Times]) -> None:
    assert PATHS.keys() - WITHOUT_END == python_times().keys()
    assert python_times() == times()


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


def envoy_lets_s(path: str, headers: Headers) -> float:
    """Return how long Envoy lets a call take whose caller has a deadline."""
    limit = envoy_route(path, headers)["max_stream_duration"]
    header_s = seconds(limit["grpc_timeout_header_max"])
    assert "max_stream_duration" not in limit or header_s == seconds(limit["max_stream_duration"])
    return header_s or float("inf")


def istio_lets_s(path: str, headers: Headers) -> float:
    return seconds(istio_rule(path, headers)["timeout"]) or float("inf")


def linkerd_lets_s(path: str, headers: Headers) -> float:
    route, _ = grpc_route("linkerd", path, headers)
    annotations = route["metadata"].get("annotations", {})
    assert not [name for name in annotations if name.startswith("timeout.")]
    return float("inf")


PROXIES = {"envoy": envoy_lets_s, "istio": istio_lets_s, "linkerd": linkerd_lets_s}


@pytest.mark.parametrize("headers", HEADERS, ids=["plain", "safe", "tried by gRPC"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_proxy_lets_each_call_take_as_long_as_clients_ask_for(proxy: str, headers: Headers) -> None:
    """Fails when a method that clients give a minute takes the route of short calls."""
    too_short = {
        rpc: (asked_s, lets_s)
        for rpc, asked_s in python_times().items()
        if (lets_s := PROXIES[proxy](PATHS[rpc], headers)) < asked_s + 5
    }
    assert {} == too_short
    assert {float("inf")} == {PROXIES[proxy](PATHS[rpc], headers) for rpc in STREAMS}


def test_clients_give_turns_the_time_that_the_server_does() -> None:
    cap_s: Any = Settings.model_fields["chat_timeout_s"].default
    turns = {"Chat", "StreamChat", "ResumeTurn", "StreamResumeTurn", "RehearseTurn"}
    assert {cap_s} == {python_times()[rpc] for rpc in turns}
    assert all(s <= cap_s for s in python_times().values())
    assert envoy_lets_s(PATHS["Chat"], {}) > cap_s + OVERTIME_S

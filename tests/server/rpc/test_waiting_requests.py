"""The fields with which callers bring tools and give results: what is wrong, and each limit."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as messages
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import InvalidRequest
from parley_server.core.model import (
    NO_ARGUMENTS,
    Given,
    GivenCall,
    GivenKind,
    OnDisconnect,
    Position,
    TurnRef,
)
from parley_server.rpc import requests, resume_requests

KEY, OTHER = "0198F6A2-7c1e-7d3b-9a50-3f2b8c4d5e6f", "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e60"
OBJECT = '{"type": "object"}'


def violations(read: Callable[[], Any]) -> dict[str, str]:
    """Return the reason for each field that is wrong."""
    try:
        read()
    except InvalidRequest as error:
        return {violation.field: violation.reason for violation in error.violations}
    return {}


def a_tool(name: str = "weather", **fields: str) -> messages.Tool:
    return messages.Tool(name=name, **fields)


def wrong_tools(*tools: messages.Tool) -> dict[str, str]:
    chat = pb.ChatRequest(message="hello", tools=tools)
    found = violations(lambda: requests.chat(chat, {""}, 1000))
    start = pb.StartTurnRequest(chat=chat)
    in_start = violations(lambda: requests.start(start, {""}, 1000))
    assert {f"chat.{field}": reason for field, reason in found.items()} == in_start
    return found


@pytest.mark.parametrize(
    ("field", "reason", "tool"),
    [
        ("name", "BAD_NAME", a_tool("")),
        ("name", "BAD_NAME", a_tool("x" * 65)),
        ("name", "BAD_NAME", a_tool("a b")),
        ("name", "BAD_NAME", a_tool("wëather")),
        ("name", "REPEATED", a_tool("first")),
        ("description", "HAS_NUL", a_tool(description="\0")),
        ("parameters_schema", "BAD_SCHEMA", a_tool(parameters_schema="{")),
        ("parameters_schema", "BAD_SCHEMA", a_tool(parameters_schema="[" * 50_000)),
        ("parameters_schema", "BAD_SCHEMA", a_tool(parameters_schema="[]")),
        ("parameters_schema", "BAD_SCHEMA", a_tool(parameters_schema="{}")),
        ("parameters_schema", "BAD_SCHEMA", a_tool(parameters_schema='{"type": "string"}')),
        (
            "parameters_schema",
            "BAD_SCHEMA",
            a_tool(parameters_schema='{"type": "object", "properties": []}'),
        ),
        (
            "parameters_schema",
            "BAD_SCHEMA",
            a_tool(parameters_schema='{"type": "object", "maximum": NaN}'),
        ),
        (
            "parameters_schema",
            "BAD_SCHEMA",
            a_tool(parameters_schema='{"type": "object", "title": "\0"}'),
        ),
    ],
)
def test_wrong_tool_is_named(field: str, reason: str, tool: messages.Tool) -> None:
    found = wrong_tools(a_tool("first"), a_tool("first"[::-1]), tool)
    assert {f"tools[2].{field}": reason} == found


def test_tools_are_bounded() -> None:
    assert {} == wrong_tools(*(a_tool(f"t{n}") for n in range(64)))
    assert {"tools": "TOO_MANY"} == wrong_tools(*(a_tool(f"t{n}") for n in range(65)))
    rest = 65_536 - len("weather") - len(OBJECT)
    fits = a_tool(description="x" * rest, parameters_schema=OBJECT)
    assert {} == wrong_tools(fits)
    fits.description += "x"
    assert {"tools": "TOO_LONG"} == wrong_tools(fits)


def test_tool_without_a_schema_takes_no_arguments() -> None:
    chat = pb.ChatRequest(message="hello", tools=[a_tool(), a_tool("b", parameters_schema=OBJECT)])
    first, second = requests.chat(chat, {""}, 1000).tools
    assert NO_ARGUMENTS == first.parameters_schema
    assert "object" == json.loads(first.parameters_schema)["type"]
    assert OBJECT == second.parameters_schema


def test_tools_count_in_the_fingerprint_only_where_there_are_some() -> None:
    chat = pb.ChatRequest(message="hello")
    without = requests.chat(chat, {""}, 1000).fingerprint()
    chat.tools.append(a_tool())
    one = requests.chat(chat, {""}, 1000).fingerprint()
    chat.tools[0].description = "other"

    assert 3 == len({without, one, requests.chat(chat, {""}, 1000).fingerprint()})
    # As it was stored before there were tools.
    assert "d5da045a" == without.hex()[:8]


def a_resume(*results: pb.CallResult, **fields: Any) -> pb.ResumeTurnRequest:
    return pb.ResumeTurnRequest(**{"request_id": "r", **fields}, results=results)


def wrong_resume(*results: pb.CallResult, **fields: Any) -> dict[str, str]:
    request = a_resume(*results, **fields)
    found = violations(lambda: resume_requests.resume(request))
    streamed = pb.StreamResumeTurnRequest(resume=request)
    in_stream = violations(lambda: resume_requests.stream(streamed))
    assert {f"resume.{field}": reason for field, reason in found.items()} == in_stream
    return found


@pytest.mark.parametrize(
    ("field", "reason", "result"),
    [
        (".call_key", "REQUIRED", pb.CallResult(result="x")),
        (".call_key", "NOT_A_UUID", pb.CallResult(call_key="x", result="x")),
        (".call_key", "REPEATED", pb.CallResult(call_key=OTHER.upper(), result="x")),
        (".outcome", "REQUIRED", pb.CallResult(call_key=KEY)),
        (".result", "TOO_LONG", pb.CallResult(call_key=KEY, result="x" * 65_537)),
        (".result", "HAS_NUL", pb.CallResult(call_key=KEY, result="\0")),
        (".error", "REQUIRED", pb.CallResult(call_key=KEY, error="")),
        (".error", "TOO_LONG", pb.CallResult(call_key=KEY, error="ä" * 32_769)),
        (
            ".denial.reason",
            "TOO_LONG",
            pb.CallResult(call_key=KEY, denial=pb.Denial(reason="x" * 8193)),
        ),
        (
            ".approval.arguments",
            "TOO_LONG",
            pb.CallResult(call_key=KEY, approval=pb.Approval(arguments="x" * 32_769)),
        ),
    ],
)
def test_wrong_result_is_named(field: str, reason: str, result: pb.CallResult) -> None:
    good = pb.CallResult(call_key=OTHER, result="x" * 65_536)
    assert {f"results[1]{field}": reason} == wrong_resume(good, result)


def test_all_wrong_fields_of_a_resume_are_named_at_once() -> None:
    expected = {
        "conversation_id": "NOT_TOGETHER",
        "request_id": "BAD_REQUEST_ID",
        "results": "REQUIRED",
        "on_disconnect": "UNKNOWN_VALUE",
    }
    assert expected == wrong_resume(request_id="a b", conversation_id=KEY, on_disconnect=7)
    assert {"conversation_id": "REQUIRED", "turn_id": "REQUIRED"} == wrong_resume(
        pb.CallResult(call_key=KEY, result=""), request_id=""
    )
    many = [pb.CallResult(call_key=KEY, result="")] * 65
    assert {"results": "TOO_MANY"} == wrong_resume(*many)


def test_resume_is_read() -> None:
    request = a_resume(
        pb.CallResult(call_key=KEY, result=""),
        pb.CallResult(call_key=OTHER, approval=pb.Approval(arguments="{}")),
        on_disconnect=pb.ON_DISCONNECT_CONTINUE,
    )
    streamed = pb.StreamResumeTurnRequest(resume=request, after_attempt=2, after_index=3)

    ask, after = resume_requests.stream(streamed)

    assert Position(2, 3) == after
    assert (
        GivenCall(Given(KEY.lower(), GivenKind.RESULT, "")),
        GivenCall(Given(OTHER, GivenKind.APPROVAL, ""), "{}"),
    ) == ask.calls
    assert (TurnRef(None, None, "r"), OnDisconnect.CONTINUE, "resume.results") == (
        ask.turn,
        ask.on_disconnect,
        ask.field,
    )

"""What becomes of lists of tools: each wrong one has an outcome, and takes no other with it."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.agents.mcp.listing import (
    MAX_SCHEMA_BYTES,
    MAX_TOLD_BYTES,
    MAX_TOOLS,
    Listed,
    McpTool,
    fitting_name,
    offered,
    read_tools,
    schema_complaint,
)
from support.mcp_children import a_tool

OBJECT = {"type": "object"}
LOOP = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


DEEP = nested(5000)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        (None, "is no JSON object"),
        ("object", "is no JSON object"),
        (True, "is no JSON object"),
        ({"type": "array"}, "is not of type object"),
        ({"type": ["object", "null"]}, "is not of type object"),
        ({"type": "object", "properties": 7}, "is no valid JSON schema"),
        ({"properties": {"x": {"type": "integre"}}}, "is no valid JSON schema"),
        ({"required": "x"}, "is no valid JSON schema"),
        (LOOP, "ends nowhere"),
        ({"properties": {"x": {"$ref": "#/$defs/none"}}}, "points at nothing"),
        ({"properties": {"x": {"$ref": "https://example.com/s.json"}}}, "points at nothing"),
        ({"properties": {"x": {"$ref": "file:///etc/passwd"}}}, "points at nothing"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "is longer than"),
        (DEEP, "cannot be read"),
        ({"description": "\ud800"}, "cannot be read"),
        ({"properties": {"x": {"default": float("nan")}}}, "cannot be read"),
    ],
    ids=[*"abcdefghijklm", "deep", "surrogate", "nan"],
)
def test_schema_that_no_model_can_be_told_is_refused(schema: object, complaint: str) -> None:
    assert complaint in (schema_complaint(schema) or "")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        OBJECT,
        TREE,
        {"properties": {"$ref": {"type": "string"}}},
        {"properties": {"x": {"anyOf": [{}, {}]}, "y": {"$ref": "#/properties/x/anyOf/1"}}},
        {"properties": {"x": {"$ref": "#/$defs/A%3CB%3E"}}, "$defs": {"A<B>": {}}},
    ],
    ids=str,
)
def test_schema_that_models_know_is_taken(schema: dict[str, Any]) -> None:
    assert schema_complaint(schema) is None


def test_schema_without_a_type_is_told_as_an_object() -> None:
    (tool,), left_out = read_tools([a_tool(schema={"properties": {}})])

    assert {"type": "object", "properties": {}} == tool.schema
    assert [] == left_out


@pytest.mark.parametrize("entry", [None, 7, "look", [], {}, a_tool(""), a_tool(" "), a_tool(7)])
def test_entry_without_a_name_is_left_out(entry: object) -> None:
    usable, left_out = read_tools([entry, a_tool("see")])

    assert ["see"] == [tool.name for tool in usable]
    assert ["it has no name"] == [each.reason for each in left_out]


@given(st.text())
def test_any_name_becomes_one_that_providers_take(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{0,64}", fitting_name(name))


def a_server(name: str, *tools: str, **fields: Any) -> Listed:
    listed = [McpTool(tool, "", OBJECT) for tool in tools]
    return Listed(name, fields.get("prefix", ""), fields.get("wanted"), listed)


@pytest.mark.parametrize(
    ("servers", "own", "names"),
    [
        ([a_server("a", "look")], [], ["look"]),
        ([a_server("a", "look", "see", wanted=["see"])], [], ["see"]),
        ([a_server("a", "look", prefix="shop")], [], ["shop_look"]),
        ([a_server("a", "look.up/now")], [], ["look_up_now"]),
        ([a_server("a", "look"), a_server("b", "look")], [], ["look", "b_look"]),
        ([a_server("a", "look")], ["look"], ["a_look"]),
        ([a_server("a", "look")], ["look", "a_look"], []),
        ([a_server("a", "look", "look", "look")], [], ["look", "a_look"]),
        ([a_server("a", "look.x", "look/x")], [], ["look_x", "a_look_x"]),
        ([a_server("a", "final_result")], [], ["a_final_result"]),
        ([a_server("a", "long" * 25)], [], [fitting_name("long" * 25)]),
    ],
)
def test_tools_are_offered_under_names_of_their_own(
    servers: list[Listed], own: list[str], names: list[str]
) -> None:
    found, complaints = offered(servers, own)

    assert names == [tool.name for tool in found]
    for tool in found:
        plain = [tool.tool.name, f"shop_{tool.tool.name}"]
        told = [c.reason for _, c in complaints if c.tool == tool.tool.name]
        assert tool.name in plain or any(repr(tool.name) in reason for reason in told)


def test_tools_that_a_table_names_and_the_server_does_not_have_are_told_of() -> None:
    _, complaints = offered([a_server("a", "look", wanted=["see"])], [])

    assert [("a", "see", "the server has no tool of this name")] == [
        (server, *complaint) for server, complaint in complaints
    ]


def test_tools_beyond_what_models_bear_are_left_out_with_advice() -> None:
    found, complaints = offered([a_server("a", *(f"t{n}" for n in range(500)))], [])

    assert [f"t{n}" for n in range(MAX_TOOLS)] == [tool.name for tool in found]
    assert 500 - MAX_TOOLS == len(complaints)
    assert "name those that it needs in `tools`" in complaints[0][1].reason


def test_text_beyond_what_models_bear_is_left_out() -> None:
    tools = [McpTool(f"t{n}", "x" * 4000, OBJECT) for n in range(100)]

    found, _ = offered([Listed("a", "", None, tools)], [])

    assert MAX_TOLD_BYTES // 4100 <= len(found) <= MAX_TOLD_BYTES // 4000

"""Schemas become such as every provider takes; a call gets the server's own names back."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from parley_server.agents.mcp.fitting import Schema, fitted
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.model_strings import model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from support.agent_runs import told_by
from support.fake_openai import Call, Fail, FakeOpenAI, Say
from support.mcp_children import a_garbage_table, a_text, a_tool
from support.openai_script import Json, Step

TEXT = {"type": "string"}
A, B = {"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}}
LONG = "filter__" * 9


def an_object(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties}


def refuses_schema(schema: Any, is_whole: bool = True) -> bool:
    """What OpenAI, Azure and Anthropic answer 400 to, as their messages say."""
    if isinstance(schema, list):
        return any(refuses_schema(each, False) for each in schema)
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type")
    if "items" not in schema and "array" in ([kinds] if isinstance(kinds, str) else kinds or []):
        return True  # "array schema missing items"
    if is_whole and {"anyOf", "oneOf", "allOf", "enum", "not"} & set(schema):
        return True  # "does not support oneOf, allOf, or anyOf at the top level"
    if is_whole and not all(
        re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name) for name in schema.get("properties", {})
    ):
        return True  # "Property keys should match pattern"
    values = ("enum", "const", "default")
    return any(refuses_schema(each, False) for key, each in schema.items() if key not in values)


SCHEMAS: dict[str, tuple[Schema, Schema]] = {
    "nothing to change": (an_object(a=TEXT), an_object(a=TEXT)),
    "an array": (an_object(a={"type": "array"}), an_object(a={"type": "array", "items": {}})),
    "an array in a list of types": (
        an_object(a={"anyOf": [{"type": ["array", "null"]}, TEXT]}),
        an_object(a={"anyOf": [{"type": ["array", "null"], "items": {}}, TEXT]}),
    ),
    "an argument that is called type, and values that look so": (
        an_object(type={"enum": [{"type": "array"}]}, items={"default": {"type": "array"}}),
        an_object(type={"enum": [{"type": "array"}]}, items={"default": {"type": "array"}}),
    ),
    "one of two must be there": (
        {**an_object(a=TEXT, b=TEXT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        an_object(a=TEXT, b=TEXT),
    ),
    "branches with arguments": (
        {"type": "object", "oneOf": [A, {**B, "required": ["a"]}, {"type": "null"}]},
        {**an_object(a=TEXT, b=TEXT), "required": ["a"]},
    ),
    "branches that are told apart": (
        {"type": "object", "oneOf": [an_object(k={"const": 1}), an_object(k={"const": 2})]},
        an_object(k={"anyOf": [{"const": 1}, {"const": 2}]}),
    ),
    "all of several, by reference": (
        {"type": "object", "allOf": [{"$ref": "#/$defs/A"}, B], "$defs": {"A": A}},
        {**an_object(a=TEXT, b=TEXT), "required": ["a"], "$defs": {"A": A}},
    ),
    "a reference into a branch": (
        {"type": "object", "anyOf": [B, an_object(c={"$ref": "#/anyOf/0/properties/b"})]},
        an_object(b=TEXT, c={}),
    ),
    "a branch that is the whole": (
        {**an_object(a=TEXT), "allOf": [{"$ref": "#"}]},
        an_object(a=TEXT),
    ),
    "names": (
        {
            **an_object(**{"$top": TEXT, "_top": {"$ref": "#/properties/$top"}, LONG: TEXT}),
            "required": ["$top"],
        },
        {
            **an_object(
                **{
                    "_top_81bf98e4": TEXT,
                    "_top": {"$ref": "#/properties/_top_81bf98e4"},
                    f"{LONG[:55]}_93187154": TEXT,
                }
            ),
            "required": ["_top_81bf98e4"],
        },
    ),
}


@pytest.mark.parametrize("how", SCHEMAS)
def test_a_schema_becomes_one_that_no_provider_refuses(how: str) -> None:
    schema, expected = SCHEMAS[how]
    found = fitted(schema)

    assert expected == found.schema
    assert not refuses_schema(found.schema)


def test_what_is_left_out_or_renamed_is_told() -> None:
    found = fitted({**an_object(**{"$top": TEXT}), "not": {}})

    assert [
        "not of its whole inputSchema is left out",
        "its argument '$top' is offered as '_top'",
    ] == found.changes
    assert {"_top": "$top"} == found.arguments


def test_branches_in_circles_are_read_to_a_bound() -> None:
    """Takes forever if every reference is followed."""
    circle = {**an_object(a=TEXT), "anyOf": [{"$ref": "#"}] * 500}

    assert an_object(a=TEXT) == fitted(circle).schema


@pytest.fixture
async def servers() -> AsyncIterator[list[McpServers]]:
    made: list[McpServers] = []
    yield made
    for each in made:
        await each.close()


async def test_one_schema_that_a_provider_refuses_does_not_end_the_turns_of_its_agent(
    servers: list[McpServers], tmp_path: Path
) -> None:
    """Fails if schemas go on as they come, and if calls go on with the names that were told."""
    schemas = [schema for schema, _ in SCHEMAS.values()]
    tools = [a_tool(f"odd_{n}", schema) for n, schema in enumerate(schemas)]
    last = f"odd_{len(schemas) - 1}"
    script = {"tools": tools, "results": {last: a_text("found")}, "calls": str(tmp_path / "calls")}
    servers.append(McpServers({"shop": a_garbage_table(script)}))

    def answer(request: Json) -> Step:
        told = [tool["function"]["parameters"] for tool in request["tools"]]
        if len(told) < len(schemas) or any(refuses_schema(schema) for schema in told):
            return Fail(400, type="invalid_request_error")
        if request["messages"][-1]["role"] == "tool":
            return Say("Done.")
        renamed = next(iter(told[-1]["properties"]))
        return Say("", [Call(last, json.dumps({renamed: "5"}))])

    with FakeOpenAI([answer]) as fake:
        model = model_of("openai-chat:any", openai_base_url=fake.base_url)
        more = MoreTools(servers[0].for_agent(["shop"]))
        told = await told_by(PydanticAgent.of_model(model, more_tools=more))

    assert ("Done.", ["found"]) == (told.text, [call.result for call in told.calls])
    (called,) = (tmp_path / "calls").read_text().splitlines()
    assert {"$top": "5"} == json.loads(called)["arguments"]

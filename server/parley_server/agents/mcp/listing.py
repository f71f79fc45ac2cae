"""What a server says of its tools, and what becomes of it.

    no name, or no text for one               → left out
    a schema that is no object, refers to
    nothing, to itself or elsewhere, is not
    valid or is too large                     → left out
    a name that providers refuse              → renamed: other characters become "_", 64 at most
    a name that an earlier server, or the
    agent itself, has                         → renamed: SERVER_NAME
    more tools or text than models bear       → left out, the last ones
    what some provider refuses of a schema    → changed (`agents.mcp.fitting`)

Each is one warning with the names of server and tool, and never the end of a turn.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from parley_server.core.attempts.transcript import cut, storable

MAX_LISTED = 512
"""How many tools of one server are read at all."""
MAX_TOOLS = 128
"""How many an agent gets of all its servers: more than that providers refuse."""
MAX_SCHEMA_BYTES = 32 * 1024
MAX_TOLD_BYTES = 256 * 1024
"""Of the schemas and descriptions of all tools of an agent: a model reads them at each request."""
MAX_DESCRIPTION_BYTES = 4096
MAX_NAME = 64
_OTHER_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]")
_OUTPUT = "final_result"
"""How pydantic-ai calls the tools by which a run ends."""
_MAX_CHAIN = 32


class McpTool(NamedTuple):
    """A tool as its server tells of it."""

    name: str
    description: str
    schema: dict[str, Any]
    arguments: Mapping[str, str] = MappingProxyType({})
    """The server's names of arguments that are offered under others, by those."""


class LeftOut(NamedTuple):
    """A tool that agents do not get, or not as its server has it."""

    tool: str
    reason: str


class Offered(NamedTuple):
    """A tool as an agent gets it."""

    name: str
    server: str
    tool: McpTool


def read_tools(tools: Sequence[Any]) -> tuple[list[McpTool], list[LeftOut]]:
    """Return those of a server's tools that a model can be told of, and what is wrong with others.

    Args:
        tools: entries of a tools/list result, as they came.
    """
    usable: list[McpTool] = []
    left_out: list[LeftOut] = []
    for tool in tools:
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or not name.strip():
            left_out.append(LeftOut("", "it has no name"))
            continue
        complaint = schema_complaint(tool.get("inputSchema"))
        if complaint is not None:
            left_out.append(LeftOut(shown(name), complaint))
            continue
        described = tool.get("description")
        description = storable(described) if isinstance(described, str) else ""
        schema = {"type": "object", **tool["inputSchema"]}
        usable.append(McpTool(name, description, schema))
    return usable, left_out


def shown(name: str) -> str:
    """Return a name as a log may show it."""
    return cut(storable(name), 128)


def schema_complaint(schema: object) -> str | None:
    """Return why a model cannot be told of a schema; None: it can."""
    if not isinstance(schema, dict):
        return "its inputSchema is no JSON object"
    try:
        told = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        if len(told.encode()) > MAX_SCHEMA_BYTES:
            return f"its inputSchema is longer than {MAX_SCHEMA_BYTES} bytes"
        if schema.get("type", "object") != "object":
            return "its inputSchema is not of type object"
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
        return _reference_complaint(schema)
    except SchemaError:
        return "its inputSchema is no valid JSON schema"
    except (RecursionError, UnicodeEncodeError, re.error, TypeError, ValueError):
        return "its inputSchema cannot be read"


def _reference_complaint(schema: dict[str, Any]) -> str | None:
    for reference in _references(schema):
        seen = 0
        found: object = {"$ref": reference}
        while isinstance(found, dict) and isinstance(pointer := found.get("$ref"), str):
            seen += 1
            if seen > _MAX_CHAIN:
                return "a $ref of its inputSchema ends nowhere"
            found = resolved(schema, pointer)
        if not isinstance(found, dict | bool):
            return "a $ref of its inputSchema points at nothing in it"
    return None


def _references(schema: object) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(pointer := node.get("$ref"), str):
                yield pointer
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def resolved(schema: dict[str, Any], pointer: str) -> object:
    """Return what a `$ref` within a schema points at; None: nothing."""
    if pointer == "#":
        return schema
    if not pointer.startswith("#/"):
        return None
    found: Any = schema
    for part in unquote(pointer[2:]).split("/"):
        key = key_in(part)
        if isinstance(found, list):
            found = found[int(key)] if key in map(str, range(len(found))) else None
        else:
            found = found.get(key) if isinstance(found, dict) else None
    return found


def key_in(part: str) -> str:
    """Return the key that a part of a JSON pointer names. Source: RFC 6901, 4."""
    return part.replace("~1", "/").replace("~0", "~")


def fitting_name(name: str) -> str:
    """Return a tool's name in the characters and the length that providers take."""
    fitting = _OTHER_CHARACTERS.sub("_", name)
    if len(fitting) <= MAX_NAME:
        return fitting
    return told_apart(fitting, name)


def told_apart(fitting: str, name: str) -> str:
    """Return a name that fits, with a digest of the one that it stands for."""
    digest = hashlib.sha256(storable(name).encode()).hexdigest()[:8]
    return f"{fitting[: MAX_NAME - 9]}_{digest}"


class Listed(NamedTuple):
    """The tools of one server, and how its table wants them."""

    server: str
    prefix: str
    wanted: Collection[str] | None
    """None: all."""
    tools: Sequence[McpTool]


def offered(
    servers: Sequence[Listed], own: Collection[str]
) -> tuple[list[Offered], list[tuple[str, LeftOut]]]:
    """Return the tools that an agent gets of its servers, and complaints, with the server's name.

    Args:
        servers: in the order of the agent's table: the first one keeps a name.
        own: names of the agent's own tools.
    """
    found: list[Offered] = []
    complaints: list[tuple[str, LeftOut]] = []
    taken = set(own)
    bytes_left = MAX_TOLD_BYTES
    for server in servers:
        for tool in server.tools:
            if server.wanted is not None and tool.name not in server.wanted:
                continue
            name, complaint = _name(server, tool, taken)
            size = len(tool.description) + len(json.dumps(tool.schema))
            if not name:
                pass
            elif len(found) >= MAX_TOOLS or size > bytes_left:
                name = ""
                complaint = (
                    f"the agent has {MAX_TOOLS} tools or {MAX_TOLD_BYTES} bytes of schemas "
                    "already: name those that it needs in `tools` of the server's table"
                )
            if complaint:
                complaints.append((server.server, LeftOut(shown(tool.name), complaint)))
            if name:
                bytes_left -= size
                taken.add(name)
                found.append(Offered(name, server.server, tool))
        listed = {tool.name for tool in server.tools}
        complaints += [
            (server.server, LeftOut(shown(name), "the server has no tool of this name"))
            for name in server.wanted or ()
            if name not in listed
        ]
    return found, complaints


def _name(server: Listed, tool: McpTool, taken: Collection[str]) -> tuple[str, str]:
    """Return under which name an agent gets a tool, if it does, and a complaint, if any."""
    plain = f"{server.prefix}_{tool.name}" if server.prefix else tool.name
    name = fitting_name(plain)
    if name in taken or name.startswith(_OUTPUT):
        name = fitting_name(f"{server.server}_{name}")
        if name in taken:
            return "", f"its name and {name!r} are taken: give the server's table a `prefix`"
    return name, "" if name == plain else f"it is offered as {name!r}"

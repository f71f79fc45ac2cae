"""The caller's own tools, as a request names them."""

import json
import re
from collections.abc import Sequence

from parley.v1 import conversation_pb2
from parley_server.core.model import NO_ARGUMENTS, CallerTool
from parley_server.rpc.violations import Violations

MAX_TOOLS = 64
MAX_TOOLS_BYTES = 64 * 1024

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def tools(given: Sequence[conversation_pb2.Tool], violations: Violations) -> tuple[CallerTool, ...]:
    """Read tools: names that a model can call, and schemas that it can be shown."""
    if not given:
        return ()
    if not violations.at_most("tools", len(given), MAX_TOOLS, "tools"):
        return ()
    size = sum(
        len(part.encode())
        for tool in given
        for part in (tool.name, tool.description, tool.parameters_schema)
    )
    if size > MAX_TOOLS_BYTES:
        text = f"have {size} bytes together; the maximum is {MAX_TOOLS_BYTES}"
        violations.add("tools", "TOO_LONG", text)
        return ()
    names: set[str] = set()
    for number, tool in enumerate(given):
        path = f"tools[{number}]"
        if not _NAME.fullmatch(tool.name):
            text = "must be 1 to 64 characters of [A-Za-z0-9_-]"
            violations.add(f"{path}.name", "BAD_NAME", text)
        elif tool.name in names:
            violations.add(f"{path}.name", "REPEATED", "is the name of a tool before")
        names.add(tool.name)
        violations.text(f"{path}.description", tool.description, MAX_TOOLS_BYTES)
        if wrong := _wrong_schema(tool.parameters_schema):
            violations.add(f"{path}.parameters_schema", "BAD_SCHEMA", wrong)
    return tuple(
        CallerTool(tool.name, tool.description, tool.parameters_schema or NO_ARGUMENTS)
        for tool in given
    )


def _wrong_schema(text: str) -> str:
    """Return what is wrong with a JSON Schema of arguments; empty: nothing."""
    if not text:
        return ""
    try:
        schema = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "must be a JSON Schema, as JSON text"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return 'must be a JSON Schema of "type": "object"'
    if not isinstance(schema.get("properties", {}), dict):
        return "must have an object as its properties"
    return ""


def _refuse(name: str) -> None:
    raise ValueError(name)

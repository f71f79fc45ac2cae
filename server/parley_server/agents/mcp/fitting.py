"""A tool's schema as every provider takes it.

A provider refuses the whole request for one schema, and with it every turn of the agent. JSON
Schema allows more than the strictest of them do:

    an array without `items`            → `items` of anything, which means the same (OpenAI)
    `anyOf`, `oneOf`, `allOf`, `enum`,
    `const` or `not` of the whole       → left out; the properties of their branches become the
                                          tool's, and what each branch requires stays required;
                                          the server still checks the rest (OpenAI, Anthropic)
    an argument's name with other
    characters than a-z, A-Z, 0-9, "_",
    "." and "-", or longer than 64      → renamed; a call gets the server's name back (Anthropic)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from parley_server.agents.boundary.values import dict_of
from parley_server.agents.mcp.listing import MAX_NAME, key_in, resolved, told_apart
from parley_server.core.attempts.transcript import storable

Schema = dict[str, Any]

_OTHER_CHARACTERS = re.compile(r"[^a-zA-Z0-9_.-]")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_ONE_OR_MORE = (
    *("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
    *("anyOf", "oneOf", "allOf", "not", "if", "then", "else"),
)
_OF_THE_WHOLE = ("anyOf", "oneOf", "allOf", "enum", "const", "not")
_MAX_BRANCHES = 128
"""How many are read: references may lead in circles."""


class Fitted(NamedTuple):
    """A schema that every provider takes."""

    schema: Schema
    arguments: Mapping[str, str]
    """The server's names of arguments that are renamed, by the new ones."""
    changes: Sequence[str]
    """What is not as the server has it, in words."""


def fitted(schema: Schema) -> Fitted:
    """Return a schema of type object as every provider takes it."""
    own = _with_items(schema)
    left_out = [key for key in _OF_THE_WHOLE if key in own]
    flat = _Flattening(own).flat(own)
    if left_out:
        flat = _without_lost(flat, flat)
    names = _new_names(flat.get("properties"))
    changes = [f"{key} of its whole inputSchema is left out" for key in left_out]
    changes += [f"its argument {_shown(old)!r} is offered as {new!r}" for old, new in names.items()]
    if names:
        flat = _renamed(flat, names)
    return Fitted(flat, {new: old for old, new in names.items()}, changes)


def _shown(name: str) -> str:
    return storable(name)[:MAX_NAME]


def _with_items(node: Any) -> Any:
    """Return a schema in which each array says of what it is."""
    if not isinstance(node, dict):
        return node
    found = {key: _inside(key, value) for key, value in node.items()}
    kind = found.get("type")
    is_array = kind == "array" or (isinstance(kind, list) and "array" in kind)
    return {**found, "items": {}} if is_array and "items" not in found else found


def _inside(key: str, value: Any) -> Any:
    if key in _BY_NAME and isinstance(value, dict):
        return {name: _with_items(each) for name, each in value.items()}
    if key not in _ONE_OR_MORE:
        return value
    return [_with_items(each) for each in value] if isinstance(value, list) else _with_items(value)


class _Flattening:
    """Takes the branches of a whole schema away, and keeps what they say of arguments."""

    def __init__(self, root: Schema) -> None:
        """Read a schema, to which references lead."""
        self._root = root
        self._left = _MAX_BRANCHES

    def flat(self, schema: Schema) -> Schema:
        """Return a schema without branches for the whole of it."""
        found = {key: value for key, value in schema.items() if key not in _OF_THE_WHOLE}
        if len(found) == len(schema):
            return schema
        properties = dict(dict_of(found.get("properties")))
        required = _names(found.get("required"))
        for key in ("allOf", "anyOf", "oneOf"):
            branches = list(self._branches(schema.get(key)))
            _add_properties(properties, branches, is_all=key == "allOf")
            asked = [set(_names(branch.get("required"))) for branch in branches]
            if asked:
                needed = set.union(*asked) if key == "allOf" else set.intersection(*asked)
                required += sorted(needed.difference(required))
        if properties:
            found["properties"] = properties
        if required:
            found["required"] = required
        return found

    def _branches(self, value: Any) -> Iterator[Schema]:
        """Yield the branches that an object may be, without branches of their own."""
        for branch in value if isinstance(value, list) else ():
            self._left -= 1
            if self._left < 0:
                return
            found = branch
            if isinstance(found, dict) and isinstance(pointer := found.get("$ref"), str):
                found = resolved(self._root, pointer)
            if isinstance(found, dict) and found.get("type", "object") == "object":
                yield self.flat(found)


def _add_properties(
    properties: dict[str, Any], branches: Sequence[Schema], *, is_all: bool
) -> None:
    """Add what branches say of arguments; of one that the whole knows only if all must hold."""
    by_name: dict[str, list[Any]] = {}
    for branch in branches:
        for name, said in dict_of(branch.get("properties")).items():
            known = by_name.setdefault(name, [])
            if said not in known:
                known.append(said)
    for name, said in by_name.items():
        own = [properties[name]] if name in properties else []
        if own and not is_all:
            continue
        distinct = [*own, *(each for each in said if each not in own)]
        kind = "allOf" if is_all else "anyOf"
        properties[name] = distinct[0] if len(distinct) == 1 else {kind: distinct}


def _without_lost(node: Any, root: Schema) -> Any:
    """Return a schema without references to what was left out: they stand for anything."""
    if isinstance(node, list):
        return [_without_lost(each, root) for each in node]
    if not isinstance(node, dict):
        return node
    pointer = node.get("$ref")
    if isinstance(pointer, str) and not isinstance(resolved(root, pointer), dict | bool):
        node = {key: value for key, value in node.items() if key != "$ref"}
    return {key: _without_lost(value, root) for key, value in node.items()}


def _new_names(properties: Any) -> dict[str, str]:
    """Return the names that are to be others, and what they become."""
    own = dict_of(properties)
    taken = set(own)
    found: dict[str, str] = {}
    for name in own:
        new = _OTHER_CHARACTERS.sub("_", name) or "_"
        if new == name and len(name) <= MAX_NAME:
            continue
        if len(new) > MAX_NAME or new in taken:
            new = told_apart(new, name)
        taken.add(new)
        found[name] = new
    return found


def _renamed(schema: Schema, names: Mapping[str, str]) -> Schema:
    properties = {names.get(name, name): each for name, each in schema["properties"].items()}
    required = [names.get(name, name) for name in _names(schema.get("required"))]
    renamed = {**schema, "properties": properties, **({"required": required} if required else {})}
    found: Schema = _pointing(renamed, names)
    return found


def _pointing(node: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references lead to the new names."""
    if isinstance(node, list):
        return [_pointing(each, names) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _pointer(value, names)
        if key == "$ref" and isinstance(value, str)
        else _pointing(value, names)
        for key, value in node.items()
    }


def _pointer(pointer: str, names: Mapping[str, str]) -> str:
    start, *parts = unquote(pointer).split("/")
    if start != "#" or parts[:1] != ["properties"] or len(parts) == 1:
        return pointer
    name = key_in(parts[1])
    if name not in names:
        return pointer
    return "/".join([start, parts[0], names[name], *parts[2:]])


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []

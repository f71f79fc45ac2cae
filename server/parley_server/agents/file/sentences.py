"""What pydantic finds wrong with a file, as sentences that say what would be right."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from parley_server.agents.file.definitions import AgentsFile, Table
from parley_server.agents.file.lines import KeyPath
from parley_server.agents.file.problems import Wrong, nearest

NAMING = (
    "names have lower-case letters and digits, and between them dots, dashes and underscores, 63 "
    "characters at most, for example shop"
)

_Facts = Mapping[str, Any]
_SENTENCES: dict[str, Callable[[_Facts], str]] = {
    "bool_type": lambda _: "must be true or false",
    "dict_type": lambda _: "must be a table",
    "finite_number": lambda _: "must be a number",
    "float_type": lambda _: "must be a number",
    "greater_than": lambda facts: f"must be greater than {facts['gt']:,.16g}",
    "greater_than_equal": lambda facts: f"must be {facts['ge']:,.16g} or more",
    "int_from_float": lambda _: "must be a whole number",
    "int_type": lambda _: "must be a whole number",
    "less_than_equal": lambda facts: f"must be {facts['le']:,.16g} or less",
    "list_type": lambda _: "must be a list",
    "literal_error": lambda facts: f"must be {facts['expected']}",
    "model_type": lambda _: "must be a table",
    "path_type": lambda _: "must be the path of a file, in quotes",
    "string_too_long": lambda facts: f"must have {facts['max_length']:,} characters at most",
    "string_too_short": lambda _: "must not be empty",
    "string_type": lambda _: "must be text in quotes",
}


def complaints(error: ValidationError) -> Iterator[Wrong]:
    """Yield what is wrong, one sentence each."""
    for found in error.errors(include_url=False, include_context=True, include_input=False):
        is_name = found["loc"][-1:] == ("[key]",)
        path: KeyPath = found["loc"][:-1] if is_name else found["loc"]
        yield Wrong(path, NAMING if is_name else _sentence(path, found))


def _sentence(path: KeyPath, found: ErrorDetails) -> str:
    kind, key = found["type"], path[-1] if path else ""
    if kind == "extra_forbidden":
        table = table_at(path[:-1]) or AgentsFile
        return f"is not known here: {nearest(str(key), table.model_fields)}"
    field = field_at(path)
    example = _example(field)
    if kind == "missing":
        return f"is missing: add {_assignment(str(key), field)}"
    if kind == "string_pattern_mismatch":
        return "must have letters, digits, dashes and underscores only, 32 at most" + example
    told = _SENTENCES.get(kind)
    text = told(found.get("ctx", {})) if told else found["msg"][:1].lower() + found["msg"][1:]
    return text + example


def _assignment(key: str, field: FieldInfo | None) -> str:
    if field is None or not field.examples:
        return f"a table such as [{key}.shop] with a model"
    return f"{key} = {_toml(field.examples[0])}"


def _example(field: FieldInfo | None) -> str:
    return f", for example {_toml(field.examples[0])}" if field and field.examples else ""


def _toml(value: Any) -> str:
    """Return a value as TOML writes it: as JSON does, but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def table_at(path: KeyPath) -> type[Table] | None:
    """Return what the table at a path may hold; None: there is no table."""
    table: type[Table] | None = AgentsFile
    steps = list(path)
    while steps and table is not None:
        field = table.model_fields.get(str(steps.pop(0)))
        table = _table_in(field.annotation) if field else None
        if table is not None and field is not None and _is_by_name(field):
            if not steps:
                return None
            steps.pop(0)
    return table


def field_at(path: KeyPath) -> FieldInfo | None:
    """Return what is known of the key at a path; inside a list: of the list."""
    steps = list(path)
    while steps:
        table = table_at(tuple(steps[:-1]))
        if table is not None:
            return table.model_fields.get(str(steps[-1]))
        steps.pop()
    return None


def _table_in(annotation: Any) -> type[Table] | None:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    inner = (_table_in(argument) for argument in get_args(annotation))
    return next((table for table in inner if table is not None), None)


def _is_by_name(field: FieldInfo) -> bool:
    """Return whether a field has a table for each of any names."""
    return _table_in(field.annotation) is not field.annotation

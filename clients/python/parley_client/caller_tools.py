"""Tools that the caller runs itself, made from plain functions. Used by both clients.

    function ─ tool() ─► CallerTool ─ Toolbox ─► definitions for the model
                                            └──► an outcome for each pending call

Nothing here does I/O: `async_tools` and `sync_tools` run the functions.
"""

import functools
import inspect
import json
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb

KEY = "call_key"
"""A function with a parameter of this name gets the call's key, which the model does not see."""
MAX_RESULT_BYTES = 64 * 1024
MAX_BATCH_BYTES = 1_000_000
"""Of the results in one request; a server takes 2 MiB as a rule."""
NOBODY = "Nobody can approve calls here."

Decision: TypeAlias = bool | str
"""True: approved; False: denied; a text: denied, for this reason."""

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


class ToolFailed(Exception):
    """Raise it in a tool to tell the model, in your own words, why the tool has failed."""


@dataclass(frozen=True, slots=True)
class CallerTool:
    """A function, and how the model sees it."""

    function: Callable[..., Any]
    definition: parts.Tool


Tools: TypeAlias = Iterable[CallerTool | Callable[..., Any]]


def tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    parameters_schema: str | Mapping[str, Any] | None = None,
) -> CallerTool:
    """Make a tool of a function.

    Args:
        function: called with the arguments that the model wrote, by name, and with the call's key
            if it has a parameter `call_key`. What it returns is told to the model: a text as it is,
            anything else as JSON.
        name: 1 to 64 of [A-Za-z0-9_-]. None: the function's name.
        description: what it does and when to use it. None: the function's docstring.
        parameters_schema: a JSON Schema of type object. None: derived from the annotations.
    Raises: ValueError: no schema is given, and an annotation has none: `str`, `int`, `float`,
        `bool`, `dict`, lists and literals of these do, each also with None. Or no name is given,
        and the function has none.
    """
    name = name or getattr(function, "__name__", None)
    if name is None:
        raise ValueError(f"{function!r} has no name: give `tool` one")
    if parameters_schema is None:
        parameters_schema = _schema_of(function)
    if not isinstance(parameters_schema, str):
        parameters_schema = json.dumps(parameters_schema)
    return CallerTool(
        function,
        parts.Tool(
            name=name,
            description=description or _documentation(function),
            parameters_schema=parameters_schema,
        ),
    )


class Toolbox:
    """The caller's tools of one turn."""

    def __init__(self, tools: Tools) -> None:
        """Make tools of what is only a function yet. Raises: ValueError: as `tool`."""
        made = [each if isinstance(each, CallerTool) else tool(each) for each in tools]
        self.definitions = [each.definition for each in made]
        self._functions = {each.definition.name: each.function for each in made}

    @property
    def names(self) -> Iterable[str]:
        return self._functions

    def is_async(self, name: str) -> bool:
        """Say whether a tool is a coroutine function."""
        return inspect.iscoroutinefunction(self._functions[name])

    def bound(self, call: parts.PendingCall) -> Callable[[], Any]:
        """Return what runs a call.

        Raises: ToolFailed: there is no such tool, or the arguments do not fit it.
        """
        function = self._functions.get(call.name)
        if function is None:
            raise ToolFailed(f"There is no tool {call.name}.")
        try:
            arguments = json.loads(call.arguments or "{}")
        except ValueError:
            raise ToolFailed("The arguments are no valid JSON.") from None
        if not isinstance(arguments, dict) or KEY in arguments:
            raise ToolFailed("The arguments do not fit the tool.")
        signature = inspect.signature(function)
        if KEY in signature.parameters:
            arguments[KEY] = call.call_key
        try:
            bound = signature.bind(**arguments)
        except TypeError as error:  # its text names parameters only
            raise ToolFailed(f"The arguments do not fit the tool: {error}.") from None
        return lambda: function(*bound.args, **bound.kwargs)


class Results:
    """What the calls of a turn have got so far in this process."""

    def __init__(self) -> None:
        self._by_key: dict[str, pb.CallResult] = {}

    def to_run(self, answer: pb.ChatResponse) -> list[parts.PendingCall]:
        """Return the calls that the caller runs and has not run yet."""
        return self._open(answer, parts.PENDING_CALL_KIND_RESULT)

    def to_decide(self, answer: pb.ChatResponse) -> list[parts.PendingCall]:
        """Return the calls that need an approval and have not been decided about yet."""
        return self._open(answer, parts.PENDING_CALL_KIND_APPROVAL)

    def _open(
        self, answer: pb.ChatResponse, kind: parts.PendingCallKind.ValueType
    ) -> list[parts.PendingCall]:
        return [
            call
            for call in answer.pending_calls
            if call.kind == kind and call.call_key not in self._by_key
        ]

    def add(self, results: Iterable[pb.CallResult]) -> None:
        self._by_key |= {result.call_key: result for result in results}

    def of(self, answer: pb.ChatResponse) -> list[pb.CallResult]:
        """Return what a waiting turn can be given in one request; it then waits for the rest."""
        keys = [call.call_key for call in answer.pending_calls]
        batch: list[pb.CallResult] = []
        size = 0
        for result in (self._by_key[key] for key in keys if key in self._by_key):
            size += result.ByteSize()
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(result)
        return batch


def returned(call: parts.PendingCall, value: Any) -> pb.CallResult:
    """Return what a function has returned as the call's result, or that it cannot be told."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        return failed(call, ToolFailed("The tool returned what is neither text nor JSON."))
    if size > MAX_RESULT_BYTES:
        what = f"The tool returned {size} bytes; the maximum is {MAX_RESULT_BYTES}."
        return failed(call, ToolFailed(what))
    if "\0" in text:
        return failed(call, ToolFailed("The tool returned a text with NUL characters."))
    return pb.CallResult(call_key=call.call_key, result=text)


def failed(call: parts.PendingCall, error: BaseException) -> pb.CallResult:
    """Return that a function has failed: with its type alone, unless its text is for the model."""
    text = str(error)[:8192].replace("\0", "") if isinstance(error, ToolFailed) else ""
    text = text.encode(errors="replace").decode()  # halves of surrogate pairs cannot be sent
    text = text or f"The tool failed: {type(error).__name__}."
    return pb.CallResult(call_key=call.call_key, error=text)


def decided(call: parts.PendingCall, decision: Decision) -> pb.CallResult:
    """Return a decision about a call. An approval is bound to the arguments that were shown."""
    if decision is True:
        approval = pb.Approval(arguments=call.arguments)
        return pb.CallResult(call_key=call.call_key, approval=approval)
    denial = pb.Denial(reason=decision or "")
    return pb.CallResult(call_key=call.call_key, denial=denial)


def waits(answer: pb.ChatResponse) -> bool:
    """Say whether a turn waits for its caller."""
    return answer.finish_reason == parts.FINISH_REASON_ACTION_REQUIRED


def _documentation(function: Callable[..., Any]) -> str:
    """Return a function's docstring. A partial one has only that of `functools.partial` itself."""
    if isinstance(function, functools.partial):
        function = function.func
    return inspect.getdoc(function) or ""


def _schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(function)
    except Exception as error:  # it evaluates what the annotations say
        what = f"the annotations of {function!r} cannot be read"
        raise ValueError(f"{what}: give `tool` the parameters_schema") from error
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != KEY]
    properties = {}
    for parameter in parameters:
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        schema = _schema(hints.get(parameter.name)) if by_name else None
        if schema is None:
            name = getattr(function, "__name__", repr(function))
            what = f"no schema can be made of the parameter {parameter.name} of {name}"
            raise ValueError(f"{what}: give `tool` the parameters_schema")
        properties[parameter.name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in parameters if p.default is p.empty],
        "additionalProperties": False,
    }


def _schema(hint: Any) -> dict[str, Any] | None:
    """Return the schema of an annotation; None: it has none."""
    if isinstance(hint, type) and hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    origin, given = get_origin(hint), get_args(hint)
    if origin is dict:
        return {"type": "object"}
    if hint is list or (origin is list and not given):
        return {"type": "array"}
    if origin is list:
        items = _schema(given[0])
        return items and {"type": "array", "items": items}
    if origin is Literal and all(isinstance(each, str | int | None) for each in given):
        return {"enum": list(given)}
    if origin in (Union, types.UnionType) and len(given) == 2 and type(None) in given:
        [other] = [each for each in given if each is not type(None)]
        schema = _schema(other)
        return schema and {"anyOf": [schema, {"type": "null"}]}
    return None

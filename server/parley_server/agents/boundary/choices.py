"""What an event of Chat Completions says of its response, and of its choices."""

from parley_server.agents.boundary.errors import Json
from parley_server.agents.boundary.tool_calls import ToolCalls
from parley_server.agents.boundary.values import dict_of, model_of, objects_of

_MAX_EXTRA_CHARS = 256
_SETTLED = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})
_SETTLED_CHOICE = frozenset({"index", "delta", "message", "text", "finish_reason", "logprobs"})


def delta_of(choice: Json) -> Json:
    """Return a choice's delta as an object: some are only a text."""
    delta = choice.get("delta")
    if isinstance(delta, str):
        return {"content": delta}
    found = dict_of(delta)
    if found.get("text") and not found.get("content"):
        return {**found, "content": found["text"]}
    return found


def add_calls(calls: ToolCalls, choice: Json) -> None:
    """Take the pieces of tool calls that a choice tells of."""
    delta = delta_of(choice)
    for told in (delta.get("tool_calls"), delta.get("tool_call"), choice.get("tool_calls")):
        for piece in objects_of(told):
            calls.add(piece)
    calls.add(delta.get("function_call"))


def is_message(choice: Json) -> bool:
    """Whether a choice is a whole answer, and no piece of one."""
    return bool(dict_of(choice.get("message"))) or choice.get("text") is not None


def index_of(choice: Json, number: int) -> str:
    """Return a choice's index; if it is not told, its number among the choices of its event."""
    index = choice.get("index")
    return str(number if index is None else index)


def head_of(data: Json) -> Json:
    """Return what a chunk says of its response: id and model, cut to their bounds."""
    names = {key: model_of(data.get(key)) for key in ("id", "model")}
    return {**extras_of(data, _SETTLED), **{key: name for key, name in names.items() if name}}


def extras_of(data: Json, settled: frozenset[str] = _SETTLED_CHOICE) -> Json:
    """Return the short values of fields that only some provider's library knows.

    Args:
        settled: fields that the boundary itself settles.
    """
    kinds = (str, int, float, bool)
    return {
        key: value
        for key, value in data.items()
        if key not in settled and isinstance(value, kinds) and len(str(value)) <= _MAX_EXTRA_CHARS
    }

"""What the provider was asked for, as far as it matters to what it answers."""

from collections.abc import Callable, Iterator
from functools import cached_property

from parley_server.agents.boundary.errors import Json
from parley_server.agents.boundary.values import dict_of, list_of, parsed


class Request:
    """A request of any of the three protocols; it is read only when it matters."""

    def __init__(self, content: Callable[[], bytes]) -> None:
        self._content = content

    @cached_property
    def _json(self) -> Json:
        return dict_of(parsed(self._content().decode()))

    @cached_property
    def tool_names(self) -> frozenset[str]:
        """The names of the tools that it offers."""
        tools = [dict_of(tool) for tool in list_of(self._json.get("tools"))]
        functions = [dict_of(tool.get("function")) or tool for tool in tools]
        return frozenset(str(function["name"]) for function in functions if function.get("name"))

    @cached_property
    def call_ids(self) -> frozenset[str]:
        """The ids of the tool calls that it tells of."""
        return frozenset(str(found) for found in _call_ids(self._json) if found)


def _call_ids(request: Json) -> Iterator[object]:
    for message in map(dict_of, list_of(request.get("messages"))):
        for call in (*list_of(message.get("tool_calls")), *list_of(message.get("content"))):
            yield dict_of(call).get("id")  # of the parts of a content, calls alone have one
    for item in map(dict_of, list_of(request.get("input"))):
        yield from (item.get("id"), item.get("call_id"))

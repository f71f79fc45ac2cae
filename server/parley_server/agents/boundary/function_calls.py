"""Function calls of Responses, of which several events tell: an item, pieces, the item again."""

import json
from dataclasses import dataclass, field

from parley_server.agents.boundary.errors import Json
from parley_server.agents.boundary.named_events import PIECE_COST
from parley_server.agents.boundary.tool_calls import MAX_ARGUMENT_CHARS, MAX_CALLS
from parley_server.agents.boundary.values import dict_of

_FIELDS = ("id", "call_id", "name", "namespace", "arguments")
"""Of a function call: what the library is told."""

Place = tuple[int | None, str]
"""Index and id of an item, as far as the provider tells them."""
NOWHERE: Place = (None, "")


@dataclass(slots=True)
class FunctionCall:
    """A function call that waits for the end.

    Args:
        item: the call as it is told so far.
    """

    place: Place
    item: Json
    pieces: list[str] = field(default_factory=list)
    is_done: bool = False

    @property
    def arguments(self) -> str:
        """The arguments: those of the item if they go on where the pieces end."""
        told, streamed = _json_text(self.item.get("arguments")), "".join(self.pieces)
        return told if told.startswith(streamed) else streamed

    def add(self, item: Json, is_done: bool) -> None:
        """Take what another event tells of the same call."""
        self.item = {**self.item, **item}
        self.is_done = is_done

    def is_near(self, place: Place) -> bool:
        """Return whether a place may be this call's, though index or id differ."""
        index, item_id = place
        if NOWHERE in (place, self.place):
            return True
        is_same_id = bool(item_id) and item_id == self.place[1]
        return is_same_id or (index is not None and index == self.place[0])

    def is_like(self, place: Place, item: Json, key: str) -> bool:
        """Return whether an item is this one again, as far as its place and a field tell."""
        is_same_place = place == self.place and place != NOWHERE
        return is_same_place and item.get(key) == self.item.get(key)


@dataclass(slots=True)
class FunctionCalls:
    """The function calls of one response."""

    all: list[FunctionCall] = field(default_factory=list)
    _chars: int = 0
    """Of all arguments, with what each piece takes beside them."""

    @property
    def is_full(self) -> bool:
        """There are more calls, or longer arguments, than a response can have."""
        return self._chars > MAX_ARGUMENT_CHARS or len(self.all) > MAX_CALLS

    def begin(self, data: Json) -> FunctionCall | None:
        """Take an item that is added. Returns: its call; None: it is known already."""
        place, item = self._read(data)
        for call in self.all:
            if not call.is_done and call.is_like(place, item, "call_id"):
                call.add(item, is_done=False)
                return None
        return self._new(place, item, is_done=False)

    def complete(self, data: Json) -> FunctionCall | None:
        """Take an item that is done. Returns: its call; None: it is known already."""
        place, item = self._read(data)
        call = self._under_way(place)
        if call is not None:
            call.add(item, is_done=True)
        elif not any(call.is_like(place, item, "arguments") for call in self.all):
            return self._new(place, item, is_done=True)
        return None

    def add_arguments(self, data: Json) -> None:
        """Take a piece of arguments, or all of them."""
        delta, whole = data.get("delta"), data.get("arguments")
        call = self._under_way(place_of(data))
        if call is None:
            return
        if isinstance(delta, str):
            self._count(delta)
            call.pieces.append(delta)
        elif whole:
            self._count(_json_text(whole))
            call.add({"arguments": whole}, is_done=False)

    def _read(self, data: Json) -> tuple[Place, Json]:
        item = fields_of(dict_of(data.get("item")))
        self._count(_json_text(item))
        return place_of({**data, "item_id": item.get("id")}), item

    def _new(self, place: Place, item: Json, is_done: bool) -> FunctionCall:
        call = FunctionCall(place, item, is_done=is_done)
        self.all.append(call)
        return call

    def _under_way(self, place: Place) -> FunctionCall | None:
        """Return the newest call that is not done, by index and id, or else by one of them."""
        calls = [call for call in reversed(self.all) if not call.is_done]
        same = next((call for call in calls if call.place == place), None)
        return same or next((call for call in calls if call.is_near(place)), None)

    def _count(self, text: str) -> None:
        self._chars += len(text) + PIECE_COST


def place_of(data: Json) -> Place:
    """Return index and id of an item, as far as they are told."""
    index, item_id = data.get("output_index"), data.get("item_id")
    return (
        index if isinstance(index, int) else None,
        item_id if isinstance(item_id, str) else "",
    )


def fields_of(item: Json) -> Json:
    """Return what an item tells of its call."""
    return {key: item[key] for key in _FIELDS if item.get(key)}


def _json_text(value: object) -> str:
    """Return a call's arguments as JSON text."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if value else ""

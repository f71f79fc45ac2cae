"""Tool calls out of pieces that are numbered and named in every possible way.

Calls go on when the response is whole: nothing downstream sees arguments grow, and only then is it
known what belongs together. How a piece finds its call, first row that fits:

    its index and id are those of a call     that call
    its index is a call's, its id is new     another call if the piece begins one, else that call
    its index is a call's, it has no id      that call
    its id is a call's, its index is new     another call if the piece begins one, else that call
    its id is a call's, it has no index      that call
    its index and id are new                 another call
    one of them is new, or there is neither  the last call if that is not whole, else another one

A piece begins a call if it has a name, and either no arguments or such as begin with `{`. A call
whose arguments are a whole object takes no more of them: what comes then begins another call.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

from parley_server.agents.boundary.errors import BrokenStreamError, Json
from parley_server.agents.boundary.values import dict_of, objects_in, plain_name

MAX_CALLS = 128
MAX_ARGUMENT_CHARS = 4 * 1024 * 1024
"""Of all calls of a response."""
_PIECE_COST = 64
"""What a piece takes beside its text."""
MAX_ID_CHARS = 8192
"""Some gateways keep a signature in the id; a longer one than this is replaced."""
MAX_NAME_CHARS = 256

_NO_IDS = frozenset({"", "null", "none", "undefined"})
"""What some servers write where they have no id, in lower case."""
_LEAKED = re.compile(r"<\|.*", re.DOTALL)
"""Behind a name: marks of the model's own format, which its server should have read."""
_PATH = re.compile("[.:/]+")
"""Stands between a name and what the model was told it belongs to: `functions.weather`."""

_ARGUMENTS = ("arguments", "parameters", "input")
"""Under which name they come: the protocol's own first."""
_OWN = frozenset({"index", "id", "type", "function", "name", *_ARGUMENTS})
Names = Callable[[], frozenset[str]]


@dataclass(slots=True)
class _Piece:
    index: str | None
    id: str
    name: str
    arguments: str
    extras: Json

    @property
    def begins(self) -> bool:
        """Whether it may begin a call."""
        begun = self.arguments.lstrip()
        return bool(self.name) and (not begun or begun.startswith("{"))


@dataclass(slots=True)
class _Call:
    index: str | None
    id: str
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    extras: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are an object already."""
        if not (self.arguments and self.arguments[-1].rstrip().endswith("}")):
            return False
        return isinstance(_loaded(self.text), dict)

    def goes_on_with(self, piece: _Piece) -> bool:
        """Whether a piece says that it belongs to this call and to no other."""
        is_same = bool(piece.id) and (piece.id, piece.index) == (self.id, self.index)
        return not piece.name or (is_same and piece.name in self.names)

    def add(self, piece: _Piece) -> None:
        self.id = self.id or piece.id
        if self.index is None:
            self.index = piece.index
        if piece.name:
            self.names.append(piece.name)
        if piece.arguments:
            self.arguments.append(piece.arguments)
        self.extras.update(piece.extras)


@dataclass(slots=True)
class ToolCalls:
    """Gathers the calls of one response.

    Args:
        known_names: the tools that the request offers; asked only if names are in doubt.
        used_ids: the ids of calls that the request tells of; asked only if there are calls.
    """

    known_names: Names = frozenset
    used_ids: Names = frozenset
    is_full: bool = False
    """There are more calls, or longer arguments, than a response can have."""
    _calls: list[_Call] = field(default_factory=list)
    _chars: int = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, data: object) -> None:
        """Take one piece of a delta's `tool_calls`."""
        if not isinstance(data, dict):
            return
        piece = _read(data)
        call = self._call_of(piece)
        if call is not None and call.is_whole:
            call = self._behind_whole(call, piece)
        if call is None:
            call = _Call(piece.index, piece.id)
            self._calls.append(call)
        call.add(piece)
        self._chars += len(piece.arguments) + len(piece.name) + len(piece.id) + _PIECE_COST
        if piece.extras:
            self._chars += len(json.dumps(piece.extras))
        self.is_full = self._chars > MAX_ARGUMENT_CHARS or len(self._calls) > MAX_CALLS

    def _behind_whole(self, call: _Call, piece: _Piece) -> _Call | None:
        """Return what takes a piece that was meant for a whole call; None: another call."""
        more = piece.arguments.strip()
        if not more and (not piece.name or not call.names or piece.name in call.names):
            piece.arguments = ""
        elif more and _loaded(more) == _loaded(call.text):  # told again
            piece.arguments = piece.name = ""
        elif call.text.strip() == "{}" and more.startswith("{") and call.goes_on_with(piece):
            call.arguments.clear()  # it only stood for what comes now
        elif not piece.name and not more.startswith("{"):
            piece.arguments = ""  # the rest of what was whole already
        else:
            piece.name = piece.name or "".join(call.names[-1:])
            return None
        return call

    def _call_of(self, piece: _Piece) -> _Call | None:
        """Return the call that a piece belongs to; None: it begins another one."""
        newest = self._calls[::-1]
        by_index = [c for c in newest if piece.index is not None and c.index == piece.index]
        by_id = [c for c in newest if piece.id and c.id == piece.id]
        for call in by_index:
            if call in by_id:
                return call
        if by_index:
            call = by_index[0]
            is_new_id = bool(piece.id and call.id)
            if is_new_id and piece.begins and not _completes(call, piece):
                return None
            return None if self._is_another_tool(call, piece) else call
        if by_id:
            call = by_id[0]
            is_new_index = piece.index is not None and call.index is not None
            return None if is_new_index and piece.begins else call
        return self._last_call(piece)

    def _last_call(self, piece: _Piece) -> _Call | None:
        """Return the last call, if a piece goes on with it whose index and id say nothing."""
        if not self._calls:
            return None
        last = self._calls[-1]
        says_new = (piece.index is not None) + bool(piece.id)
        if says_new and piece.begins:
            return None
        if says_new == 2 and (not piece.name or piece.name not in last.names):
            return None
        return None if self._is_another_tool(last, piece) else last

    def _is_another_tool(self, call: _Call, piece: _Piece) -> bool:
        """Return whether a piece names another tool, and no piece of the call's name."""
        if not (piece.begins and call.names) or call.arguments:
            return False
        names, name = self.known_names(), "".join(call.names)
        return piece.name in names and name in names and piece.name not in call.names

    def drop_empty(self, *, is_announced: bool) -> None:
        """Forget calls that say nothing: some servers fill in the field where there is none.

        Args:
            is_announced: the response says that it asks for tools, so that an id alone is one.
        """
        self._calls = [
            call
            for call in self._calls
            if call.names or call.text.strip() or (call.id and is_announced)
        ]

    def settled(self) -> Iterator[Json]:
        """Return the calls, each with its own index and id, a name, and arguments as an object.

        Raises: BrokenStreamError: a call has no name.
        """
        used = set(self.used_ids()) if self._calls else set()
        for index, call in enumerate(self._calls):
            name = known_name(_name(call.names, self.known_names), self.known_names)
            if not name:
                raise BrokenStreamError("a tool call has no name")
            call_id = call.id
            if not call_id or call_id in used or len(call_id) > MAX_ID_CHARS:
                call_id = new_id()
            used.add(call_id)
            function = {"name": name, "arguments": _arguments(_last_if_growing(call.arguments))}
            own = {"index": index, "id": call_id, "type": "function", "function": function}
            yield {**call.extras, **own}


def _read(data: Json) -> _Piece:
    function = dict_of(data.get("function")) or data
    index, name = data.get("index"), function.get("name")
    given = (function.get(key) for key in _ARGUMENTS)
    arguments = next((each for each in given if each is not None), None)
    if arguments is None or isinstance(arguments, bool):
        arguments = ""
    elif not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    has_index = isinstance(index, str | int | float) and index != ""
    return _Piece(
        index=str(index)[:64] if has_index else None,
        id=_id(data.get("id")),
        name=name.strip()[:MAX_NAME_CHARS] if isinstance(name, str) else "",
        arguments=arguments,
        extras={k: v for k, v in data.items() if k not in _OWN and v is not None},
    )


def _id(told: object) -> str:
    if not isinstance(told, str | int) or isinstance(told, bool):
        return ""
    call_id = str(told).strip()
    return "" if call_id.lower() in _NO_IDS else call_id


def new_id() -> str:
    """Return an id in the one form that every provider takes: nine letters and digits."""
    return uuid4().hex[:9]


def _completes(call: _Call, piece: _Piece) -> bool:
    """Return whether a piece with another id can only be the rest of a call."""
    return bool(call.arguments) and isinstance(_loaded(call.text + piece.arguments), dict)


def _loaded(text: str) -> object:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _name(pieces: list[str], known_names: Names) -> str:
    """Return a name that came whole, in each piece, growing, or in pieces."""
    if len(set(pieces)) <= 1:
        return pieces[0] if pieces else ""
    joined = "".join(pieces)[:MAX_NAME_CHARS]
    once = "".join(dict.fromkeys(pieces))[:MAX_NAME_CHARS]
    known = known_names()
    for name in (joined, pieces[-1], once, pieces[0]):
        if name in known:
            return name
    is_growing = all(after.startswith(before) for before, after in pairwise(pieces))
    return pieces[-1] if is_growing else joined


def known_name(name: str, known_names: Names) -> str:
    """Return the tool that a name can only mean; or a name that can be sent back.

    Of the latter the model is told that there is no such tool.
    """
    known = known_names()
    if not name or name in known:
        return name
    bare = _LEAKED.sub("", name).strip()
    found = {part for part in (bare, *_PATH.split(bare)) if part in known}
    if bare and not found:
        found = {each for each in known if bare == each * (len(bare) // len(each))}
    return found.pop() if len(found) == 1 else plain_name(name)


def _last_if_growing(pieces: list[str]) -> str:
    """Return arguments that came in pieces; or whole, each piece with what came before."""
    text = "".join(pieces)
    is_growing = len(pieces) > 1 and all(b.startswith(a) for a, b in pairwise(pieces))
    if is_growing and _loaded(text) is None and _loaded(pieces[-1]) is not None:
        return pieces[-1]
    return text


def _arguments(text: str) -> str:
    """Return arguments as JSON; what is none goes on as it is, and the model is told so."""
    if text.strip() in ("", "null", "[]"):  # the last is PHP's empty object
        return "{}"
    if text.lstrip().startswith('"'):
        inner = _loaded(text)
        if isinstance(inner, str):
            return _arguments(inner)
    return _mended(text)


def _mended(text: str) -> str:
    """Return arguments that only one object can be meant by as JSON; others go on as they are.

    Some servers write control characters as they are, or the object again, or `{}` before it.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        found = [each for each in objects_in(text) if each]
    else:
        return text
    is_one = bool(found) and all(each == found[0] for each in found)
    return json.dumps(found[0], ensure_ascii=False) if is_one else text

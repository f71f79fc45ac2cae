"""Writes and reads all that a user has as JSON lines.

Each line is one part of an export, an ExportConversationsResponse of the contract, as the proto3
JSON mapping has it, with the contract's names. A conversation comes first, then its messages; the
last line says that nothing is missing:

    {"conversation": {"conversation_id": "…", "title": "…", …}, "cursor": "…", …}
    {"message": {"sequence": "1", "role": "ROLE_USER", "content": "…", …}, "cursor": "…", …}
    {"done": {}, "cursor": "…"}
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message as Proto

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb

_CHUNK = 1 << 16
_BEGINNING = b'{"conversation":'
_ROLES = {"user": "ROLE_USER", "assistant": "ROLE_ASSISTANT", "system": "ROLE_SYSTEM"}


class WrongFile(ValueError):
    """The file is not what it should be. The text says where, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far an export has been written to a file."""

    offset: int
    """Where its last whole line ends, in bytes."""
    cursor: str
    """What the export goes on from. Empty: from the beginning."""
    is_done: bool


def line_of(part: pb.ExportConversationsResponse) -> bytes:
    """Return a part of an export as a line."""
    fields = MessageToDict(part, preserving_proto_field_name=True)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def place_in(file: BinaryIO) -> Place:
    """Return how far an export has been written; a line that was cut off does not count.

    Raises: WrongFile: what the file has in it is no export.
    """
    end = _end_of_last_line(file, file.seek(0, os.SEEK_END))
    if end == 0:
        file.seek(0)
        if not _is_beginning(file.read(len(_BEGINNING))):
            raise WrongFile("the file has no export in it: it is left as it is")
        return Place(0, "", is_done=False)
    start = _end_of_last_line(file, end - 1)
    file.seek(start)
    part = _part_of(file.read(end - start), "the last line")
    is_done = part.HasField("done")  # of nothing at all, without a cursor
    if not part.cursor and not is_done:
        raise WrongFile("the last line has no cursor to continue from")
    return Place(end, part.cursor, is_done)


class _Line(NamedTuple):
    number: int
    part: pb.ExportConversationsResponse


class Export:
    """The conversations in a file, one after the other."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.is_whole = False
        """The line that ends an export has been read."""

    def conversations(self) -> Iterator[tuple[parts.Conversation, Iterator[parts.Message]]]:
        """Iterate over conversations, each with its messages, which are read as they are needed.

        Messages that are not asked for before the next conversation are skipped.

        Raises: WrongFile, while iterating.
        """
        count = 0

        def number(line: _Line) -> int:
            nonlocal count
            count += line.part.HasField("conversation")
            return count

        for _, group in groupby(self._parts(), number):
            first = next(group).part
            if not first.HasField("conversation"):
                raise WrongFile("line 1 is a message without a conversation before it")
            yield first.conversation, _messages_of(first, group)  # noqa: B031 - its rest

    def _parts(self) -> Iterator[_Line]:
        for number, line in enumerate(self._lines, 1):
            if not line.strip():
                continue
            self.is_whole = False
            try:
                part = _part_of(line, f"line {number}")
            except WrongFile:
                is_export = number > 1 or _is_beginning(line)
                if line.endswith(b"\n") or not is_export:
                    raise
                return  # an export that was stopped while it wrote this line
            if part.HasField("done"):
                self.is_whole = True
            elif part.WhichOneof("item") is None:
                raise WrongFile(f"line {number} has neither a conversation nor a message")
            else:
                yield _Line(number, part)


def messages_in(lines: Iterable[bytes]) -> Iterator[parts.Message]:
    """Iterate over messages to append, one a line: as in an export, or the message alone.

    A role may also be "user", "assistant" or "system".

    Raises: WrongFile, while iterating.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number}"
        fields = _fields_of(line, where)
        message = fields.get("message", fields)
        if not isinstance(message, dict):
            raise WrongFile(f"{where} is not a message")
        role = message.get("role")
        if role not in (*_ROLES, *_ROLES.values()):
            raise WrongFile(f"{where} has no role of {', '.join(_ROLES)}")
        fitting = message | {"role": _ROLES.get(role, role)}
        parsed = parts.Message()
        _parse(fitting, parsed, where)
        yield parsed


def _messages_of(
    first: pb.ExportConversationsResponse, lines: Iterable[_Line]
) -> Iterator[parts.Message]:
    """Iterate over the messages behind a conversation's line.

    Raises: WrongFile, while iterating: the line of another conversation is missing between them.
    """
    own = first.conversation_id or first.conversation.conversation_id
    for number, part in lines:
        if part.conversation_id not in ("", own):
            other = part.conversation_id
            raise WrongFile(f"line {number} is a message of {other}, whose own line is missing")
        yield part.message


def _is_beginning(line: bytes) -> bool:
    """Return whether an export's first line begins like this."""
    return _BEGINNING.startswith(line[: len(_BEGINNING)])


def _end_of_last_line(file: BinaryIO, end: int) -> int:
    """Return where the last line break before a place ends; 0: there is none."""
    while end > 0:
        start = max(0, end - _CHUNK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _part_of(line: bytes, where: str) -> pb.ExportConversationsResponse:
    part = pb.ExportConversationsResponse()
    _parse(_fields_of(line, where), part, where)
    return part


def _fields_of(line: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongFile(f"{where} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise WrongFile(f"{where} is not a JSON object")
    return fields


def _parse(fields: dict[str, Any], message: Proto, where: str) -> None:
    try:
        ParseDict(fields, message, ignore_unknown_fields=True)  # of a newer version
    except ParseError as error:
        raise WrongFile(f"{where} is not as the contract says: {error}") from None

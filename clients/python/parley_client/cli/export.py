"""Writes a whole conversation to a file, as Markdown or as JSON."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.text import moment_of

FORMATS = (".md", ".json")
_SPEAKERS: dict[int, str] = {
    parts.ROLE_USER: "User",
    parts.ROLE_ASSISTANT: "Agent",
    parts.ROLE_SYSTEM: "System",
}


def default_file(conversation_id: str) -> Path:
    """Return the file that a conversation is written to by default."""
    return Path(f"parley-{conversation_id[:8]}.md")


def export(conversation_id: str, messages: Iterable[parts.Message], file: Path) -> int:
    """Write a conversation to a new file, in the format that the file's ending names.

    Returns: how many messages were written.
    Raises: ValueError: the ending names no format. FileExistsError. OSError: the file cannot be
        written. Any error of `messages`.
    Guarantees: after an error, no file is left.
    """
    if file.suffix not in FORMATS:
        raise ValueError(f"{file} must end in {' or '.join(FORMATS)} to name the format")
    count = 0

    def counted() -> Iterator[parts.Message]:
        nonlocal count
        for message in messages:
            count += 1
            yield message

    text = _markdown if file.suffix == ".md" else _json
    with file.open("x", encoding="utf-8") as out:
        try:
            out.writelines(text(conversation_id, counted()))
        except BaseException:
            file.unlink()
            raise
    return count


def _markdown(conversation_id: str, messages: Iterable[parts.Message]) -> Iterator[str]:
    yield f"# Conversation {conversation_id}\n"
    for message in messages:
        speaker = _SPEAKERS.get(message.role, "?")
        when = moment_of(message.create_time).isoformat(timespec="seconds")
        model = f" · {message.model}" if message.model else ""
        yield f"\n## {message.sequence} · {speaker} · {when}{model}\n"
        for call in message.tool_calls:
            mark = " (failed)" if call.is_error else ""
            yield f"\nTool **{call.name}**{mark}\n"
            yield _fenced(call.arguments, "json")
            yield _fenced(call.result, "")
        if message.content:
            yield f"\n{message.content.rstrip()}\n"


def _fenced(text: str, language: str) -> str:
    """Return a code block whose fence is longer than any fence in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n{fence}{language}\n{text}\n{fence}\n"


def _json(conversation_id: str, messages: Iterable[parts.Message]) -> Iterator[str]:
    """Source: the proto3 JSON mapping (64-bit numbers are strings); names as in the contract."""
    document: dict[str, Any] = {
        "conversation_id": conversation_id,
        "messages": [
            MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for message in messages
        ],
    }
    yield json.dumps(document, ensure_ascii=False, indent=2) + "\n"

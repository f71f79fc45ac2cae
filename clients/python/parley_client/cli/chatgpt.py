"""Reads the `conversations.json` of a ChatGPT export.

The file is a JSON array. A conversation in it is a tree of messages: an edited question and an
answer that was asked for again are branches. The branch that was shown last is read, from
`current_node` up to the root.

What has text becomes a message: texts, the texts beside pictures, and transcripts of speech. The
rest is counted by its kind: pictures, files, reasoning, calls of tools and what tools returned.
Empty messages, most of which the application hides, are dropped.
"""

import codecs
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.json_lines import WrongFile

MAX_ANSWER_BYTES = 262_144
"""How long an answer may be, by the contract, in UTF-8."""
MAX_TITLE_BYTES = 512
MAX_MODEL_BYTES = 256
IDS = uuid.UUID("5c1b6f0e-6f43-5d43-9b0e-7a2f1c7f2a10")
"""The name space of the ids that imported conversations get."""

_CHUNK = 1 << 20
_LONGEST_TOKEN = 32
"""More characters than an escape sequence, a word or a number has."""
_ROLES = {
    "user": parts.ROLE_USER,
    "assistant": parts.ROLE_ASSISTANT,
    "system": parts.ROLE_SYSTEM,
}
_REASONS = {
    "stop": parts.FINISH_REASON_STOP,
    "max_tokens": parts.FINISH_REASON_LENGTH,
    "interrupted": parts.FINISH_REASON_CANCELLED,
}
_CANNOT_BE_STORED = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(slots=True)
class Found:
    """A conversation of the file."""

    conversation: parts.Conversation
    messages: list[parts.Message] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """What became no message, or not as it was: how often, by kind."""


def conversations_in(file: BinaryIO, max_message_bytes: int) -> Iterator[Found]:
    """Iterate over the conversations of a file. Only one of them is in memory at a time.

    Args:
        max_message_bytes: how long a user's message may be, in UTF-8. Longer ones are left out.
    Raises: WrongFile, while iterating.
    """
    for number, each in enumerate(_elements(file), 1):
        if not isinstance(each, dict):
            raise WrongFile(f"conversation {number} is not a JSON object")
        yield _conversation(each, max_message_bytes)


def _elements(file: BinaryIO) -> Iterator[Any]:
    """Iterate over the elements of a JSON array, without reading it whole."""
    decoder, text = json.JSONDecoder(), _Text(file)
    if text.next_sign() != "[":
        raise WrongFile("the file is not a JSON array")
    text.drop(1)
    while (sign := text.next_sign()) != "]":
        if sign in ("", "}"):
            raise WrongFile("the file ends within its array: it was cut off")
        if sign == ",":
            text.drop(1)
            continue
        yield text.value(decoder)


class _Text:
    """The text of a file that is still to be read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._is_at_end = False

    def next_sign(self) -> str:
        """Return the next character that is not white space; empty: there is none."""
        while True:
            self._text = self._text.lstrip()
            if self._text or self._is_at_end:
                return self._text[:1]
            self._read(_CHUNK)

    def drop(self, count: int) -> None:
        self._text = self._text[count:]

    def value(self, decoder: json.JSONDecoder) -> Any:
        """Return the next JSON value. Raises: WrongFile: there is none."""
        while True:
            try:
                value, end = decoder.raw_decode(self._text)
            except RecursionError:
                raise WrongFile("the file has values within values, too deep to be read") from None
            except ValueError as error:
                if self._is_at_end or not self._is_cut_at(error):
                    raise WrongFile(f"the file is not JSON, or was cut off: {error}") from None
                self._read(max(_CHUNK, len(self._text)))  # doubled, so that long ones are not slow
            else:
                self.drop(end)
                return value

    def _is_cut_at(self, error: ValueError) -> bool:
        """Return whether an error may be there only because the rest is still to be read."""
        if not isinstance(error, json.JSONDecodeError) or error.msg.startswith("Unterminated"):
            return True
        return error.pos > len(self._text) - _LONGEST_TOKEN

    def _read(self, count: int) -> None:
        data = self._file.read(count)
        self._is_at_end = not data
        try:
            self._text += self._decoder.decode(data, final=self._is_at_end)
        except UnicodeError:
            raise WrongFile("the file is not UTF-8") from None


def _conversation(given: Mapping[str, Any], max_message_bytes: int) -> Found:
    title, is_shortened = _title(given.get("title"))
    conversation = parts.Conversation(conversation_id=_id(given), title=title)
    found = Found(conversation)
    if is_shortened:
        found.left_out["end of a long title"] += 1
    nodes = {name: _object(node) for name, node in _object(given.get("mapping")).items()}
    path = _path(nodes, given.get("current_node"))
    moment = _timestamp(given.get("create_time"))
    for node_id in path:
        message = nodes[node_id].get("message")
        if not isinstance(message, dict):
            continue
        moment = _timestamp(message.get("create_time")) or moment
        _take(found, message, moment, max_message_bytes)
    shown = set(path)
    others = sum(_has_text(node) for name, node in nodes.items() if name not in shown)
    if others:
        found.left_out["message of another branch"] += others
    return found


def _id(given: Mapping[str, Any]) -> str:
    source = given.get("conversation_id") or given.get("id") or json.dumps(given, sort_keys=True)
    return str(uuid.uuid5(IDS, f"chatgpt {source}".encode(errors="replace").decode()))


def _title(given: Any) -> tuple[str, bool]:
    """Return a title on one line, and whether it had to be shortened."""
    line = " ".join(_CONTROL.sub(" ", given if isinstance(given, str) else "").split())
    kept = _beginning(line, MAX_TITLE_BYTES)
    return kept, kept != line


def _path(nodes: Mapping[str, Any], current: Any) -> list[str]:
    """Return the nodes from the root to the one that was shown last."""
    if not isinstance(current, str) or current not in nodes:
        leaves = [name for name, node in nodes.items() if not node.get("children")]
        current = leaves[-1] if leaves else None
    path: list[str] = []
    seen = set()
    while isinstance(current, str) and current in nodes and current not in seen:
        seen.add(current)
        path.append(current)
        current = nodes[current].get("parent")
    return path[::-1]


def _has_text(node: Mapping[str, Any]) -> bool:
    message = node.get("message")
    return isinstance(message, dict) and bool(_texts(message, Counter()).strip())


def _take(
    found: Found, message: Mapping[str, Any], moment: Timestamp | None, max_message_bytes: int
) -> None:
    """Add a message to what was found, or count what it is instead."""
    author = _object(message.get("author"))
    role = _kind(author.get("role"))
    recipient = message.get("recipient") or "all"
    if role not in _ROLES:
        name = author.get("name")
        found.left_out[f"{role} {_kind(name)}" if name else role] += 1
        return
    if recipient != "all":
        found.left_out[f"call of {_kind(recipient)}"] += 1
        return
    metadata = _object(message.get("metadata"))
    text = _texts(message, found.left_out)
    if not text.strip():
        return
    if metadata.get("is_visually_hidden_from_conversation"):
        found.left_out["hidden message"] += 1
        return
    fitting = _storable(text)
    if fitting != text:
        found.left_out["character that cannot be stored"] += len(_CANNOT_BE_STORED.findall(text))
    limit = MAX_ANSWER_BYTES if role == "assistant" else max_message_bytes
    if len(fitting.encode()) > limit:
        found.left_out[f"message longer than {limit:,} bytes"] += 1
        return
    added = parts.Message(role=_ROLES[role], content=fitting, create_time=moment)
    if role == "assistant":
        model = _storable(str(metadata.get("model_slug") or ""))
        added.model = _beginning(model, MAX_MODEL_BYTES)
        ended = _object(metadata.get("finish_details")).get("type")
        added.finish_reason = _REASONS.get(str(ended), parts.FINISH_REASON_UNSPECIFIED)
    found.messages.append(added)


def _texts(message: Mapping[str, Any], left_out: Counter[str]) -> str:
    """Return the text of a message, and count its parts that have none."""
    content = _object(message.get("content"))
    kind = _kind(content.get("content_type"))
    if kind == "code":
        return str(content.get("text") or "")
    if kind not in ("text", "multimodal_text"):
        if content:
            left_out[kind] += 1
        return ""
    texts = []
    given = content.get("parts")
    for part in given if isinstance(given, list) else [given]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("content_type") == "audio_transcription":
            texts.append(str(part.get("text") or ""))
        elif isinstance(part, dict):
            left_out[_kind(part.get("content_type"))] += 1
    return "\n".join(text for text in texts if text)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _kind(value: Any) -> str:
    """Return what is given as the name of a kind, of a role or of a tool, fit to be shown."""
    return _storable(str(value))


def _storable(text: str) -> str:
    return _CANNOT_BE_STORED.sub("\ufffd", text)


def _beginning(text: str, max_bytes: int) -> str:
    """Return as much of a text as fits, in UTF-8."""
    return text.encode()[:max_bytes].decode(errors="ignore")


def _timestamp(seconds: Any) -> Timestamp | None:
    """Return a time, to the microsecond. None: there is none, or it is none that can have been."""
    if not isinstance(seconds, int | float) or not 0 < seconds <= time.time():
        return None
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1_000_000))
    return timestamp

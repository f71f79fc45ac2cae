"""The text of an answer, put together of an agent's artifacts and messages.

Artifacts come in pieces, and pieces of several may come between each other. They are told in the
order in which they began: one at a time as it comes, the others once it is complete. What was told
is never taken back.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToJson

from parley_server.agents.a2a.failures import OutOfProtocol
from parley_server.core.attempts.transcript import MAX_TEXT_BYTES

MAX_ARTIFACTS = 256
MAX_ID_CHARS = 256
PARAGRAPH = "\n\n"
"""Stands between artifacts, and before a message behind them."""
LINE = "\n"
"""Stands around a part that is no text, and between the parts of a message."""

Parts = Sequence[a2a_pb2.Part]


class Told(NamedTuple):
    """What was told of an artifact in earlier turns."""

    chars: int = 0
    digest: str = ""
    """Of its first characters; empty: of none."""
    digested_chars: int = 0

    @classmethod
    def of(cls, text: str) -> "Told":
        return cls(len(text), _digest(text), len(text))

    def begins(self, text: str) -> bool:
        """Return whether a text goes on from there; if not, another one has taken its place."""
        is_same = not self.digest or self.digest == _digest(text[: self.digested_chars])
        return is_same and len(text) >= self.chars


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


NOTHING = Told()


@dataclass(slots=True, eq=False)
class _Artifact:
    earlier: Told = NOTHING
    pieces: list[str] = field(default_factory=list)
    """What is known of it in this turn."""
    told: int = 0
    """How many of the pieces have been told."""
    ends_as_text: bool | None = None
    """Whether its last part is text. None: it has no part yet."""
    is_complete: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def told_so_far(self) -> Told:
        """What was told of it, in this turn and in earlier ones."""
        text, earlier = self.text, self.earlier
        return earlier._replace(chars=earlier.chars + len(text)) if earlier.chars else Told.of(text)

    def following(self, parts: Parts) -> str:
        """Return the text of parts that follow what it has."""
        pieces = []
        for part in parts:
            is_text = part.WhichOneof("content") == "text"
            joins = self.ends_as_text is None or (is_text and self.ends_as_text)
            pieces.append(("" if joins else LINE) + in_words(part))
            self.ends_as_text = is_text
        return "".join(pieces)


class Texts:
    """Takes what an agent says; each method returns what can be told now."""

    def __init__(self, earlier: Mapping[str, Told] | None = None) -> None:
        """Begin an answer.

        Args:
            earlier: of the task's artifacts that were told in earlier turns, by id.
        """
        self._artifacts = {key: _Artifact(told) for key, told in (earlier or {}).items()}
        self._order: list[_Artifact] = []
        self._now = 0
        self._told: list[str] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it is longer than an answer may be."""
        return self._bytes > MAX_TEXT_BYTES

    @property
    def told_so_far(self) -> dict[str, Told]:
        """What was told of each artifact, in this turn and in earlier ones: see `earlier`."""
        return {key: artifact.told_so_far for key, artifact in self._artifacts.items()}

    def append(self, artifact_id: str, parts: Parts, *, is_last: bool) -> Iterator[str]:
        """Take the next piece of an artifact that has begun.

        Raises: OutOfProtocol.
        """
        artifact = self._artifacts.get(artifact_id)
        if artifact is None:
            raise OutOfProtocol("append to an artifact that has not begun")
        if artifact.is_complete:
            raise OutOfProtocol("append to an artifact behind its last chunk")
        return self._add(artifact, artifact.following(parts), is_last=is_last)

    def begin(self, artifact_id: str, parts: Parts, *, is_last: bool) -> Iterator[str]:
        """Take an artifact from its beginning: a new one, or all of one that is known.

        Raises: OutOfProtocol.
        """
        artifact = self._artifact(artifact_id)
        text = _Artifact().following(parts)
        earlier = artifact.earlier
        goes_on = bool(artifact.pieces) and earlier.begins(text)
        if goes_on and text[earlier.chars :].startswith(artifact.text):
            text = text[earlier.chars :]
        else:
            artifact.earlier = NOTHING  # what was told in earlier turns is not in it any more
        return self._renew(artifact, text, parts, is_last=is_last)

    def snapshot(self, artifact_id: str, parts: Parts) -> Iterator[str]:
        """Take an artifact as a task holds it, with what was told of it in earlier turns.

        Raises: OutOfProtocol.
        """
        artifact = self._artifact(artifact_id)
        text = _Artifact().following(parts)
        if not artifact.earlier.begins(text):
            artifact.earlier = NOTHING
        return self._renew(artifact, text[artifact.earlier.chars :], parts, is_last=False)

    def say(self, parts: Parts) -> Iterator[str]:
        """Take a message behind all artifacts; one that says the same as they do says nothing."""
        yield from self.rest()
        text = LINE.join(map(in_words, parts))
        if text.strip() and text != "".join(self._told):
            self._bytes += len(text.encode())
            yield self._tell(PARAGRAPH + text if self._told else text)

    def rest(self) -> Iterator[str]:
        """Return what was held back: nothing more comes."""
        for artifact in self._order:
            artifact.is_complete = True
        yield from self._tellable()

    def _artifact(self, artifact_id: str) -> _Artifact:
        if not artifact_id or len(artifact_id) > MAX_ID_CHARS:
            raise OutOfProtocol("an artifact without an id, or with one that is too long")
        if artifact_id not in self._artifacts:
            if len(self._artifacts) >= MAX_ARTIFACTS:
                raise OutOfProtocol("more artifacts than an answer may have")
            self._artifacts[artifact_id] = _Artifact()
        return self._artifacts[artifact_id]

    def _renew(
        self, artifact: _Artifact, text: str, parts: Parts, *, is_last: bool
    ) -> Iterator[str]:
        known = artifact.text
        if not text.startswith(known):
            if artifact.told:
                raise OutOfProtocol("an artifact replaces text that was told")
            self._bytes -= len(known.encode())
            artifact.pieces.clear()
            known = ""
        if parts:
            artifact.ends_as_text = parts[-1].WhichOneof("content") == "text"
        return self._add(artifact, text[len(known) :], is_last=is_last)

    def _add(self, artifact: _Artifact, text: str, *, is_last: bool) -> Iterator[str]:
        if text:
            if not artifact.pieces and artifact not in self._order:
                self._order.append(artifact)
            artifact.pieces.append(text)
            self._bytes += len(text.encode())
            self._go_back_to(artifact)
        artifact.is_complete = artifact.is_complete or is_last
        return self._tellable()

    def _go_back_to(self, artifact: _Artifact) -> None:
        """Make an artifact the one that is told, if all of it seemed to be told, and it has grown.

        Raises: OutOfProtocol: another one was told behind it.
        """
        number = self._order.index(artifact)
        if number >= self._now:
            return
        if any(later.told for later in self._order[number + 1 :]):
            raise OutOfProtocol("an artifact grows that others were told behind")
        self._now = number

    def _tellable(self) -> Iterator[str]:
        while self._now < len(self._order):
            artifact = self._order[self._now]
            while artifact.told < len(artifact.pieces):
                text = artifact.pieces[artifact.told]
                is_first = artifact.told == 0
                artifact.told += 1
                yield self._tell(PARAGRAPH + text if is_first and self._told else text)
            if not artifact.is_complete:
                return
            self._now += 1

    def _tell(self, text: str) -> str:
        self._told.append(text)
        return text


def in_words(part: a2a_pb2.Part) -> str:
    """Return a part as text: of data its JSON, of a link its URL, of a file its name.

    Raises: OutOfProtocol.
    """
    match part.WhichOneof("content"):
        case "text":
            return part.text
        case "data":
            return _json(part)
        case "url":
            return part.url
        case "raw":
            return f"[{part.filename or part.media_type or 'file'}]"
        case _:
            return ""


def _json(part: a2a_pb2.Part) -> str:
    try:
        return MessageToJson(part.data, indent=None, ensure_ascii=False)
    except ValueError:
        raise OutOfProtocol("data that has no JSON form") from None

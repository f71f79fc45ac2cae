"""What a remote agent may send, and what becomes of it: the table of docs/remote-agents.md.

Each case is a row there, in the same words and order.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import grpc
from a2a.types import a2a_pb2 as a2a
from google.protobuf.struct_pb2 import Value

from parley_server.core.attempts.transcript import MAX_TEXT_BYTES
from parley_server.core.errors import AgentError, AgentRefused, AgentTimeout, AgentUnavailable
from parley_server.core.model import FinishReason
from support.a2a_scripted import (
    OTHERS_WORDS,
    Fails,
    Ids,
    Said,
    Script,
    a_message,
    a_piece,
    a_status,
    a_task,
    an_artifact,
    completed,
    working,
)

ANSWER = "the answer"
Make: TypeAlias = Callable[[Ids], Said]
NAMES: dict[str, type[AgentError]] = {
    "AGENT_UNAVAILABLE": AgentUnavailable,
    "AGENT_REFUSED": AgentRefused,
    "AGENT_TIMEOUT": AgentTimeout,
}
MEGABYTE = 1024 * 1024


class Case(NamedTuple):
    sends: str
    becomes: str
    script: Script
    text: str | None = None
    """What is told, of a failure too. None: it is too long to be compared."""
    reason: FinishReason = FinishReason.STOP


def of(*said: Said) -> Script:
    return lambda _: said


def in_task(*make: Said | Make) -> Script:
    """Begin a task, and say the rest: events, or functions that make them for its ids."""

    def script(ids: Ids) -> Iterator[Said]:
        yield a_task(ids)
        for each in make:
            yield each(ids) if callable(each) else each

    return script


def piece(*texts: str, **fields: Any) -> Make:
    return lambda ids: a_piece(ids, *texts, **fields)


def status(state: int, *texts: str) -> Make:
    return lambda ids: a_status(ids, state, *texts)


def endless(ids: Ids) -> Iterator[Said]:
    yield a_task(ids)
    yield a_piece(ids, "")
    while True:
        yield a_piece(ids, "x" * 65536, append=True)


def many_artifacts(ids: Ids) -> Iterator[Said]:
    yield a_task(ids)
    for number in range(10_000):
        yield a_piece(ids, "", artifact=f"a{number}")


def stranger(**changes: str) -> Script:
    def script(ids: Ids) -> Iterator[Said]:
        yield a_task(ids)
        yield a_piece(ids, "Half")
        yield a_piece(ids._replace(**changes), OTHERS_WORDS, append=True)
        yield completed(ids)

    return script


def broken_utf8(ids: Ids) -> Iterator[Said]:
    data = a_message("abcdefgh", context_id=ids.context).SerializeToString()
    yield data.replace(b"abcdefgh", b"\xff\xfe" + b"\xc3" * 6)


def parts(*made: a2a.Part) -> list[a2a.Part]:
    return list(made)


HELLO_WORLD = "Hello, world"
DATA = Value()
DATA.struct_value.update({"cents": 240})

CASES = [
    Case("a Message", ANSWER, of(a_message("Hello")), "Hello"),
    Case("a Message of several parts", "each part a line", of(a_message("One", "Two")), "One\nTwo"),
    Case(
        "an artifact in chunks, COMPLETED",
        "the answer, as it comes",
        in_task(piece("Hello"), piece(", world", append=True, last=True), completed),
        HELLO_WORLD,
    ),
    Case(
        "a Task that is COMPLETED, with artifacts",
        ANSWER,
        lambda ids: [a_task(ids, a2a.TASK_STATE_COMPLETED, artifacts=[an_artifact("a", "Hello")])],
        "Hello",
    ),
    Case("COMPLETED with a message", "the message", in_task(status(3, "Hello")), "Hello"),
    Case(
        "COMPLETED with a message behind artifacts",
        "a paragraph behind them",
        in_task(piece("Hello"), status(3, "Done")),
        "Hello\n\nDone",
    ),
    Case(
        "COMPLETED with a message that repeats the artifacts",
        "told once",
        in_task(piece("Hello"), status(3, "Hello")),
        "Hello",
    ),
    Case(
        "messages of SUBMITTED and WORKING",
        "not told: they are about the work",
        in_task(working, lambda ids: working(ids, OTHERS_WORDS), piece("Hello"), completed),
        "Hello",
    ),
    Case(
        "several artifacts",
        "each a paragraph, in the order in which they began",
        in_task(piece("A", artifact="a"), piece("B", artifact="b"), completed),
        "A\n\nB",
    ),
    Case(
        "chunks of several artifacts between each other",
        "as above: one that is not the first is held until those before it are complete",
        in_task(
            piece("A1", artifact="a"),
            piece("B1", artifact="b"),
            piece("A2", artifact="a", append=True, last=True),
            piece("B2", artifact="b", append=True),
            completed,
        ),
        "A1A2\n\nB1B2",
    ),
    Case(
        "an artifact again, as it was or longer",
        "what is new of it",
        in_task(piece("Hello"), piece("Hello"), piece(HELLO_WORLD), completed),
        HELLO_WORLD,
    ),
    Case(
        "an artifact again, longer than it was at its last chunk",
        "what is new of it",
        in_task(piece("Hello", last=True), piece(HELLO_WORLD), completed),
        HELLO_WORLD,
    ),
    Case(
        "the same, behind another artifact",
        "AGENT_UNAVAILABLE",
        in_task(
            piece("A", artifact="a", last=True),
            piece("B", artifact="b"),
            piece("A and more", artifact="a"),
            completed,
        ),
        "A\n\nB",
    ),
    Case(
        "an artifact again, with another text, before it is told",
        "the newer text",
        in_task(
            piece("A", artifact="a"),
            piece("old", artifact="b"),
            piece("new", artifact="b"),
            completed,
        ),
        "A\n\nnew",
    ),
    Case(
        "an artifact again, with another text than was told",
        "AGENT_UNAVAILABLE",
        in_task(piece("Hello"), piece("Good bye"), completed),
        "Hello",
    ),
    Case(
        "a chunk for an artifact that has not begun",
        "AGENT_UNAVAILABLE",
        in_task(piece("world", append=True), completed),
        "",
    ),
    Case(
        "a chunk behind the last one",
        "AGENT_UNAVAILABLE",
        in_task(piece("Hello", last=True), piece("!", append=True), completed),
        "Hello",
    ),
    Case(
        "an artifact without an id",
        "AGENT_UNAVAILABLE",
        in_task(piece("Hello", artifact=""), completed),
        "",
    ),
    Case("more than 256 artifacts", "AGENT_UNAVAILABLE", many_artifacts, ""),
    Case(
        "a data part",
        "its JSON, on lines of its own",
        of(a_message(parts=parts(a2a.Part(text="Price:"), a2a.Part(data=DATA)))),
        'Price:\n{"cents": 240.0}',
    ),
    Case(
        "a data part without a JSON form (Infinity)",
        "AGENT_UNAVAILABLE",
        of(a_message(parts=parts(a2a.Part(data=Value(number_value=float("inf")))))),
        "",
    ),
    Case(
        "a part with a URL",
        "the URL",
        of(a_message(parts=parts(a2a.Part(url="https://shop.example/a.png")))),
        "https://shop.example/a.png",
    ),
    Case(
        "a part with bytes",
        "its name in brackets, else its media type, else [file]",
        of(a_message(parts=parts(a2a.Part(raw=b"\0\1", filename="a.png")))),
        "[a.png]",
    ),
    Case("a part without content", "nothing", of(a_message(parts=parts(a2a.Part()))), ""),
    Case("COMPLETED, and no text", "an empty answer", in_task(completed), ""),
    Case("NUL characters", "U+FFFD in their place, when stored", of(a_message("a\0b")), "a\0b"),
    Case(
        "more than 256 KiB of text, or text without end",
        "cut there, as LENGTH; the task is cancelled",
        endless,
        None,
        FinishReason.LENGTH,
    ),
    Case(
        "an event of more than 4 MiB",
        "AGENT_UNAVAILABLE",
        in_task(piece("x" * 5 * MEGABYTE), completed),
        "",
    ),
    Case("a text that is not UTF-8", "AGENT_UNAVAILABLE", broken_utf8, ""),
    Case("bytes that are no protobuf", "AGENT_UNAVAILABLE", of(b"\xff" * 9), ""),
    Case("an event without content", "AGENT_UNAVAILABLE", of(a2a.StreamResponse()), ""),
    Case("no event at all", "AGENT_UNAVAILABLE", of(), ""),
    Case(
        "the end of the stream before the end of the task",
        "AGENT_UNAVAILABLE",
        in_task(piece("Half of it"), working),
        "Half of it",
    ),
    Case("a task without an id", "AGENT_UNAVAILABLE", lambda ids: [a_task(Ids("", ids[1]))], ""),
    Case("an event of another task", "AGENT_UNAVAILABLE", stranger(task="t2"), "Half"),
    Case("an event of another context", "AGENT_UNAVAILABLE", stranger(context="c2"), "Half"),
    Case(
        "a Message of another context",
        "AGENT_UNAVAILABLE",
        of(a_message(OTHERS_WORDS, context_id="c2")),
        "",
    ),
    Case(
        "a Message in the midst of a task",
        "AGENT_UNAVAILABLE",
        in_task(piece("Half"), a_message(OTHERS_WORDS)),
        "Half",
    ),
    Case(
        "a Message with the role of the user",
        "AGENT_UNAVAILABLE",
        of(a_message(OTHERS_WORDS, role=a2a.ROLE_USER)),
        "",
    ),
    Case(
        "a state that A2A does not have, or none",
        "AGENT_UNAVAILABLE",
        in_task(piece("Half"), status(99), completed),
        "Half",
    ),
    Case(
        "SUBMITTED after WORKING, or a status twice",
        ANSWER,
        in_task(working, working, status(1), piece("Hello"), completed),
        "Hello",
    ),
    Case(
        "anything behind the last event",
        "not read",
        in_task(piece("Hello"), completed, working, piece(OTHERS_WORDS)),
        "Hello",
    ),
    Case(
        "INPUT_REQUIRED",
        "an answer with its text; the next message goes to the same task",
        in_task(status(6, "Which one?")),
        "Which one?",
    ),
    Case("FAILED", "AGENT_UNAVAILABLE", in_task(piece("Half"), status(4, OTHERS_WORDS)), "Half"),
    Case("CANCELED", "AGENT_UNAVAILABLE", in_task(status(5, OTHERS_WORDS)), ""),
    Case("REJECTED", "AGENT_REFUSED", in_task(status(7, OTHERS_WORDS)), ""),
    Case(
        "AUTH_REQUIRED",
        "AGENT_REFUSED; the task is cancelled",
        in_task(status(8, OTHERS_WORDS)),
        "",
    ),
    *[
        Case(f"the status {code.name}", becomes, of(Fails(code)), "")
        for becomes, codes in {
            "AGENT_REFUSED": [
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.ALREADY_EXISTS,
                grpc.StatusCode.FAILED_PRECONDITION,
                grpc.StatusCode.OUT_OF_RANGE,
                grpc.StatusCode.UNIMPLEMENTED,
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.PERMISSION_DENIED,
            ],
            "AGENT_TIMEOUT": [grpc.StatusCode.DEADLINE_EXCEEDED],
            "AGENT_UNAVAILABLE": [
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.ABORTED,
                grpc.StatusCode.CANCELLED,
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.UNKNOWN,
                grpc.StatusCode.DATA_LOSS,
            ],
        }.items()
        for code in codes
    ],
    Case(
        "a status after half of the text",
        "AGENT_UNAVAILABLE",
        in_task(piece("Half"), Fails(grpc.StatusCode.INTERNAL)),
        "Half",
    ),
]
"""Beside these, `test_connection` has what happens to the connection itself."""

MOST_TEXT = MAX_TEXT_BYTES + 65536

"""Bad input is refused by name, all of it at once, before anything is stored.

Limits are tried on both sides. Bytes and metadata that nobody would send on purpose are made by
hypothesis: whatever they are, Parley answers with a status of its own.
"""

import itertools
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from parley_server.rpc import page_tokens
from support.http2 import Connection
from support.http2 import message as framed
from support.messages import assistant, tool_call, user
from support.services import (
    Service,
    a_token,
    an_id,
    details_of,
    info_of,
    metadata,
    refused,
)

SERVICE = "/parley.v1.ConversationService/"
MAX_MESSAGE_BYTES = 256 * 1024
"""The default of PARLEY_MAX_MESSAGE_BYTES."""
MIB = 1024 * 1024
UNARY = (
    "Chat",
    "GetHistory",
    "ListConversations",
    "GetTurn",
    "CancelTurn",
    "AppendMessages",
    "ForkConversation",
    "GetUsage",
)
STREAMED = ("StreamChat", "WatchConversation")
METHODS = (*UNARY, *STREAMED)

ONE_CONVERSATION = "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f"


async def call(
    service: Service, method: str, request: Message | bytes, **options: Any
) -> bytes | grpc.aio.AioRpcError:
    """Send these very bytes to a method, and return the first answer, or the error."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    options = {"metadata": metadata("ada"), "timeout": 10} | options
    try:
        if method in STREAMED:
            stream = service.channel.unary_stream(SERVICE + method, None, None)(data, **options)
            async for answer in stream:
                stream.cancel()
                return answer
            return b""
        return await service.channel.unary_unary(SERVICE + method, None, None)(data, **options)
    except grpc.aio.AioRpcError as error:
        return error


async def violations(service: Service, method: str, request: Message | bytes) -> dict[str, str]:
    """Return the reason for each field that a request is refused for."""
    error = await call(service, method, request)
    assert isinstance(error, grpc.aio.AioRpcError), f"answered: {error!r}"
    assert grpc.StatusCode.INVALID_ARGUMENT == error.code()
    found = [d for d in details_of(error) if isinstance(d, error_details_pb2.BadRequest)]
    assert 1 == len(found)
    listed = found[0].field_violations
    assert all(v.reason and v.description for v in listed)
    expected = "INVALID_REQUEST"
    if [v.reason for v in listed] in (["INVALID_PAGE_TOKEN"], ["AGENT_UNKNOWN"]):
        expected = listed[0].reason
    assert expected == info_of(error).reason
    return {v.field: v.reason for v in listed}


def stored_rows(database_url: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        counts = "SELECT count(*) FROM "
        tables = ("conversation", "turn", "message", "turn_event", "turn_step")
        return sum(row[0] for table in tables for row in connection.execute(counts + table))


@pytest.fixture
async def empty(service: Service, database_url: str) -> AsyncIterator[Service]:
    """A service whose database must be as empty after the test as before."""
    yield service
    assert 0 == stored_rows(database_url)


# Fields


BLANKS = {
    "spaces": "   ",
    "a line end": "\n",
    "tabs and returns": "\t\r\n\v\f",
    "no-break spaces": "\u00a0\u202f\u2007",
    "spaces of all widths": "\u2002\u2003\u2009\u200a\u3000\u1680\u205f",
    "separators of lines": "\u0085\u2028\u2029",
}


async def test_message_of_white_space_is_refused(empty: Service) -> None:
    for name, blank in BLANKS.items():
        found = await violations(empty, "Chat", pb.ChatRequest(message=blank))
        assert {"message": "BLANK"} == found, name


async def test_message_that_cannot_be_kept_is_refused(empty: Service) -> None:
    for reason, message in (
        ("REQUIRED", ""),
        ("TOO_LONG", "x" * (MAX_MESSAGE_BYTES + 1)),
        ("TOO_LONG", "é" * (MAX_MESSAGE_BYTES // 2) + "x"),
        ("TOO_LONG", "𝄞" * (MAX_MESSAGE_BYTES // 4) + "x"),
        ("TOO_LONG", "x" * 900_000),
        ("HAS_NUL", "\0"),
        ("HAS_NUL", "before\0after"),
        ("HAS_NUL", "x" * (MAX_MESSAGE_BYTES - 1) + "\0"),
    ):
        found = await violations(empty, "Chat", pb.ChatRequest(message=message))
        assert {"message": reason} == found, message[:20]


async def test_message_within_the_limits_comes_back_as_it_was(service: Service) -> None:
    for message in (
        "x",
        "x" * MAX_MESSAGE_BYTES,
        "é" * (MAX_MESSAGE_BYTES // 2),
        "𝄞" * (MAX_MESSAGE_BYTES // 4),
        " " * (MAX_MESSAGE_BYTES - 1) + "x",
        "\x01\x7f\u200b\ufeff\ufffe\U0010ffff",
        "' OR 1=1; -- %s %(owner)s {} \\",
    ):
        answer = await service.chat(message)
        assert message == (await service.history(answer.conversation_id)).messages[0].content


NO_UUIDS = {
    "a word": "conversation",
    "no hyphens": "0198f6a27c1e7d3b9a503f2b8c4d5e6f",
    "braces": "{0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f}",
    "a URN": "urn:uuid:0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f",
    "a space behind": "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f ",
    "a line end behind": "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f\n",
    "a space in front": " 0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f",
    "a letter beyond f": "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6g",
    "too short": "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6",
    "hyphens elsewhere": "0198f6a27-c1e-7d3b-9a50-3f2b8c4d5e6f",
    "other digits": "\u0660198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f",
    "NUL": "0198f6a2-7c1e-7d3b-9a50-3f2b8c4d5e6f\0",
}


async def test_bad_uuid_is_refused_wherever_one_stands(empty: Service) -> None:
    no_conversation, neither = {"conversation_id"}, {"conversation_id", "turn_id"}
    for name, bad in NO_UUIDS.items():
        chat = pb.ChatRequest(message="hello", conversation_id=bad, allow_missing=True)
        cases: dict[str, tuple[set[str], Message]] = {
            "Chat": (no_conversation, chat),
            "StreamChat": ({"chat.conversation_id"}, pb.StreamChatRequest(chat=chat)),
            "GetHistory": (no_conversation, pb.GetHistoryRequest(conversation_id=bad)),
            "GetTurn": (neither, pb.GetTurnRequest(conversation_id=bad, turn_id=bad)),
            "CancelTurn": (neither, pb.CancelTurnRequest(conversation_id=bad, turn_id=bad)),
            "WatchConversation": (
                no_conversation,
                pb.WatchConversationRequest(conversation_id=bad),
            ),
        }
        for method, (fields, request) in cases.items():
            expected = dict.fromkeys(fields, "NOT_A_UUID")
            assert expected == await violations(empty, method, request), f"{method}: {name}"


async def test_uuid_in_capitals_is_the_same_as_in_small_letters(service: Service) -> None:
    small = ONE_CONVERSATION
    first = await service.chat(
        "hello", conversation_id=small.upper(), allow_missing=True, request_id="r"
    )
    again = await service.chat("hello", conversation_id=small, allow_missing=True, request_id="r")
    second = await service.chat("more", conversation_id=small.title())

    assert small == first.conversation_id == second.conversation_id
    assert (first.turn_id, True) == (again.turn_id, again.replayed)
    assert (1, 3) == (first.user_sequence, second.user_sequence)
    assert await service.history(small) == await service.history(small.upper())
    shown = await service.turn(conversation_id=small, turn_id=first.turn_id)
    assert shown == await service.turn(conversation_id=small.upper(), turn_id=first.turn_id.upper())


async def test_bad_request_id_is_refused(empty: Service) -> None:
    bad = {"request_id": "BAD_REQUEST_ID"}
    for request_id in ("x" * 129, "a b", "a\n", "a/b", "ä", "a\0", "{}", " ", "a" * 5000, "\u0663"):
        chat = pb.ChatRequest(message="hello", request_id=request_id)
        assert bad == await violations(empty, "Chat", chat), request_id
        turn = pb.GetTurnRequest(request_id=request_id)
        assert bad == await violations(empty, "GetTurn", turn), request_id
        cancelled = pb.CancelTurnRequest(request_id=request_id)
        assert bad == await violations(empty, "CancelTurn", cancelled), request_id


async def test_good_request_id_is_taken_as_it_is(service: Service) -> None:
    for request_id in ("x", "x" * 128, "Az09._:-", "-", "..", an_id()):
        answer = await service.chat(request_id=request_id)
        turn = await service.turn(request_id=request_id)
        assert (answer.turn_id, request_id) == (turn.turn_id, turn.request_id)


async def test_request_ids_differ_in_capitals(service: Service) -> None:
    first, second = await service.chat(request_id="r"), await service.chat(request_id="R")

    assert first.turn_id != second.turn_id


async def test_turn_is_named_by_its_ids_or_by_its_request_id_alone(empty: Service) -> None:
    required, together = "REQUIRED", "NOT_TOGETHER"
    cases: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {"conversation_id": required, "turn_id": required}),
        ({"turn_id": an_id()}, {"conversation_id": required}),
        ({"conversation_id": an_id()}, {"turn_id": required}),
        ({"request_id": "r", "turn_id": an_id()}, {"turn_id": together}),
        ({"request_id": "r", "conversation_id": an_id()}, {"conversation_id": together}),
    ]
    for fields, expected in cases:
        assert expected == await violations(empty, "GetTurn", pb.GetTurnRequest(**fields))
        assert expected == await violations(empty, "CancelTurn", pb.CancelTurnRequest(**fields))


async def test_unknown_enum_value_is_refused(empty: Service) -> None:
    unknown = "UNKNOWN_VALUE"
    for value in (4, 99, -1, 2**31 - 1, -(2**31)):
        chat = pb.ChatRequest(message="hello", on_busy=value, on_disconnect=value)
        both = {"on_busy": unknown, "on_disconnect": unknown}
        assert both == await violations(empty, "Chat", chat)
        history = pb.GetHistoryRequest(conversation_id=an_id(), order=value)
        assert {"order": unknown} == await violations(empty, "GetHistory", history)


async def test_negative_number_is_refused(empty: Service) -> None:
    chat = pb.ChatRequest(message="hello")
    for bad in (-1, -(2**31)):
        cases: list[tuple[str, set[str], Message]] = [
            (
                "Chat",
                {"expected_sequence"},
                pb.ChatRequest(message="hello", expected_sequence=bad),
            ),
            (
                "GetHistory",
                {"page_size", "after_sequence", "min_sequence"},
                pb.GetHistoryRequest(
                    conversation_id=an_id(), page_size=bad, after_sequence=bad, min_sequence=bad
                ),
            ),
            ("ListConversations", {"page_size"}, pb.ListConversationsRequest(page_size=bad)),
            (
                "WatchConversation",
                {"after_sequence"},
                pb.WatchConversationRequest(conversation_id=an_id(), after_sequence=bad),
            ),
            (
                "StreamChat",
                {"after_attempt", "after_index"},
                pb.StreamChatRequest(chat=chat, after_attempt=bad, after_index=bad),
            ),
        ]
        for method, fields, request in cases:
            expected = dict.fromkeys(fields, "NEGATIVE")
            assert expected == await violations(empty, method, request), method


async def test_few_of_many_mistakes_are_collected(empty: Service) -> None:
    """Fails when each of a million is, which takes seconds of the loop."""
    blank = [user("")] * 300
    many = pb.AppendMessagesRequest(conversation_id=an_id(), messages=blank)
    told = {f"messages[{number}].content": "REQUIRED" for number in range(16)}
    assert told == await violations(empty, "AppendMessages", many)

    too_many = "TOO_MANY"
    labels = [""] * 100_000
    for method, request in {
        "ListConversations": pb.ListConversationsRequest(labels=labels),
        "WatchTurns": pb.WatchTurnsRequest(labels=labels),
        "GetUsage": pb.GetUsageRequest(labels=labels),
    }.items():
        assert {"labels": too_many} == await violations(empty, method, request), method
    change = pb.UpdateConversationRequest(conversation_id=an_id(), title="x")
    change.update_mask.paths.extend(["title"] * 100_000)
    assert {"update_mask": too_many} == await violations(empty, "UpdateConversation", change)


async def test_greatest_numbers_are_taken_for_what_they_are(service: Service) -> None:
    """Fails when a number is added to before it is compared: that leaves 64 bits."""
    greatest, conversation_id = 2**63 - 1, (await service.chat()).conversation_id
    page = await service.history(conversation_id, after_sequence=greatest, page_size=2**31 - 1)
    backwards = await service.history(
        conversation_id, after_sequence=greatest, order=pb.ORDER_NEWEST_FIRST
    )

    assert ([], 2) == (list(page.messages), page.last_sequence)
    assert ([], "") == (list(backwards.messages), backwards.next_page_token)
    assert ("FAILED_PRECONDITION", "SEQUENCE_NOT_REACHED") == await refused(
        service.history(conversation_id, min_sequence=greatest)
    )
    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(
        service.chat(conversation_id=conversation_id, expected_sequence=greatest)
    )


async def test_conversation_has_to_be_named_where_it_is_required(empty: Service) -> None:
    required = {"conversation_id": "REQUIRED"}

    assert required == await violations(empty, "GetHistory", pb.GetHistoryRequest())
    assert required == await violations(empty, "WatchConversation", pb.WatchConversationRequest())


async def test_stream_without_its_turn_is_refused(empty: Service) -> None:
    assert {"chat.message": "REQUIRED"} == await violations(
        empty, "StreamChat", pb.StreamChatRequest()
    )


async def test_unknown_agent_is_refused_by_its_own_reason(empty: Service) -> None:
    for agent in ("nobody", "openai:gpt-5", "Echo", "echo ", "x" * 30_000):
        chat = pb.ChatRequest(message="hello", agent=agent)
        assert {"agent": "AGENT_UNKNOWN"} == await violations(empty, "Chat", chat)


async def test_all_wrong_fields_of_a_turn_are_named_at_once(empty: Service) -> None:
    """Fails when the first wrong field ends the look."""
    chat = pb.ChatRequest(
        conversation_id="x",
        message="\0",
        request_id=" ",
        expected_sequence=-1,
        on_busy=7,
        on_disconnect=7,
        agent="nobody",
    )
    expected = {
        "conversation_id": "NOT_A_UUID",
        "message": "HAS_NUL",
        "request_id": "BAD_REQUEST_ID",
        "expected_sequence": "NEGATIVE",
        "on_busy": "UNKNOWN_VALUE",
        "on_disconnect": "UNKNOWN_VALUE",
        "agent": "AGENT_UNKNOWN",
    }

    assert expected == await violations(empty, "Chat", chat)
    stream = pb.StreamChatRequest(chat=chat, after_attempt=-1, after_index=-1)
    in_stream = {f"chat.{field}": reason for field, reason in expected.items()}
    in_stream |= {"after_attempt": "NEGATIVE", "after_index": "NEGATIVE"}
    # An agent's name is known nowhere else, so its field may be named without the way to it.
    found = await violations(empty, "StreamChat", stream)
    assert in_stream == {f"chat.{k}" if k == "agent" else k: v for k, v in found.items()}


async def test_all_wrong_fields_of_a_read_are_named_at_once(empty: Service) -> None:
    history = pb.GetHistoryRequest(
        conversation_id="x",
        page_size=-1,
        page_token="x",
        order=7,
        after_sequence=-1,
        min_sequence=-1,
    )
    assert {
        "conversation_id": "NOT_A_UUID",
        "page_size": "NEGATIVE",
        "page_token": "INVALID_PAGE_TOKEN",
        "order": "UNKNOWN_VALUE",
        "after_sequence": "NEGATIVE",
        "min_sequence": "NEGATIVE",
    } == await violations(empty, "GetHistory", history)
    listing = pb.ListConversationsRequest(page_size=-1, page_token="x")
    assert {"page_size": "NEGATIVE", "page_token": "INVALID_PAGE_TOKEN"} == await violations(
        empty, "ListConversations", listing
    )
    turn = pb.GetTurnRequest(conversation_id="x", turn_id="y", request_id=" ")
    found = await violations(empty, "GetTurn", turn)
    assert {"conversation_id", "turn_id", "request_id"} == set(found)


async def test_fields_come_before_what_is_stored(service: Service, database_url: str) -> None:
    """The order of checks: fields, request id, conversation."""
    first = await service.chat("hello", request_id="r")
    before = stored_rows(database_url)
    known = pb.ChatRequest(message=" ", request_id="r", conversation_id=an_id())
    mine = pb.ChatRequest(message=" ", conversation_id=first.conversation_id, expected_sequence=-1)

    assert {"message": "BLANK"} == await violations(service, "Chat", known)
    assert {"message": "BLANK", "expected_sequence": "NEGATIVE"} == await violations(
        service, "Chat", mine
    )
    assert before == stored_rows(database_url)


async def test_what_is_refused_is_told_without_what_was_said(empty: Service) -> None:
    """Fails when a description repeats the field: it goes to logs of callers."""
    secret = "a secret that nobody may repeat\0"
    chat = pb.ChatRequest(conversation_id=secret, message=secret, request_id=secret, agent=secret)
    error = await call(empty, "Chat", chat)

    assert isinstance(error, grpc.aio.AioRpcError)
    assert "a secret" not in str(error.details()) + str(details_of(error))


# Page tokens


class Paged:
    """Somebody's first pages, with the tokens for the next."""

    def __init__(self, service: Service, conversation_id: str, other_id: str) -> None:
        self.service = service
        self.other_id = other_id
        self.history = pb.GetHistoryRequest(conversation_id=conversation_id, page_size=1)
        self.listing = pb.ListConversationsRequest(page_size=1)

    async def turn_pages(self) -> None:
        page = await self.service.stub.GetHistory(self.history, metadata=metadata("ada"))
        self.history.page_token = page.next_page_token
        listed = await self.service.stub.ListConversations(self.listing, metadata=metadata("ada"))
        self.listing.page_token = listed.next_page_token
        assert self.history.page_token
        assert self.listing.page_token

    async def is_refused(self, method: str, request: Message, user: str = "ada") -> bool:
        error = await call(self.service, method, request, metadata=metadata(user))
        if not isinstance(error, grpc.aio.AioRpcError):
            return False
        reason = ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")
        assert reason == (error.code().name, info_of(error).reason)
        return True


@pytest.fixture
async def paged(service: Service) -> Paged:
    first = await service.chat("hello")
    other = await service.chat("another conversation")
    found = Paged(service, first.conversation_id, other.conversation_id)
    await found.turn_pages()
    return found


async def test_page_token_of_its_own_request_is_taken(paged: Paged) -> None:
    paged.history.page_size, paged.listing.page_size = 7, 7

    assert not await paged.is_refused("GetHistory", paged.history)
    assert not await paged.is_refused("ListConversations", paged.listing)


async def test_page_token_of_another_request_is_refused(paged: Paged) -> None:
    """Fails when the request's other arguments are left out of the digest."""
    others = {
        "conversation_id": paged.other_id,
        "order": pb.ORDER_NEWEST_FIRST,
        "after_sequence": 1,
        "min_sequence": 1,
    }
    for field, value in others.items():
        changed = pb.GetHistoryRequest()
        changed.CopyFrom(paged.history)
        setattr(changed, field, value)
        assert await paged.is_refused("GetHistory", changed), field


async def test_page_token_of_another_method_is_refused(paged: Paged) -> None:
    paged.history.page_token, paged.listing.page_token = (
        paged.listing.page_token,
        paged.history.page_token,
    )

    assert await paged.is_refused("GetHistory", paged.history)
    assert await paged.is_refused("ListConversations", paged.listing)


async def test_page_token_of_another_owner_is_refused(paged: Paged) -> None:
    """Fails when the owner is left out of the digest."""
    assert await paged.is_refused("GetHistory", paged.history, user="bob")
    assert await paged.is_refused("ListConversations", paged.listing, user="bob")


async def test_page_token_that_was_altered_is_refused(paged: Paged) -> None:
    """Fails when a token is not compared with the one that would have been given."""
    for method, request in (("GetHistory", paged.history), ("ListConversations", paged.listing)):
        token = request.page_token
        altered = [token[:-1], token[1:], token + "A", token + "=", token + "==", token * 2, " "]
        altered += [f"{token[:5]}\n{token[5:]}", token.swapcase(), token + "\0", f" {token}"]
        altered += [token.translate({ord("-"): "+", ord("_"): "/"})] if "-" in token else []
        for place, old in enumerate(token):
            others = [chr(ord(old) ^ 1 << bit) for bit in range(7)]
            altered += [token[:place] + new + token[place + 1 :] for new in others]
        for candidate in altered:
            request.page_token = candidate
            assert await paged.is_refused(method, request), f"{token} as {candidate}"


async def test_page_token_made_up_by_somebody_who_knows_how_is_harmless(paged: Paged) -> None:
    """There is no secret in a token, so its cursor may be anything: a time that is none, too."""
    owner = Owner.of("", "ada")
    for microseconds in (2**63 - 1, -(2**63), 2**60, -(2**60), 253_402_300_800 * 10**6, -1, 0):
        cursor = struct.pack(">q16s", microseconds, b"\xff" * 16)
        forged = page_tokens._encode(owner.id, "ListConversations", cursor)  # noqa: SLF001 - as they do
        paged.listing.page_token = forged
        await paged.is_refused("ListConversations", paged.listing)  # or answered
    arguments = f"GetHistory {paged.history.conversation_id} False 0 0"
    for sequence in (2**63 - 1, -(2**63), -1, 0):
        paged.history.page_token = page_tokens.encode_sequence(owner, arguments, sequence)
        assert not await paged.is_refused("GetHistory", paged.history)


# Bytes

VALID: dict[str, Message] = {
    "Chat": pb.ChatRequest(
        conversation_id=ONE_CONVERSATION,
        message="hello",
        request_id="r",
        allow_missing=True,
        expected_sequence=3,
        on_busy=pb.ON_BUSY_WAIT,
        on_disconnect=pb.ON_DISCONNECT_CONTINUE,
        agent="echo",
    ),
    "StreamChat": pb.StreamChatRequest(
        chat=pb.ChatRequest(message="hello", request_id="s"), after_attempt=1, after_index=0
    ),
    "GetHistory": pb.GetHistoryRequest(
        conversation_id=ONE_CONVERSATION, page_size=3, after_sequence=1, min_sequence=1, order=2
    ),
    "ListConversations": pb.ListConversationsRequest(page_size=3),
    "GetTurn": pb.GetTurnRequest(conversation_id=ONE_CONVERSATION, turn_id=ONE_CONVERSATION),
    "CancelTurn": pb.CancelTurnRequest(request_id="r"),
    "GetUsage": pb.GetUsageRequest(
        start_date="2026-03-01",
        end_date="2026-03-31",
        by_agent=True,
        by_label="team",
        labels=["plan=pro"],
    ),
    "AppendMessages": pb.AppendMessagesRequest(
        conversation_id=ONE_CONVERSATION,
        request_id="r",
        messages=[assistant("x", tool_calls=[tool_call("c")], usage={"input_tokens": 1})],
        allow_missing=True,
    ),
    "ForkConversation": pb.ForkConversationRequest(
        conversation_id=ONE_CONVERSATION, request_id="r", up_to_sequence=1
    ),
    "WatchConversation": pb.WatchConversationRequest(conversation_id=ONE_CONVERSATION),
}
NO_MESSAGES = {
    "no protobuf": b"\xff",
    "text": b'{"message": "hello"}',
    "cut off": b"\x12\x05hel",
    "a length beyond the end": b"\x12\xff\xff\xff\xff\x0f",
    "a varint without end": b"\x28" + b"\x80" * 11,
    "field number 0": b"\x00\x00",
    "an end of a group alone": b"\x0c",
}
NO_UTF8 = {
    "no UTF-8": b"\x02\xff\xfe",
    "a lone surrogate": b"\x03\xed\xa0\x80",
    "too many bytes for a character": b"\x02\xc0\x80",
    "half a character": b"\x01\xc3",
    "beyond the last character": b"\x04\xf4\x90\x80\x80",
}


async def is_malformed(service: Service, method: str, data: bytes) -> bool:
    error = await call(service, method, data)
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    kinds = {type(detail).__name__ for detail in details_of(error)}
    found = error.code().name, info_of(error).reason, "BadRequest" in kinds
    return ("INVALID_ARGUMENT", "INVALID_REQUEST", True) == found


async def test_bytes_that_are_no_such_message_are_refused(empty: Service) -> None:
    """Fails without the deserializer that is wrapped: gRPC then says UNKNOWN, and why."""
    for method, (name, data) in itertools.product(METHODS, NO_MESSAGES.items()):
        assert await is_malformed(empty, method, data), f"{method}: {name}"


async def test_text_that_is_no_utf8_is_refused(empty: Service) -> None:
    for method, (name, text) in itertools.product(METHODS, NO_UTF8.items()):
        data = (b"\x12" if method == "ListConversations" else b"\x0a") + text
        if method == "StreamChat":
            data = b"\x0a" + _varint(len(data)) + data
        assert await is_malformed(empty, method, data), f"{method}: {name}"


async def test_bytes_are_looked_at_after_the_token(empty: Service) -> None:
    error = await call(empty, "Chat", b"\xff", metadata=())

    assert isinstance(error, grpc.aio.AioRpcError)
    assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == (error.code().name, info_of(error).reason)


async def test_fields_that_nobody_knows_are_passed_over(service: Service) -> None:
    """A caller may be newer than the server."""
    unknown = b"\xfa\x3f\x03new"  # field 1023
    answer = await call(
        service, "Chat", pb.ChatRequest(message="hello").SerializeToString() + unknown
    )

    assert isinstance(answer, bytes)
    assert "HELLO" == pb.ChatResponse.FromString(answer).response


@pytest.mark.slow
async def test_message_over_two_mebibytes_is_refused_by_grpc(empty: Service) -> None:
    """Fails when gRPC's limit is not set, which is 4 MiB; and when it is set lower."""
    filler = b"\xfa\x3f" + _varint(2 * MIB - 5) + b"x" * (2 * MIB - 5)  # field 1023, passed over
    for method in METHODS:
        too_long = await call(empty, method, filler + b"\0")
        fits = await call(empty, method, filler)
        assert isinstance(too_long, grpc.aio.AioRpcError)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED == too_long.code()
        if method not in ("ListConversations", "GetUsage"):  # every field is optional
            assert isinstance(fits, grpc.aio.AioRpcError)
            assert grpc.StatusCode.INVALID_ARGUMENT == fits.code()


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


async def test_unknown_method_is_unimplemented(service: Service) -> None:
    paths = (
        "/parley.v1.ConversationService/Nothing",
        "/parley.v1.ConversationService/chat",
        "/parley.v2.ConversationService/Chat",
        "/",
        "/parley.v1.ConversationService",
        "/parley.",
    )
    for path in paths:
        for options in ({"metadata": metadata("ada")}, {}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.channel.unary_unary(path, None, None)(b"", timeout=10, **options)
            assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code(), path


# Whatever else

FUZZ = settings(
    max_examples=200,
    deadline=None,
    database=None,
    # One service for all examples: nothing of one can be seen by the next, whatever is stored.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}

methods = st.sampled_from(METHODS)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """The bytes of a good request with some of them replaced, removed or put in."""
    method = draw(methods)
    data = bytearray(VALID[method].SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "flip", "replace", "remove", "insert", "cut"]))
        if kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 8))]
        elif kind == "cut":
            del data[place:]
        elif data:
            new = draw(st.integers(0, 255))
            data[place] = new if kind == "replace" else data[place] ^ 1 << new % 8
    return method, bytes(data)


async def has_a_status_of_its_own(service: Service, method: str, data: bytes, **more: Any) -> bool:
    """Whatever came of the call: neither a defect of Parley's nor a word of gRPC's about one."""
    answer = await call(service, method, data, **more)
    if not isinstance(answer, grpc.aio.AioRpcError):
        return True
    assert answer.code() not in NEVER, f"{answer.code()}: {answer.details()}"
    return bool(info_of(answer).reason)


@FUZZ
@given(method=methods, data=st.binary(max_size=60))
async def test_no_bytes_make_an_internal_error(service: Service, method: str, data: bytes) -> None:
    """Fails without the deserializer that is wrapped."""
    assert await has_a_status_of_its_own(service, method, data)


@FUZZ
@given(mutated())
async def test_no_altered_request_makes_an_internal_error(
    service: Service, case: tuple[str, bytes]
) -> None:
    """Fails without the deserializer that is wrapped."""
    assert await has_a_status_of_its_own(service, *case)


TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80)
ODD_KEYS = (
    "authorization",
    "authorization-bin",
    "bearer",
    "grpc-previous-rpc-attempts",
    "grpc-retry-pushback-ms",
    "grpc-tags-bin",
    "grpc-trace-bin",
    "traceparent",
    "x-request-id",
    "a",
    "-",
    "_.-",
)
keys = st.one_of(
    st.sampled_from(ODD_KEYS), st.from_regex(r"x-[a-z0-9_.-]{0,12}(-bin)?", fullmatch=True)
)


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, str | bytes]:
    key = draw(keys)
    if key.endswith("-bin"):
        return key, draw(st.binary(max_size=80))
    token = a_token()
    values = [TEXTS]
    if key == "authorization":
        around = ("Bearer {}", "bearer  {}", " {}", "Basic {}", "Bearer {},{}", "Bearer {} {}", "")
        values.append(st.sampled_from([text.replace("{}", token) for text in around]))
    return key, draw(st.one_of(values))


@FUZZ
@given(method=methods, more=st.lists(entries(), max_size=6), has_token=st.booleans())
async def test_no_metadata_makes_an_internal_error(
    service: Service, method: str, more: list[tuple[str, str | bytes]], has_token: bool
) -> None:
    """Fails when a header is read as text that is bytes, or as one where there are several."""
    data = VALID[method].SerializeToString()
    sent = (*(metadata("ada") if has_token else ()), *more)

    assert await has_a_status_of_its_own(service, method, data, metadata=sent)


@pytest.mark.parametrize("path", [SERVICE + "\udcff", "/\udcff\udcfe", "/", f"{SERVICE}Chat/"])
async def test_no_name_of_a_method_ends_the_server(service: Service, path: str) -> None:
    """It is read before any token. Fails with gRPC's own loop: then nothing listens any more."""
    connection = await Connection.opened(service.port)
    stream, frames = connection.call(path, (), framed(b""))
    await connection.send(frames)

    assert b"Method not found!" in await connection.end_of(stream)
    assert "HELLO" == (await service.chat()).response
    connection.close()

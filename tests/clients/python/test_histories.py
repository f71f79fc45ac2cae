"""Histories and all that a caller has, through both clients: from an append to an erasure."""

from contextlib import aclosing
from datetime import UTC, date, datetime
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    BudgetExhausted,
    DeadlineExceeded,
    InvalidPageToken,
    NotATurnBoundary,
    Overloaded,
    ParleyError,
    StoreUnavailable,
    WorkerDrained,
)
from parley_client.retries import MAX_TRIES, MAX_TRIES_UNDER_WAY, ExportTries
from support.both_clients import Ask, Streaming, ask_async, ask_sync, through_async, through_sync
from support.cut_connections import Wire
from support.scripted_server import Code, Refusal, scripted
from support.scripted_streams import streaming
from support.services import Service, StartService, an_id

Part = pb.ExportConversationsResponse

UNAVAILABLE = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
EXPIRED = Refusal(reason="WATCH_EXPIRED", retry_s=0.01)
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)
OVERLOADED = Refusal(Code.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=0.01)
TOO_SLOW = Refusal(Code.DEADLINE_EXCEEDED, "CALLER_LOST", retry_s=0.01)
RUNNING = pb.EraseOwnerResponse(state=pb.ERASURE_STATE_RUNNING)
DONE = pb.EraseOwnerResponse(state=pb.ERASURE_STATE_DONE, conversations=3)


@pytest.fixture(params=[ask_async, ask_sync], ids=["async", "sync"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Make a call through either client: `await ask(address, method, …)`."""
    return request.param


@pytest.fixture(params=[through_async, through_sync], ids=["async", "sync"])
def through(request: pytest.FixtureRequest) -> Streaming:
    """Either client's streams."""
    return request.param


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


# What is sent, and what comes back


async def test_messages_are_appended_as_they_are_given(ask: Ask) -> None:
    added = pb.AppendMessagesResponse(first_sequence=3, last_sequence=4, replayed=True)
    answer = parts.Message(role=parts.ROLE_ASSISTANT, content="b", model="m")
    async with scripted(added) as server:
        assert added == await ask(
            server.address,
            "append_messages",
            "c",
            iter([("user", "a"), answer, ("system", "s")]),
            request_id="order-7",
            allow_missing=True,
            expected_sequence=0,
            on_busy="wait",
        )
        await ask(server.address, "append_messages", "c", [answer])
    full, short = server.asked
    assert full.request == pb.AppendMessagesRequest(
        conversation_id="c",
        request_id="order-7",
        messages=[
            parts.Message(role=parts.ROLE_USER, content="a"),
            answer,
            parts.Message(role=parts.ROLE_SYSTEM, content="s"),
        ],
        allow_missing=True,
        expected_sequence=0,
        on_busy=pb.ON_BUSY_WAIT,
    )
    assert "safe" == full.metadata["parley-retry"]
    assert short.request.request_id
    assert not short.request.HasField("expected_sequence")


@pytest.mark.parametrize("role", ["robot", "", "unspecified "], ids=repr)
async def test_a_role_that_does_not_exist_is_refused_before_it_is_sent(ask: Ask, role: str) -> None:
    with pytest.raises(ValueError, match="'user', 'assistant', 'system'"):
        await ask("127.0.0.1:1", "append_messages", "c", [(role, "a")])


async def test_a_conversation_is_forked_as_it_is_asked_for(ask: Ask) -> None:
    made = pb.ForkConversationResponse(conversation=parts.Conversation(conversation_id="d"))
    async with scripted(made) as server:
        assert made == await ask(
            server.address,
            "fork_conversation",
            "c",
            up_to_sequence=4,
            new_conversation_id="d",
            request_id="order-7",
        )
        await ask(server.address, "fork_conversation", "c")
    full, short = (asked.request for asked in server.asked)
    assert full == pb.ForkConversationRequest(
        conversation_id="c", up_to_sequence=4, new_conversation_id="d", request_id="order-7"
    )
    assert short == pb.ForkConversationRequest(conversation_id="c", request_id=short.request_id)
    assert short.request_id


@pytest.mark.parametrize(
    ("method", "arguments", "response"),
    [
        ("append_messages", ("c", [("user", "a")]), pb.AppendMessagesResponse()),
        ("fork_conversation", ("c",), pb.ForkConversationResponse()),
        ("erase_owner", ("order-7",), DONE),
        ("usage", (), pb.GetUsageResponse()),
    ],
)
async def test_calls_are_made_again_under_the_same_request_id(
    ask: Ask, method: str, arguments: tuple[Any, ...], response: Any
) -> None:
    async with scripted(UNAVAILABLE, UNAVAILABLE, response) as server:
        assert response == await ask(server.address, method, *arguments)
    assert 3 == len(server.asked)
    assert 1 == len({asked.request.SerializeToString(deterministic=True) for asked in server.asked})


async def test_an_error_shows_the_request_id_that_repeats_the_call(ask: Ask) -> None:
    async with scripted(UNAVAILABLE) as server:
        with pytest.raises(StoreUnavailable) as caught:
            await ask(server.address, "append_messages", "c", [("user", "a")])
    assert {caught.value.request_id} == {asked.request.request_id for asked in server.asked}


async def test_errors_say_what_to_do_with_numbers(ask: Ask) -> None:
    metadata = {"up_to_sequence": "3", "previous_boundary": "2"}
    async with scripted(
        Refusal(Code.FAILED_PRECONDITION, "NOT_A_TURN_BOUNDARY", metadata=metadata)
    ) as server:
        with pytest.raises(NotATurnBoundary) as caught:
            await ask(server.address, "fork_conversation", "c", up_to_sequence=3)
    assert 2 == caught.value.previous_boundary

    metadata = {"max_tokens_per_day": "100", "used_tokens": "120", "retry_after_s": "60"}
    spent = Refusal(Code.RESOURCE_EXHAUSTED, "BUDGET_EXHAUSTED", metadata=metadata, retry_s=60)
    async with scripted(spent) as server:
        with pytest.raises(BudgetExhausted) as exhausted:
            await ask(server.address, "chat", "hello")
    error = exhausted.value
    assert (100, 120, 60) == (error.max_tokens_per_day, error.used_tokens, error.retry_after_s)
    assert error.is_retryable


# Erasing


async def test_an_erasure_returns_its_receipt_at_once(ask: Ask) -> None:
    async with scripted(RUNNING, DONE) as server:
        assert RUNNING == await ask(server.address, "erase_owner", "order-7")
    assert ["order-7"] == [asked.request.request_id for asked in server.asked]


async def test_an_erasure_is_waited_for_if_asked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("async_changes", "sync_changes"):
        monkeypatch.setattr(f"parley_client.{module}.ERASURE_PAUSE_S", 0.01)
    async with scripted(RUNNING, RUNNING, DONE) as server:
        assert DONE == await ask(server.address, "erase_owner", "order-7", wait=True)
    assert ["order-7"] * 3 == [asked.request.request_id for asked in server.asked]


# Usage


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, ""),
        ("2026-11-28", "2026-11-28"),
        (date(2026, 11, 28), "2026-11-28"),
        (datetime(2026, 11, 28, 23, 59, tzinfo=UTC), "2026-11-28"),
    ],
    ids=str,
)
async def test_days_may_be_dates_and_texts(ask: Ask, given: Any, sent: str) -> None:
    used = pb.GetUsageResponse(rows=[pb.UsageRow(date="2026-11-28", turns=2)])
    async with scripted(used) as server:
        assert used == await ask(
            server.address,
            "usage",
            start_date=given,
            end_date=given,
            by_agent=True,
            by_label="team",
            labels={"of": "a=b"},
        )
    assert server.asked[0].request == pb.GetUsageRequest(
        start_date=sent, end_date=sent, by_agent=True, by_label="team", labels=["of=a=b"]
    )


@pytest.mark.parametrize("method", ["usage", "conversations_page"])
async def test_a_label_is_searched_for_under_its_own_key(ask: Ask, method: str) -> None:
    """Fails if {"a=b": "c"} is sent, as a=b=c: that is the key a."""
    with pytest.raises(ValueError, match='"=" in its key'):
        await ask("127.0.0.1:1", method, labels={"a=b": "c"})


# Exports


def a_conversation(cursor: str) -> Part:
    return Part(cursor=cursor, conversation=parts.Conversation(conversation_id="c"))


def a_message(cursor: str) -> Part:
    return Part(cursor=cursor, message=parts.Message(content=cursor))


def the_end(cursor: str) -> Part:
    return Part(cursor=cursor, done=pb.ExportDone())


async def exported(through: Streaming, address: str, **options: Any) -> list[str]:
    return [part.cursor async for part in through(address, "export", **options)]


@pytest.mark.slow
async def test_an_export_goes_on_behind_the_last_part(through: Streaming) -> None:
    losses: list[ParleyError] = []
    steps = (
        [a_conversation("1"), a_message("2"), EXPIRED],
        DRAINED,
        OVERLOADED,
        [a_message("3"), TOO_SLOW],
        [a_message("4"), the_end("5")],
    )
    async with streaming(*steps) as server:
        cursors = await exported(through, server.address, cursor="0", on_retry=losses.append)
    assert list("12345") == cursors
    assert ["0", "2", "2", "2", "3"] == [asked.request.cursor for asked in server.asked]
    assert 4 == len(losses)


async def test_an_export_that_ends_without_its_end_goes_on(through: Streaming) -> None:
    async with streaming([a_conversation("1")], [the_end("2")]) as server:
        assert ["1", "2"] == await exported(through, server.address)


async def test_a_wrong_cursor_ends_an_export(through: Streaming) -> None:
    async with streaming(Refusal(Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")) as server:
        with pytest.raises(InvalidPageToken):
            await exported(through, server.address, cursor="nonsense")
    assert 1 == len(server.asked)


@pytest.mark.parametrize(
    ("begun", "error", "tries"),
    [
        (False, WorkerDrained("drained"), MAX_TRIES),
        (False, Overloaded("full"), 1),
        (False, DeadlineExceeded("slow"), 1),
        (True, WorkerDrained("drained"), MAX_TRIES_UNDER_WAY),
        (True, Overloaded("full"), MAX_TRIES_UNDER_WAY),
        (True, DeadlineExceeded("slow"), MAX_TRIES_UNDER_WAY),
        (True, InvalidPageToken("wrong"), 1),
    ],
    ids=str,
)
def test_an_export_gives_up_after_so_many_tries(
    begun: bool, error: ParleyError, tries: int
) -> None:
    tried = ExportTries()
    if begun:
        for _ in range(3):
            tried.note_progress()
    count = 1
    while tried.pause_s(error) is not None:
        count += 1
    assert tries == count


async def test_an_export_has_each_part_once_through_cuts_and_workers(
    through: Streaming, start_service: StartService
) -> None:
    """Fails when it goes on from anything but the last cursor."""
    services = [await start_service() for _ in range(2)]
    identities = sorted(an_id() for _ in range(4))
    for identity in identities:
        said = [parts.Message(role=parts.ROLE_USER, content=str(n)) for n in range(20)]
        await services[0].append(identity, *said, allow_missing=True)
    parts_seen: list[tuple[str, int]] = []
    async with Wire(services[0].port).running() as one, Wire(services[1].port).running() as two:
        stream = through(f"ipv4:{one.address},{two.address}", "export")
        async with aclosing(stream):
            async for part in stream:
                parts_seen.append((part.conversation_id, part.message.sequence))
                if len(parts_seen) % 25 == 0:
                    one.cut()
                    two.cut()
    expected = [(identity, n) for identity in identities for n in range(21)]
    assert [*expected, ("", 0)] == parts_seen


async def test_what_is_appended_is_read_and_forked(ask: Ask, service: Service) -> None:
    identity = an_id()
    address = address_of(service)
    said = [("user", "one"), ("assistant", "two")]
    added = await ask(address, "append_messages", identity, said, allow_missing=True)
    made = await ask(address, "fork_conversation", identity, up_to_sequence=1)

    assert (1, 2) == (added.first_sequence, added.last_sequence)
    assert (identity, 1) == (
        made.conversation.forked_from.conversation_id,
        made.conversation.last_sequence,
    )
    history = await service.history(identity)
    assert ["one", "two"] == [message.content for message in history.messages]

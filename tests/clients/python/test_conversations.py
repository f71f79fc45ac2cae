"""Conversations themselves, through both clients: created, read, changed, deleted, found again."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    AsyncParleyClient,
    ConversationExists,
    ConversationNotFound,
    InvalidRequest,
    RequestIdReused,
    RevisionMismatch,
    StoreUnavailable,
)
from support.agents import Gate, ScriptedAgent
from support.both_clients import Ask, ask_async, ask_sync
from support.scripted_server import Code, Refusal, scripted
from support.scripted_streams import PushedBack
from support.services import Service, StartService, a_token, an_id

CONVERSATION = parts.Conversation(conversation_id="c", title="Hello.", revision=3)
UNAVAILABLE = Refusal(reason="STORE_UNAVAILABLE", retry_s=0.01)
NOT_FOUND = Refusal(Code.NOT_FOUND, "CONVERSATION_NOT_FOUND", metadata={"conversation_id": "c"})
TIME = Timestamp(seconds=1_790_000_000, nanos=123_456_000)


@pytest.fixture(params=[ask_async, ask_sync], ids=["async", "sync"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Make a call through either client: `await ask(address, method, …)`."""
    return request.param


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


# What is sent, and what comes back


async def test_a_conversation_is_created_with_what_is_given(ask: Ask) -> None:
    created = pb.CreateConversationResponse(conversation=CONVERSATION, replayed=True)
    async with scripted(created) as server:
        mine = uuid.uuid4()
        assert created == await ask(
            server.address,
            "create_conversation",
            conversation_id=mine,
            request_id="order-7",
            title="Hello.",
            labels={"case": "42", "team": ""},
            instructions="Be brief.",
            agent="helper",
        )
    asked = server.asked[0]
    assert asked.request == pb.CreateConversationRequest(
        conversation_id=str(mine),
        request_id="order-7",
        title="Hello.",
        labels={"case": "42", "team": ""},
        instructions="Be brief.",
        agent="helper",
    )
    assert "safe" == asked.metadata["parley-retry"]
    assert 5 < asked.time_left_s < 11


async def test_every_creation_has_a_request_id_that_its_retries_and_its_error_have(
    ask: Ask,
) -> None:
    """Fails without a request id of its own: a retry would create a second conversation."""
    async with scripted(UNAVAILABLE, pb.CreateConversationResponse()) as server:
        await ask(server.address, "create_conversation")
        await ask(server.address, "create_conversation")
    first, again, second = (asked.request.request_id for asked in server.asked)
    assert first == again != second
    assert [4, 4] == [uuid.UUID(each).version for each in (first, second)]

    taken = Refusal(Code.ALREADY_EXISTS, "CONVERSATION_EXISTS", metadata={"conversation_id": "c"})
    async with scripted(taken) as server:
        with pytest.raises(ConversationExists) as caught:
            await ask(server.address, "create_conversation", conversation_id="c")
    assert "c" == caught.value.conversation_id
    assert server.asked[0].request.request_id == caught.value.request_id
    assert not caught.value.is_retryable


async def test_a_conversation_is_read(ask: Ask) -> None:
    async with scripted(pb.GetConversationResponse(conversation=CONVERSATION)) as server:
        assert await ask(server.address, "conversation", "c") == CONVERSATION
    assert server.asked[0].request == pb.GetConversationRequest(conversation_id="c")


@pytest.mark.parametrize(
    ("given", "mask", "fields"),
    [
        ({"title": "New."}, ["title"], {"title": "New."}),
        ({"title": ""}, ["title"], {}),
        ({"labels": {"a": "1"}}, ["labels"], {"labels": {"a": "1"}}),
        ({"labels": {}}, ["labels"], {}),
        ({"instructions": "", "labels": None}, ["instructions"], {}),
        (
            {"title": "", "labels": {}, "instructions": "Be brief.", "expected_revision": 3},
            ["title", "labels", "instructions"],
            {"instructions": "Be brief.", "expected_revision": 3},
        ),
        ({"agent": "helper"}, ["agent"], {"agent": "helper"}),
        ({"agent": ""}, ["agent"], {}),
        ({}, [], {}),
    ],
)
async def test_an_update_names_what_is_given_even_if_it_is_empty(
    ask: Ask, given: dict[str, Any], mask: list[str], fields: dict[str, Any]
) -> None:
    async with scripted(pb.UpdateConversationResponse(conversation=CONVERSATION)) as server:
        updated = await ask(server.address, "update_conversation", "c", **given)
    assert updated == CONVERSATION
    expected = pb.UpdateConversationRequest(conversation_id="c", **fields)
    expected.update_mask.paths.extend(mask)
    assert expected == server.asked[0].request


async def test_an_update_of_another_revision_tells_the_current_one(ask: Ask) -> None:
    refusal = Refusal(Code.ABORTED, "REVISION_MISMATCH", metadata={"revision": "7"})
    async with scripted(refusal) as server:
        with pytest.raises(RevisionMismatch) as caught:
            await ask(server.address, "update_conversation", "c", title="New.", expected_revision=3)
    assert 7 == caught.value.revision
    assert not caught.value.is_retryable
    assert 1 == len(server.asked)


async def test_a_deletion_tells_until_when_it_can_be_undone(ask: Ask) -> None:
    deleted = pb.DeleteConversationResponse(purge_time=TIME)
    async with scripted(deleted) as server:
        assert deleted == await ask(server.address, "delete_conversation", "c")
        await ask(server.address, "delete_conversation", "c", allow_missing=True)
    assert [False, True] == [asked.request.allow_missing for asked in server.asked]
    assert {"c"} == {asked.request.conversation_id for asked in server.asked}


async def test_an_undeletion_returns_the_conversation(ask: Ask) -> None:
    async with scripted(pb.UndeleteConversationResponse(conversation=CONVERSATION)) as server:
        assert await ask(server.address, "undelete_conversation", "c") == CONVERSATION
    assert server.asked[0].request == pb.UndeleteConversationRequest(conversation_id="c")


@pytest.mark.parametrize(
    "updated_after",
    [
        TIME,
        TIME.ToDatetime(tzinfo=UTC),
        TIME.ToDatetime(tzinfo=UTC).astimezone(timezone(timedelta(hours=-7))),
    ],
    ids=["timestamp", "utc", "another zone"],
)
async def test_a_list_asks_for_labels_and_times_on_every_page(
    ask: Ask, updated_after: datetime | Timestamp
) -> None:
    """Also behind a page that has none."""
    pages = (
        pb.ListConversationsResponse(conversations=[CONVERSATION], next_page_token="more"),
        pb.ListConversationsResponse(next_page_token="still more"),
        pb.ListConversationsResponse(conversations=[CONVERSATION]),
    )
    async with scripted(*pages) as server:
        listed = await ask(
            server.address,
            "conversations",
            labels={"case": "42", "url": "a=b"},
            updated_after=updated_after,
        )
    assert [CONVERSATION] * 2 == listed
    expected = pb.ListConversationsRequest(labels=["case=42", "url=a=b"], updated_after=TIME)
    requests = [asked.request for asked in server.asked]
    assert ["", "more", "still more"] == [request.page_token for request in requests]
    for request in requests:
        request.ClearField("page_token")
    assert [expected] * 3 == requests


async def test_a_list_of_everything_asks_for_nothing_special(ask: Ask) -> None:
    async with scripted(pb.ListConversationsResponse()) as server:
        await ask(server.address, "conversations")
        await ask(server.address, "conversations_page", labels={}, updated_after=None)
    assert [pb.ListConversationsRequest()] * 2 == [asked.request for asked in server.asked]


async def test_a_time_without_a_zone_is_refused(ask: Ask) -> None:
    async with scripted(pb.ListConversationsResponse()) as server:
        with pytest.raises(ValueError, match="time zone"):
            await ask(server.address, "conversations", updated_after=datetime(2026, 1, 1))
    assert [] == server.asked


# What is tried again


@pytest.mark.parametrize(
    ("method", "args", "response"),
    [
        ("create_conversation", (), pb.CreateConversationResponse()),
        ("conversation", ("c",), pb.GetConversationResponse()),
        ("update_conversation", ("c",), pb.UpdateConversationResponse()),
        ("delete_conversation", ("c",), pb.DeleteConversationResponse(purge_time=TIME)),
        ("undelete_conversation", ("c",), pb.UndeleteConversationResponse()),
    ],
)
async def test_every_call_is_tried_again_while_the_server_is_unavailable(
    ask: Ask, method: str, args: tuple[str, ...], response: Any
) -> None:
    async with scripted(UNAVAILABLE, UNAVAILABLE, response) as server:
        result = await ask(server.address, method, *args)
    if method == "delete_conversation":
        assert response == result
    assert 3 == len(server.asked)
    assert all(server.asked[0].request == asked.request for asked in server.asked)


async def test_a_deletion_does_not_report_its_own_success_as_missing(ask: Ask) -> None:
    """The first try deletes, and its answer is lost.

    Fails when gRPC makes the tries, or when the client forgets the first one's error.
    """
    async with scripted(UNAVAILABLE, NOT_FOUND) as server:
        deleted = await ask(server.address, "delete_conversation", "c")
    assert pb.DeleteConversationResponse() == deleted
    assert 2 == len(server.asked)


async def test_a_deletion_of_nothing_is_an_error(ask: Ask) -> None:
    async with scripted(NOT_FOUND) as server:
        with pytest.raises(ConversationNotFound) as caught:
            await ask(server.address, "delete_conversation", "c")
    assert "c" == caught.value.conversation_id
    assert 1 == len(server.asked)


async def test_only_a_deletion_is_done_when_nothing_is_left(ask: Ask) -> None:
    async with scripted(UNAVAILABLE, NOT_FOUND) as server:
        with pytest.raises(ConversationNotFound):
            await ask(server.address, "update_conversation", "c", title="New.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refusal", "tries"),
    [
        (UNAVAILABLE, 5),
        (PushedBack(reason="STORE_UNAVAILABLE", retry_s=60), 1),
        (Refusal(reason="STORE_UNAVAILABLE", retry_s=60), 1),
    ],
    ids=["soon", "pushed back", "after the deadline"],
)
async def test_a_deletion_is_given_up_like_any_other_call(
    ask: Ask, refusal: Refusal, tries: int
) -> None:
    async with scripted(refusal) as server:
        with pytest.raises(StoreUnavailable):
            await ask(server.address, "delete_conversation", "c")
    assert tries == len(server.asked)


# Against a real server


async def test_a_created_conversation_is_talked_in(ask: Ask, service: Service) -> None:
    created = await ask(
        address_of(service),
        "create_conversation",
        request_id="order-7",
        title="A case",
        labels={"case": "42"},
        instructions="Be brief.",
    )
    made = created.conversation
    assert (False, 1, 0) == (created.replayed, made.revision, made.last_sequence)
    again = await ask(
        address_of(service),
        "create_conversation",
        request_id="order-7",
        title="A case",
        labels={"case": "42"},
        instructions="Be brief.",
    )
    assert (True, made.conversation_id) == (again.replayed, again.conversation.conversation_id)

    await service.chat("hello", conversation_id=made.conversation_id)
    found = await ask(address_of(service), "conversation", made.conversation_id)
    assert ("A case", "Be brief.", {"case": "42"}) == (
        found.title,
        found.instructions,
        dict(found.labels),
    )
    assert (2, 1) == (found.last_sequence, found.revision)


async def test_an_id_that_is_taken_is_refused(ask: Ask, service: Service) -> None:
    first = (await service.chat("hello")).conversation_id
    with pytest.raises(ConversationExists) as exists:
        await ask(address_of(service), "create_conversation", conversation_id=first)
    assert first == exists.value.conversation_id

    await ask(address_of(service), "create_conversation", request_id="order-7", title="one")
    with pytest.raises(RequestIdReused):
        await ask(address_of(service), "create_conversation", request_id="order-7", title="two")


async def test_a_conversation_is_changed_field_by_field(ask: Ask, service: Service) -> None:
    conversation_id = (await service.chat("hello")).conversation_id

    async def update(**given: Any) -> parts.Conversation:
        return await ask(address_of(service), "update_conversation", conversation_id, **given)

    labelled = await update(labels={"a": "1", "b": "2"}, expected_revision=1)
    assert ({"a": "1", "b": "2"}, 2) == (dict(labelled.labels), labelled.revision)
    renamed = await update(title="Greetings", instructions="Be brief.")
    assert ("Greetings", "Be brief.") == (renamed.title, renamed.instructions)
    assert {"a": "1", "b": "2"} == dict(renamed.labels)
    cleared = await update(labels={}, instructions="")
    assert ("Greetings", "", {}) == (cleared.title, cleared.instructions, dict(cleared.labels))

    with pytest.raises(RevisionMismatch) as mismatch:
        await update(title="Too late", expected_revision=1)
    assert cleared.revision == mismatch.value.revision
    with pytest.raises(InvalidRequest):
        await update()
    with pytest.raises(ConversationNotFound):
        await ask(address_of(service), "update_conversation", an_id(), title="Nothing")


async def test_conversations_are_found_by_their_labels_and_times(
    ask: Ask, service: Service
) -> None:
    made = []
    for n in range(4):
        created = await ask(
            address_of(service),
            "create_conversation",
            labels={"parity": str(n % 2), "number": str(n)},
        )
        made.append(created.conversation)

    async def listed(**given: Any) -> list[str]:
        found = await ask(address_of(service), "conversations", page_size=1, **given)
        return [each.conversation_id for each in found]

    ids = [each.conversation_id for each in made]
    assert [ids[3], ids[1]] == await listed(labels={"parity": "1"})
    assert [ids[2]] == await listed(labels={"parity": "0", "number": "2"})
    assert [] == await listed(labels={"parity": "2"})
    assert [ids[3], ids[2]] == await listed(updated_after=made[1].update_time)


async def test_a_deleted_conversation_is_gone_and_comes_back(
    ask: Ask, start_service: StartService
) -> None:
    service = await start_service(trash_days=1)
    conversation_id = (await service.chat("hello")).conversation_id

    deleted = await ask(address_of(service), "delete_conversation", conversation_id)
    assert deleted.purge_time.ToDatetime(tzinfo=UTC) > datetime.now(UTC) + timedelta(hours=23)
    for method in ("conversation", "delete_conversation"):
        with pytest.raises(ConversationNotFound):
            await ask(address_of(service), method, conversation_id)
    await ask(address_of(service), "delete_conversation", conversation_id, allow_missing=True)
    assert [] == await ask(address_of(service), "conversations")

    for _ in range(2):
        back = await ask(address_of(service), "undelete_conversation", conversation_id)
        assert ("hello", 2) == (back.title, back.last_sequence)
    assert 2 == (await service.history(conversation_id)).last_sequence


async def test_a_deletion_stops_the_open_turn(ask: Ask, start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    async with AsyncParleyClient(address_of(service), token=a_token()) as client:
        chatting = asyncio.create_task(
            client.chat("hello", conversation_id=conversation_id, allow_missing=True)
        )
        await gate.entered.wait()
        await ask(address_of(service), "delete_conversation", conversation_id)
        with pytest.raises(ConversationNotFound):
            await chatting
    gate.opened.set()

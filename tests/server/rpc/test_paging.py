"""Pages: put together, they are the whole, whatever their sizes and whatever arrives meanwhile."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator

import grpc
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from support.services import Service, an_id, info_of, refused

pytestmark = pytest.mark.writes_rows

MANY = 2500
MIB = 1024 * 1024
OLDEST_FIRST, NEWEST_FIRST = pb.ORDER_OLDEST_FIRST, pb.ORDER_NEWEST_FIRST
ORDERS = (pb.ORDER_UNSPECIFIED, OLDEST_FIRST, NEWEST_FIRST)
OWNER = Owner.of("", "ada").id


def a_conversation(database_url: str, count: int, *, size: int = 0) -> str:
    """Store a conversation of this many messages: as many turns as that takes, each answered.

    Args:
        size: bytes of each message's text; 0: as many as its number needs.
    """
    conversation_id = uuid.uuid4()
    of = {"owner": OWNER, "conversation": conversation_id, "count": count, "size": size}
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                   preview, fence)
               VALUES (%(owner)s, %(conversation)s, '', 'ada', 'm1', %(count)s, 'm', 1)""",
            of,
        )
        connection.execute(
            """INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content,
                   model, finish_reason)
               SELECT %(owner)s, %(conversation)s, n, md5(((n + 1) / 2)::text)::uuid,
                   CASE WHEN n %% 2 = 1 THEN 'USER' ELSE 'ASSISTANT' END,
                   rpad('m' || n, greatest(%(size)s, length('m' || n)), '.'),
                   CASE WHEN n %% 2 = 0 THEN 'stored' END,
                   CASE WHEN n %% 2 = 0 THEN 'STOP' END
               FROM generate_series(1, %(count)s) n""",
            of,
        )
    return str(conversation_id)


async def pages(
    service: Service, conversation_id: str, sizes: list[int] | None = None, **fields: object
) -> AsyncIterator[pb.GetHistoryResponse]:
    """Yield all pages; their sizes are taken in turn."""
    token = ""
    for size in itertools.cycle(sizes or [0]):
        page = await service.history(conversation_id, page_size=size, page_token=token, **fields)
        assert page.messages or not token, "an empty page behind a token"
        yield page
        token = page.next_page_token
        if not token:
            return


async def sequences(
    service: Service, conversation_id: str, sizes: list[int] | None = None, **fields: object
) -> list[int]:
    found: list[int] = []
    async for page in pages(service, conversation_id, sizes, **fields):
        found += [m.sequence for m in page.messages]
    return found


# Histories


@pytest.mark.parametrize("order", [OLDEST_FIRST, NEWEST_FIRST])
async def test_history_of_many_messages_is_read_whole_while_more_arrive(
    service: Service, database_url: str, order: "pb.Order.ValueType"
) -> None:
    """Fails when a page is counted from an end that moves, as with LIMIT and OFFSET."""
    conversation_id = a_conversation(database_url, MANY)
    found: list[int] = []
    lengths: list[int] = []
    async for page in pages(service, conversation_id, [170], order=order):
        found += [m.sequence for m in page.messages]
        lengths.append(page.last_sequence)
        if len(lengths) <= 10:
            await service.chat("one more", conversation_id=conversation_id)

    assert lengths == sorted(lengths), "what was there is gone"
    assert (MANY, MANY + 20) == (lengths[0], lengths[-1])
    whole = range(1, MANY + 21) if order == OLDEST_FIRST else range(MANY, 0, -1)
    assert list(whole) == found


async def test_messages_of_a_page_are_what_was_stored(service: Service, database_url: str) -> None:
    conversation_id = a_conversation(database_url, 4)
    answer = await service.chat("hello", conversation_id=conversation_id)
    messages = (await service.history(conversation_id)).messages

    assert ["m1", "m2", "m3", "m4", "hello", "HELLO"] == [m.content for m in messages]
    roles = [cpb.ROLE_USER, cpb.ROLE_ASSISTANT] * 3
    assert roles == [m.role for m in messages]
    assert ["", "stored", "", "stored", "", "scripted-1"] == [m.model for m in messages]
    reasons = [cpb.FINISH_REASON_UNSPECIFIED, cpb.FINISH_REASON_STOP] * 3
    assert reasons == [m.finish_reason for m in messages]
    assert messages[0].turn_id == messages[1].turn_id != messages[2].turn_id
    assert [answer.turn_id] * 2 == [m.turn_id for m in messages[4:]]
    assert all(m.HasField("create_time") and not m.HasField("usage") for m in messages)


@pytest.mark.parametrize("order", ORDERS)
async def test_page_size_has_a_default_and_a_greatest(
    service: Service, database_url: str, order: "pb.Order.ValueType"
) -> None:
    conversation_id = a_conversation(database_url, MANY)
    for asked, given_size in ((0, 50), (1, 1), (50, 50), (999, 999), (1000, 1000), (5000, 1000)):
        page = await service.history(conversation_id, page_size=asked, order=order)
        assert given_size == len(page.messages)
        assert page.next_page_token
        assert MANY == page.last_sequence
    sizes = [5000, 2**31 - 1]
    backwards = order == NEWEST_FIRST
    whole = range(MANY, 0, -1) if backwards else range(1, MANY + 1)
    assert list(whole) == await sequences(service, conversation_id, sizes, order=order)


async def test_last_page_says_that_it_is_the_last(service: Service, database_url: str) -> None:
    """Fails when a page that is full is taken for one that has another behind it."""
    conversation_id = a_conversation(database_url, 10)
    for order, size in itertools.product(ORDERS, (1, 2, 5, 9, 10, 11)):
        lengths = [
            len(p.messages) async for p in pages(service, conversation_id, [size], order=order)
        ]
        assert -(-10 // size) == len(lengths), (order, size)
        assert 10 == sum(lengths)


async def test_after_sequence_is_a_lower_bound_in_both_orders(
    service: Service, database_url: str
) -> None:
    conversation_id = a_conversation(database_url, 100)
    for after in (0, 1, 50, 98, 99, 100, 101, 2**62):
        upwards = list(range(after + 1, 101))
        found = await sequences(service, conversation_id, [7], after_sequence=after)
        assert upwards == found
        found = await sequences(
            service, conversation_id, [7], after_sequence=after, order=NEWEST_FIRST
        )
        assert upwards[::-1] == found


async def test_message_that_arrives_after_the_last_page_is_found_by_after_sequence(
    service: Service, database_url: str
) -> None:
    conversation_id = a_conversation(database_url, 100)
    page = await service.history(conversation_id, after_sequence=100)
    assert ([], 100, "") == (list(page.messages), page.last_sequence, page.next_page_token)
    await service.chat("hello", conversation_id=conversation_id)

    found = (await service.history(conversation_id, after_sequence=100)).messages
    assert [(101, "hello"), (102, "HELLO")] == [(m.sequence, m.content) for m in found]


async def test_min_sequence_is_refused_until_it_is_reached(
    service: Service, database_url: str
) -> None:
    conversation_id = a_conversation(database_url, 10)
    for reached in (0, 1, 10):
        assert 10 == len((await service.history(conversation_id, min_sequence=reached)).messages)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.history(conversation_id, min_sequence=11)

    info = info_of(caught.value)
    assert ("FAILED_PRECONDITION", "SEQUENCE_NOT_REACHED") == (
        caught.value.code().name,
        info.reason,
    )
    assert {"min_sequence": "11", "last_sequence": "10"} == dict(info.metadata)
    await service.chat("hello", conversation_id=conversation_id)
    found = await sequences(service, conversation_id, [5], min_sequence=11, order=NEWEST_FIRST)
    assert list(range(12, 0, -1)) == found


async def test_absent_conversation_comes_before_min_sequence(service: Service) -> None:
    call = service.history(an_id(), min_sequence=11)

    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(call)


@pytest.mark.parametrize("order", [OLDEST_FIRST, NEWEST_FIRST])
async def test_page_ends_at_a_mebibyte_of_messages(
    service: Service, database_url: str, order: "pb.Order.ValueType"
) -> None:
    """Fails when pages are bounded by number alone: a thousand messages are 30 MiB, and gRPC's
    limit, 4 MiB, then makes the history unreadable.
    """
    size = 32 * 1024
    conversation_id = a_conversation(database_url, 200, size=size)
    found = []
    async for page in pages(service, conversation_id, [1000], order=order):
        texts = [len(m.content.encode()) for m in page.messages]
        assert {size} == set(texts)
        assert MIB >= sum(texts)
        assert page.ByteSize() < MIB * 5 // 4
        found.append(len(texts))

    assert [MIB // size] * 6 == found[:6], "a page that is not full"
    assert 200 == sum(found)


async def test_message_larger_than_a_page_has_a_page_of_its_own(
    service: Service, database_url: str
) -> None:
    """Fails when a page may be left empty by the limit: then nobody ever comes behind it."""
    conversation_id = a_conversation(database_url, 3, size=600 * 1024)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE message SET tool_calls = %s WHERE sequence = 2",
            [
                '[{"id":"c","name":"n","arguments":"{}","result":"'
                + "x" * MIB
                + '","is_error":false,"step":1}]'
            ],
        )
    for order in (OLDEST_FIRST, NEWEST_FIRST):
        found = [
            [m.sequence for m in p.messages]
            async for p in pages(service, conversation_id, [1000], order=order)
        ]
        assert [[1], [2], [3]] == (found if order == OLDEST_FIRST else found[::-1])


@pytest.fixture
def stored_whole(database_url: str) -> tuple[str, int]:
    """A conversation whose messages are of very different sizes."""
    count = 120
    conversation_id = a_conversation(database_url, count)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE message SET content = repeat('x', (sequence * 7919 % 11 * 20000)::int)"
            " WHERE sequence % 3 = 0"
        )
    return conversation_id, count


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    sizes=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    order=st.sampled_from(ORDERS),
    after=st.integers(0, 130),
)
async def test_pages_together_are_the_whole(
    service: Service,
    stored_whole: tuple[str, int],
    sizes: list[int],
    order: "pb.Order.ValueType",
    after: int,
) -> None:
    """Fails when the message that a page ends with comes again, or the next one is left out."""
    conversation_id, count = stored_whole
    upwards = list(range(after + 1, count + 1))
    expected = upwards[::-1] if order == NEWEST_FIRST else upwards
    found: list[int] = []
    sizes_due = itertools.cycle(sizes)
    async for page in pages(service, conversation_id, sizes, order=order, after_sequence=after):
        assert next(sizes_due) >= len(page.messages)
        assert count == page.last_sequence
        assert len(page.messages) <= 1 or MIB >= sum(len(m.content) for m in page.messages)
        found += [m.sequence for m in page.messages]

    assert expected == found


# Conversations


async def listed(service: Service, sizes: list[int], user: str = "ada") -> list[str]:
    found: list[str] = []
    token = ""
    for size in itertools.cycle(sizes):
        page = await service.conversations(page_size=size, page_token=token, user=user)
        assert page.conversations or not token, "an empty page behind a token"
        assert size >= len(page.conversations)
        found += [c.conversation_id for c in page.conversations]
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError


async def test_conversations_come_most_recently_active_first(service: Service) -> None:
    made = [(await service.chat(f"c{n}")).conversation_id for n in range(5)]
    assert made[::-1] == await listed(service, [2])
    await service.chat("again", conversation_id=made[1])

    assert [made[n] for n in (1, 4, 3, 2, 0)] == await listed(service, [2])
    shown = (await service.conversations(page_size=1)).conversations[0]
    assert ("c1", "AGAIN", 4, "") == (
        shown.title,
        shown.preview,
        shown.last_sequence,
        shown.open_turn_id,
    )
    assert shown.create_time.ToDatetime() < shown.update_time.ToDatetime()


async def test_conversation_is_listed_by_when_its_turn_began(service: Service) -> None:
    """Fails when a finish moves it: then every turn would be written to the index twice."""
    made = [(await service.chat(f"c{n}")).conversation_id for n in range(3)]
    times = {c.conversation_id: c for c in (await service.conversations()).conversations}
    history = (await service.history(made[0])).messages

    assert history[0].create_time == times[made[0]].update_time
    assert history[0].create_time == times[made[0]].create_time


async def test_title_and_preview_are_cut_at_whole_characters(service: Service) -> None:
    await service.chat("ä𝄞" * 150)
    shown = (await service.conversations()).conversations[0]

    assert ("ä𝄞" * 40, "Ä𝄞" * 100) == (shown.title, shown.preview)


async def test_conversation_that_becomes_active_while_pages_are_read_appears_once(
    service: Service,
) -> None:
    """Fails when pages are counted: what moves to the front pushes another over to the next one."""
    made = [(await service.chat(f"c{n}")).conversation_id for n in range(12)]
    found: list[str] = []
    moved: list[str] = []
    token = ""
    while True:
        page = await service.conversations(page_size=3, page_token=token)
        found += [c.conversation_id for c in page.conversations]
        token = page.next_page_token
        if not token:
            break
        # One that was shown, one that was not yet, and a new one.
        moved.append(next(c for c in made if c not in found + moved))
        await service.chat("again", conversation_id=found[0])
        await service.chat("again", conversation_id=moved[-1])
        await service.chat("a new one")

    assert 3 == len(moved)
    assert [c for c in made[::-1] if c not in moved] == found
    assert set(made) <= set(await listed(service, [100]))


async def test_conversations_active_at_one_moment_are_all_listed(
    service: Service, database_url: str
) -> None:
    """Fails when the place in the list is a time alone: those that share it are left out."""
    for _ in range(30):
        a_conversation(database_url, 1)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE conversation SET update_time = now()")
    whole = await listed(service, [1000])

    assert 30 == len(set(whole))
    for sizes in ([1], [7], [30], [29, 1], [3, 1, 11]):
        assert whole == await listed(service, sizes)


async def test_list_page_size_has_a_default_and_a_greatest(
    service: Service, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence,
                   preview, fence, update_time)
               SELECT %s, gen_random_uuid(), '', 'ada', 'c' || n, 1, 'm', 1,
                   now() - n * interval '1 second'
               FROM generate_series(1, %s) n""",
            [OWNER, 1200],
        )
    for asked, given_size in ((0, 50), (1, 1), (1000, 1000), (5000, 1000)):
        page = await service.conversations(page_size=asked)
        assert given_size == len(page.conversations)
        assert page.next_page_token
    assert 1200 == len(set(await listed(service, [5000])))
    titles = [c.title for c in (await service.conversations(page_size=1000)).conversations]
    assert [f"c{n}" for n in range(1, 1001)] == titles


async def test_owner_without_conversations_has_an_empty_list(service: Service) -> None:
    await service.chat(user="bob")
    page = await service.conversations(user="ada")

    assert ([], "") == (list(page.conversations), page.next_page_token)


async def test_pages_read_at_once_do_not_disturb_each_other(
    service: Service, database_url: str
) -> None:
    conversation_id = a_conversation(database_url, 300)
    found = await asyncio.gather(
        *(sequences(service, conversation_id, [size]) for size in range(20, 40))
    )

    assert [list(range(1, 301))] * 20 == found

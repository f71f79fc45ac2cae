"""Lists by labels that many conversations have: each page is bounded, and none misses any."""

import itertools
import json
from collections.abc import Iterable, Sequence

import psycopg
import pytest

from parley_server.core.model import Owner
from parley_server.storage.statements.listing import LOOKED_AT
from support.databases import as_superuser
from support.services import Service, an_id

pytestmark = pytest.mark.writes_rows

_LABELLED = """
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    create_time, update_time, labels)
SELECT %(owner)s, gen_random_uuid(), '', %(user)s, place, 0, '', 0,
    now() - place * interval '1 s', now() - place * interval '1 s', labels::text
FROM unnest(%(labels)s::json[]) WITH ORDINALITY AS each(labels, place);
INSERT INTO conversation_label (owner_id, conversation_id, key, value, update_time)
SELECT owner_id, id, key, value, update_time FROM conversation, json_each_text(labels::json)
WHERE owner_id = %(owner)s;
"""
A, B = '{"a": "1"}', '{"b": "1"}'
BOTH, NEITHER = '{"a": "1", "b": "1"}', '{"c": "1"}'


def store(database_url: str, user: str, labels: Sequence[str]) -> None:
    """Store a conversation with each of these labels, the newest first; titles are places."""
    what = {"owner": Owner.of("", user).id, "user": user, "labels": list(labels)}
    with psycopg.connect(
        as_superuser(database_url), cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute(_LABELLED, what)


async def pages(
    service: Service, user: str, labels: Iterable[str], size: int = 50
) -> list[list[int]]:
    """Return the places of the conversations on each page."""
    found: list[list[int]] = []
    token = ""
    while token or not found:
        page = await service.conversations(
            user=user, labels=labels, page_size=size, page_token=token
        )
        found.append([int(c.title) for c in page.conversations])
        token = page.next_page_token
        assert len(found) < 200, "pages without end"
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "places",
    [
        [],
        [1],
        [LOOKED_AT - 1],
        [LOOKED_AT],
        [LOOKED_AT + 1],
        [LOOKED_AT - 1, LOOKED_AT, LOOKED_AT + 1],
        [2 * LOOKED_AT - 1, 2 * LOOKED_AT, 2 * LOOKED_AT + 1],
        [2 * LOOKED_AT + 50],
        range(LOOKED_AT - 60, LOOKED_AT + 60),
    ],
    ids=str,
)
async def test_labels_that_are_seldom_together_are_found_on_bounded_pages(
    service: Service, database_url: str, places: Sequence[int]
) -> None:
    """Fails when the conversation with which a page stops looking is not told, or told twice."""
    user = an_id()
    count = 2 * LOOKED_AT + 50
    labels = [BOTH if place in places else A for place in range(1, count + 1)]
    store(database_url, user, [*labels, *[B] * (LOOKED_AT + 1)])

    for size in (1, 50, 1000):
        found = await pages(service, user, ["a=1", "b=1"], size)

        assert list(places) == [place for page in found for place in page]
        assert all(len(page) <= size for page in found)
        # A page for every match at most, and for every conversation that is looked at last.
        assert len(found) <= -(-len(places) // size) + 3


@pytest.mark.slow
@pytest.mark.parametrize("count", [LOOKED_AT - 1, LOOKED_AT, LOOKED_AT + 1])
async def test_label_of_few_conversations_is_listed_on_one_page(
    service: Service, database_url: str, count: int
) -> None:
    """Whether few of them match or all do; beyond the bound, the next page is empty or the rest."""
    user = an_id()
    labels = [BOTH, *[A] * (count - 1), *[B] * (3 * LOOKED_AT)]
    store(database_url, user, labels)

    found = await pages(service, user, ["b=1", "a=1"])
    alone = await pages(service, user, ["a=1"], size=1000)

    assert [1] == [place for page in found for place in page]
    assert list(range(1, count + 1)) == [place for page in alone for place in page]
    if count < LOOKED_AT:
        assert [[1]] == found
        assert 1 == len(alone)


@pytest.mark.slow
async def test_many_labels_are_looked_for_in_one_place(service: Service, database_url: str) -> None:
    """All but the last label match everywhere."""
    user = an_id()
    many = {f"k{n}": "v" for n in range(15)}
    whole = many | {"last": "one=more"}
    store(database_url, user, [json.dumps(many)] * LOOKED_AT + [json.dumps(whole)])

    async def found(wanted: dict[str, str]) -> list[int]:
        labels = [f"{key}={value}" for key, value in wanted.items()]
        return list(itertools.chain(*await pages(service, user, labels, size=1000)))

    assert [LOOKED_AT + 1] == await found(whole)
    assert [] == await found(many | {"last": "one=mor"})
    assert list(range(1, LOOKED_AT + 2)) == await found(many)

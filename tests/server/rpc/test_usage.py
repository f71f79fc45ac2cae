"""GetUsage: sums by day, agent and label, of all attempts; and what it refuses."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.rpc import error_details_pb2

import parley_server.core.owners.usage as usage_reads
from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentTimeout
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Spent, Text, Usage
from support.agents import ScriptedAgent
from support.databases import as_superuser
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    details_of,
    gathered,
    refused,
)
from support.two_owners import ADA

TODAY = "today"
ONE_TURN = Usage(input_tokens=100, output_tokens=20, cached_input_tokens=5, model_requests=2)


async def counted(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Answer, or fail if asked to, and say what it took."""
    yield Spent(Usage(60, 10, 5, 1))
    if run.window.messages[-1].content == "fail":
        raise AgentTimeout
    yield Text("fine")
    yield Finish(FinishReason.STOP, "scripted-1", ONE_TURN)


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service(ScriptedAgent(counted))


def row(date: str = TODAY, **counts: Any) -> tuple[Any, ...]:
    """Return what `seen` returns of a row."""
    usage = counts.pop("usage", ONE_TURN)
    names = ("turns", "attempts", "failed_attempts")
    label, agent = counts.pop("label_value", ""), counts.pop("agent", "")
    if date == TODAY:
        date = datetime.now(UTC).date().isoformat()
    return (date, agent, label, tuple(usage), *(counts.get(name, 0) for name in names))


def seen(rows: list[pb.UsageRow]) -> list[tuple[Any, ...]]:
    return [
        (r.date, r.agent, r.label_value, numbers(r.usage), r.turns, r.attempts, r.failed_attempts)
        for r in rows
    ]


def numbers(usage: cpb.Usage) -> tuple[int, ...]:
    return tuple(getattr(usage, name) for name in Usage._fields)


def store(database_url: str, day: str, *, agent: str = "", labels: str | None = None) -> None:
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(
            """INSERT INTO usage_day (owner_id, day, agent, labels_digest, slot, labels,
                input_tokens, output_tokens, cached_input_tokens, model_requests, turns, attempts)
            VALUES (%s, %s, %s, md5(coalesce(%s, ''))::uuid, 3, %s, 100, 20, 5, 2, 1, 1)""",
            (ADA, day, agent, labels, labels),
        )


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_usage_is_nothing_before_the_first_attempt(service: Service) -> None:
    assert [] == await service.usage()


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_usage_sums_up_attempts_of_one_owner_only(service: Service) -> None:
    conversation_id = (await service.chat()).conversation_id
    await service.chat(conversation_id=conversation_id)
    await gathered(service.chat("fail"))
    await service.chat(user="bob")

    used = Usage(260, 50, 15, 5)
    assert [row(turns=2, attempts=3, failed_attempts=1, usage=used)] == seen(await service.usage())
    assert [row(turns=1, attempts=1)] == seen(await service.usage(user="bob"))


async def test_replays_use_nothing(service: Service) -> None:
    for _ in range(3):
        await service.chat(request_id="r")

    assert [row(turns=1, attempts=1)] == seen(await service.usage())


async def test_usage_of_deleted_conversations_stays(service: Service) -> None:
    conversation_id = (await service.chat()).conversation_id
    await service.delete(conversation_id)

    assert [row(turns=1, attempts=1)] == seen(await service.usage())


async def test_usage_by_label_tells_its_values_apart(service: Service) -> None:
    for labels in ({"team": "blue"}, {"team": "red", "plan": "pro"}, {"plan": "pro"}, {}):
        created = await service.create(labels=labels)
        await service.chat(conversation_id=created.conversation.conversation_id)

    one = {"turns": 1, "attempts": 1}
    nothing = {"turns": 2, "attempts": 2, "usage": Usage(200, 40, 10, 4)}
    everything = {"turns": 4, "attempts": 4, "usage": Usage(400, 80, 20, 8)}
    assert [row(**everything)] == seen(await service.usage())
    assert [
        row(label_value="", **nothing),
        row(label_value="blue", **one),
        row(label_value="red", **one),
    ] == seen(await service.usage(by_label="team"))
    assert [row(**nothing)] == seen(await service.usage(labels=["plan=pro"]))
    assert [row(**one)] == seen(await service.usage(labels=["plan=pro", "team=red"]))
    assert [] == seen(await service.usage(labels=["team=green"]))
    assert [row(label_value="red", **one), row(label_value="", **one)] == sorted(
        seen(await service.usage(by_label="team", labels=["plan=pro"])), reverse=True
    )


async def test_usage_keeps_the_labels_that_a_conversation_had_then(service: Service) -> None:
    created = await service.create(labels={"team": "blue"})
    conversation_id = created.conversation.conversation_id
    await service.chat(conversation_id=conversation_id)
    await service.update(conversation_id, labels={"team": "red"})
    await service.chat(conversation_id=conversation_id)

    found = await service.usage(by_label="team")
    assert ["blue", "red"] == [r.label_value for r in found]


@WITH_AND_WITHOUT_ROW_SECURITY
@pytest.mark.writes_rows
async def test_usage_by_day_and_agent_is_in_order(service: Service, database_url: str) -> None:
    for day, agent in (("2026-03-02", "b"), ("2026-03-01", "b"), ("2026-03-02", "a")):
        store(database_url, day, agent=agent)
    days = {"start_date": "2026-03-01", "end_date": "2026-03-02"}

    one = {"turns": 1, "attempts": 1}
    two = {"turns": 2, "attempts": 2, "usage": Usage(200, 40, 10, 4)}
    assert [row("2026-03-01", **one), row("2026-03-02", **two)] == seen(await service.usage(**days))
    assert [
        row("2026-03-01", agent="b", **one),
        row("2026-03-02", agent="a", **one),
        row("2026-03-02", agent="b", **one),
    ] == seen(await service.usage(by_agent=True, **days))


@pytest.mark.writes_rows
async def test_usage_includes_both_ends(service: Service, database_url: str) -> None:
    for day in range(1, 6):
        store(database_url, f"2026-03-0{day}")

    found = await service.usage(start_date="2026-03-02", end_date="2026-03-04")
    assert ["2026-03-02", "2026-03-03", "2026-03-04"] == [r.date for r in found]


@pytest.mark.writes_rows
async def test_usage_is_of_the_last_31_days_by_default(service: Service, database_url: str) -> None:
    today = datetime.now(UTC).date()
    for age in (0, 30, 31):
        store(database_url, (today - timedelta(days=age)).isoformat())
    store(database_url, "2025-01-31")
    store(database_url, "2025-01-01")
    store(database_url, "2024-12-31")

    ages = [today - timedelta(days=age) for age in (30, 0)]
    assert [day.isoformat() for day in ages] == [r.date for r in await service.usage()]
    until = await service.usage(end_date="2025-01-31")
    assert ["2025-01-01", "2025-01-31"] == [r.date for r in until]
    since = await service.usage(start_date=(today - timedelta(days=31)).isoformat())
    assert 3 == len(since)


@pytest.mark.writes_rows
async def test_more_rows_than_fit_are_refused(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_reads, "MAX_ROWS", 2)
    for agent in ("a", "b"):
        store(database_url, "2026-03-01", agent=agent)
    days = {"start_date": "2026-03-01", "end_date": "2026-03-02", "by_agent": True}
    assert 2 == len(await service.usage(**days))

    store(database_url, "2026-03-02")
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(service.usage(**days))


BAD = [
    ({"start_date": "2026-2-1"}, {"start_date": "NOT_A_DATE"}),
    ({"start_date": "20260201"}, {"start_date": "NOT_A_DATE"}),
    ({"start_date": "2026-W05-1"}, {"start_date": "NOT_A_DATE"}),
    ({"end_date": "2026-02-30"}, {"end_date": "NOT_A_DATE"}),
    ({"end_date": "0000-01-01"}, {"end_date": "NOT_A_DATE"}),
    ({"end_date": "2026-02-01\n"}, {"end_date": "NOT_A_DATE"}),
    ({"end_date": "\uff12026-02-01"}, {"end_date": "NOT_A_DATE"}),
    ({"end_date": "2026-02-01T00:00"}, {"end_date": "NOT_A_DATE"}),
    ({"start_date": "2026-02-02", "end_date": "2026-02-01"}, {"start_date": "AFTER_END_DATE"}),
    ({"start_date": "9999-12-31"}, {"start_date": "AFTER_END_DATE"}),
    ({"start_date": "2024-01-01", "end_date": "2025-01-02"}, {"start_date": "TOO_EARLY"}),
    ({"start_date": "2001-01-01"}, {"start_date": "TOO_EARLY"}),
    ({"by_label": "Team"}, {"by_label": "BAD_KEY"}),
    ({"by_label": "x" * 64}, {"by_label": "BAD_KEY"}),
    ({"labels": ["team"]}, {"labels": "NOT_A_LABEL"}),
    ({"labels": ["team=a", "team=b"]}, {"labels": "CONTRADICTION"}),
    ({"labels": [f"k{n}=" for n in range(17)]}, {"labels": "TOO_MANY"}),
    (
        {"start_date": "x", "end_date": "y", "by_label": "-", "labels": ["=z"]},
        {
            "start_date": "NOT_A_DATE",
            "end_date": "NOT_A_DATE",
            "by_label": "BAD_KEY",
            "labels": "BAD_KEY",
        },
    ),
]


async def test_bad_fields_are_named(service: Service) -> None:
    for fields, expected in BAD:
        [error] = await gathered(service.usage(**fields))
        [request] = [d for d in details_of(error) if isinstance(d, error_details_pb2.BadRequest)]

        assert expected == {v.field: v.reason for v in request.field_violations}, fields
        assert all(v.description for v in request.field_violations)


async def test_longest_span_is_answered(service: Service) -> None:
    assert [] == await service.usage(start_date="2024-01-01", end_date="2025-01-01")
    assert [] == await service.usage(end_date="0001-01-01")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)  # as a caller's clock has it
    assert [] == await service.usage(start_date=tomorrow.isoformat())
    assert [] == await service.usage(start_date="9999-01-01", end_date="9999-12-31")

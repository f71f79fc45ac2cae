"""ExplainTurn: what a turn's agent was shown, told and has done, for turns in every state."""

import asyncio
import hashlib
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import error_reason_pb2
from parley_server.core.attempts.window import CUT, NO_TEXT
from parley_server.core.errors import AgentRefused
from parley_server.core.model import Finish, FinishReason, Text, WindowMessage
from parley_server.core.turns.explaining import BEYOND
from parley_server.storage.explaining import PostgresExplains
from support.agents import Gate, ScriptedAgent, Speaker, say_back
from support.databases import as_superuser
from support.messages import assistant, system, user
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    refused,
)
from support.waiting import AskingAgent, result

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY

GONE = ("NOT_FOUND", "TURN_NOT_FOUND")
Omitted = tuple[int, int, str]


def shown(found: pb.ExplainTurnResponse) -> list[str]:
    return [message.preview for message in found.messages]


def omitted(found: pb.ExplainTurnResponse) -> list[Omitted]:
    return [
        (
            run.first_sequence,
            run.last_sequence,
            pb.OmissionReason.Name(run.reason).removeprefix("OMISSION_REASON_"),
        )
        for run in found.omitted
    ]


def ends(found: pb.ExplainTurnResponse) -> list[tuple[int, bool, bool, str]]:
    """Return of each attempt: its number, whether its beginning and its end are known, and why."""
    return [
        (
            each.number,
            each.HasField("start_time"),
            each.HasField("end_time"),
            error_reason_pb2.ErrorReason.Name(each.error_reason).removeprefix("ERROR_REASON_"),
        )
        for each in found.attempts
    ]


def named(answered: pb.ChatResponse) -> dict[str, str]:
    return {"conversation_id": answered.conversation_id, "turn_id": answered.turn_id}


async def moody(run: Any) -> Any:
    """Say back, but for what is to be withdrawn, to have no words, or to fail."""
    match run.window.messages[-1].content:
        case "fail":
            raise AgentRefused
        case "filter":
            yield Finish(FinishReason.CONTENT_FILTER, "scripted-1")
        case "blank":
            yield Text(" ")
            yield Finish(FinishReason.STOP, "scripted-1")
        case _:
            async for event in say_back(run):
                yield event


async def a_moody_conversation(service: Service) -> str:
    """Return a conversation of a turn that failed, one withdrawn, a blank one, and two others."""
    made = await service.create(instructions="Be brief.")
    conversation_id = made.conversation.conversation_id
    for message in ("one", "fail", "filter", "blank", "two"):
        try:
            await service.chat(message, conversation_id=conversation_id)
        except Exception:
            assert "fail" == message
    return conversation_id


async def test_messages_are_told_as_shown_and_each_other_one_with_its_reason(
    start_service: StartService,
) -> None:
    agent = ScriptedAgent(moody)
    service = await start_service(agent)
    conversation_id = await a_moody_conversation(service)

    answered = await service.chat("three", conversation_id=conversation_id)
    found = await service.explain(**named(answered))

    assert [m.content for m in agent.runs[-1].window.messages] == shown(found)
    assert ["one", "ONE", "blank", NO_TEXT, "two", "TWO", "three"] == shown(found)
    assert [1, 2, 6, 7, 8, 9, 10] == [message.sequence for message in found.messages]
    assert [(3, 3, "UNANSWERED"), (4, 5, "WITHDRAWN")] == omitted(found)
    assert answered.context == found.context
    assert found.turn == await service.turn(**named(answered))
    digest = hashlib.sha256(b"Be brief.").hexdigest()
    assert (digest, True) == (found.instructions_digest, found.instructions_unchanged)
    assert [(1, True, True, "UNSPECIFIED")] == ends(found)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 40])
async def test_window_of_any_size_is_told_as_it_was_shown(
    start_service: StartService, size: int
) -> None:
    """Fails when what is told is put together by other rules than what is shown."""
    agent = ScriptedAgent(moody)
    service = await start_service(agent, context_messages=size)
    conversation_id = await a_moody_conversation(service)

    answered = await service.chat("three", conversation_id=conversation_id)
    found = await service.explain(**named(answered))

    assert [m.content for m in agent.runs[-1].window.messages] == shown(found)
    told = [m.sequence for m in found.messages]
    left_out = {s: why for first, last, why in omitted(found) for s in range(first, last + 1)}
    assert list(range(1, 11)) == sorted([*told, *left_out])
    reasons = {3: "UNANSWERED", 4: "WITHDRAWN", 5: "WITHDRAWN"}
    assert {s: reasons.get(s, "OLDER") for s in left_out if s > told[0]} == {
        s: why for s, why in left_out.items() if s > told[0]
    }
    if told[0] > 6:
        assert (1, told[0] - 1, "OLDER") == omitted(found)[0]
    if told[0] == 6:  # right before it none is older, and what is before those is
        assert [(1, 2, "OLDER"), (3, 3, "UNANSWERED"), (4, 5, "WITHDRAWN")] == omitted(found)


async def test_deployment_with_other_windows_tells_what_was_shown(
    start_service: StartService,
) -> None:
    small = await start_service(context_messages=3)
    chats = [await small.chat("m0")]
    for number in range(1, 4):
        chats.append(await small.chat(f"m{number}", conversation_id=chats[0].conversation_id))
    large = await start_service(context_messages=40)

    found = await large.explain(**named(chats[-1]))

    assert ["m2", "M2", "m3"] == shown(found)
    assert (5, 3, 4) == (
        found.context.first_sequence,
        found.context.message_count,
        found.context.omitted_count,
    )
    assert [(1, 4, "OLDER")] == omitted(found)


async def test_long_message_is_told_as_shortened(start_service: StartService) -> None:
    service = await start_service(context_tokens=256)
    answered = await service.chat("x" * 5000)

    (own,) = (await service.explain(**named(answered))).messages

    assert own.is_shortened
    assert own.content_bytes <= 1024
    assert "x" * 200 == own.preview
    assert len(CUT) > 0


async def test_previews_are_bounded_and_calls_named(start_service: StartService) -> None:
    agent = AskingAgent(rounds=(("weather", "weather"),))
    service = await start_service(agent)
    waiting = await service.chat("é" * 500)
    resumed = await service.resume(*(result(c) for c in waiting.pending_calls), **named(waiting))
    await service.chat("and now?", conversation_id=waiting.conversation_id)

    found = await service.explain(**named(resumed))
    (own,) = found.messages
    assert ("é" * 200, 1000, False) == (own.preview, own.content_bytes, own.is_shortened)
    assert resumed.tool_calls == found.tool_calls
    assert [(1, True, True, "UNSPECIFIED"), (2, True, True, "UNSPECIFIED")] == ends(found)
    next_one = await service.turn(**named(resumed))
    later = await service.explain(
        conversation_id=waiting.conversation_id,
        turn_id=(await service.history(waiting.conversation_id)).messages[-1].turn_id,
    )
    assert next_one.turn_id != later.turn.turn_id
    assert [[], ["weather", "weather"], []] == [list(m.tools) for m in later.messages]


async def test_waiting_turn_tells_what_it_would_be_shown_and_has_done(
    start_service: StartService,
) -> None:
    service = await start_service(AskingAgent(rounds=(("weather",), ("weather",))))
    waiting = await service.chat("hello")
    first = await service.explain(**named(waiting))
    assert ["hello"] == shown(first)
    assert ([], False) == (list(first.tool_calls), first.HasField("context"))
    assert cpb.TURN_STATE_WAITING == first.turn.state
    assert [(1, True, True, "UNSPECIFIED")] == ends(first)

    again = await service.resume(result(waiting.pending_calls[0]), **named(waiting))
    found = await service.explain(**named(again))

    assert ["sunny"] == [call.result for call in found.tool_calls]
    assert [(1, True, True, "UNSPECIFIED"), (2, True, True, "UNSPECIFIED")] == ends(found)
    assert found.instructions_unchanged


async def test_turn_that_has_not_begun_has_been_shown_nothing(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    running = (await service.start("first", request_id="r1")).turn
    await gate.entered.wait()
    queued = (
        await service.start("second", conversation_id=running.conversation_id, request_id="r2")
    ).turn

    found = await service.explain(request_id="r2")
    assert queued.turn_id == found.turn.turn_id
    assert ([], [], [], False) == (
        shown(found),
        omitted(found),
        ends(found),
        found.HasField("context"),
    )
    open_one = await service.explain(request_id="r1")
    assert ["first"] == shown(open_one)
    assert [(1, True, False, "UNSPECIFIED")] == ends(open_one)
    gate.opened.set()
    await service.until_turn(queued, "COMPLETED")
    assert ["first", "FIRST", "second"] == shown(await service.explain(request_id="r2"))


async def test_attempts_are_told_with_how_each_has_ended(start_service: StartService) -> None:
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker), max_attempts=50)
    for _ in range(24):
        speaker.say(AgentRefused())
        assert "AGENT_REFUSED" == (await refused(service.chat(request_id="r")))[1]
    failed = await service.explain(request_id="r")
    assert [(n, True, True, "AGENT_REFUSED") for n in range(5, 25)] == ends(failed)

    speaker.say("hello", None)
    await service.chat(request_id="r")

    found = await service.explain(request_id="r")
    expected = [(n, True, True, "AGENT_REFUSED") for n in range(6, 25)]
    assert [*expected, (25, True, True, "UNSPECIFIED")] == ends(found)
    for before, after in zip(found.attempts, found.attempts[1:], strict=False):
        assert before.start_time.ToDatetime() <= before.end_time.ToDatetime()
        assert before.end_time.ToDatetime() <= after.start_time.ToDatetime()


@pytest.mark.writes_rows
async def test_attempt_of_a_dead_worker_has_no_end(
    start_service: StartService, database_url: str
) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), lease_s=60)
    call = asyncio.ensure_future(service.chat(request_id="r"))
    await gate.entered.wait()
    gate.entered.clear()
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now() - interval '1 s'")
    assert [(1, True, False, "TURN_ABANDONED")] == ends(await service.explain(request_id="r"))

    again = asyncio.ensure_future(service.chat(request_id="r"))
    await gate.entered.wait()
    gate.opened.set()
    await again
    found = await service.explain(request_id="r")
    assert [(1, True, False, "TURN_ABANDONED"), (2, True, True, "UNSPECIFIED")] == ends(found)
    await asyncio.gather(call, return_exceptions=True)


@pytest.mark.writes_rows
async def test_turn_of_an_earlier_release_is_told_without_what_is_unknown(
    service: Service, database_url: str
) -> None:
    answered = await service.chat("hello")
    with psycopg.connect(as_superuser(database_url), autocommit=True) as connection:
        connection.execute(
            "UPDATE turn SET attempt = 3, attempts = NULL, attempt_time = NULL,"
            " instructions_digest = NULL"
        )

    found = await service.explain(**named(answered))

    assert ("", False) == (found.instructions_digest, found.instructions_unchanged)
    unknown = [(1, False, False, "UNSPECIFIED"), (2, False, False, "UNSPECIFIED")]
    assert [*unknown, (3, False, True, "UNSPECIFIED")] == ends(found)


async def test_other_instructions_since_are_noticed(service: Service) -> None:
    made = await service.create(instructions="Be brief.")
    answered = await service.chat(conversation_id=made.conversation.conversation_id)
    before = await service.explain(**named(answered))

    await service.update(answered.conversation_id, instructions="Be long.")

    after = await service.explain(**named(answered))
    assert (True, False) == (before.instructions_unchanged, after.instructions_unchanged)
    assert before.instructions_digest == after.instructions_digest


async def test_appended_messages_are_told_and_a_fork_has_its_own_turns(service: Service) -> None:
    first = await service.chat("one")
    await service.append(first.conversation_id, user("note"), system("rule"), assistant("noted"))
    second = await service.chat("two", conversation_id=first.conversation_id)
    assert ["one", "ONE", "note", "rule", "noted", "two"] == shown(
        await service.explain(**named(second))
    )
    fork = (await service.fork(first.conversation_id)).conversation.conversation_id
    in_fork = await service.chat("three", conversation_id=fork)

    expected = ["one", "ONE", "note", "rule", "noted", "two", "TWO", "three"]
    assert expected == shown(await service.explain(**named(in_fork)))
    copied = service.explain(conversation_id=fork, turn_id=second.turn_id)
    assert GONE == await refused(copied)


async def test_turns_of_others_and_deleted_ones_are_not_there(service: Service) -> None:
    answered = await service.chat("hello", request_id="r")
    assert GONE == await refused(service.explain(user="bob", **named(answered)))
    assert GONE == await refused(service.explain(user="bob", request_id="r"))
    assert GONE == await refused(
        service.explain(conversation_id=answered.conversation_id, turn_id=an_id())
    )
    await service.delete(answered.conversation_id)

    assert GONE == await refused(service.explain(**named(answered)))
    assert GONE == await refused(service.explain(request_id="r"))


async def test_window_of_a_thousand_messages_is_bounded(start_service: StartService) -> None:
    service = await start_service(context_messages=1000, context_tokens=4_000_000)
    conversation_id = (await service.create()).conversation.conversation_id
    for _ in range(10):
        pages = [user("q" * 1000) if n % 2 else assistant("a" * 1000) for n in range(100)]
        await service.append(conversation_id, *pages)
    answered = await service.chat("now", conversation_id=conversation_id)

    found = await service.explain(**named(answered))

    assert 1000 == len(found.messages) == found.context.message_count
    assert [(1, 1, "OLDER")] == omitted(found)
    assert {1000} == {m.content_bytes for m in found.messages[:-1]}
    assert found.ByteSize() < 300_000


async def test_explaining_reads_little_beyond_what_was_shown(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where messages that failed turns stand between have as many older ones read whole."""
    read: list[int] = []
    original = PostgresExplains.shown

    async def counted(*args: Any) -> list[WindowMessage]:
        found = await original(*args)
        read.append(len(found))
        return found

    monkeypatch.setattr(PostgresExplains, "shown", counted)
    service = await start_service(ScriptedAgent(moody), context_messages=3)
    conversation_id = an_id()
    pairs = [made for n in range(40) for made in (user(f"{n}"), assistant(f"{n}!"))]
    await service.append(conversation_id, *pairs, allow_missing=True)
    for _ in range(15):
        await refused(service.chat("fail", conversation_id=conversation_id))
    answered = await service.chat("now", conversation_id=conversation_id)

    found = await service.explain(**named(answered))

    assert [(1, 78, "OLDER"), (81, 95, "UNANSWERED")] == omitted(found)
    assert ["39", "39!", "now"] == shown(found)
    assert [2 + BEYOND] == read

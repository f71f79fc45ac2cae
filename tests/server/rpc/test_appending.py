"""AppendMessages: what is stored, once, what is refused, and what becomes of an open turn."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from support.agents import Gate, ScriptedAgent
from support.messages import a_time, assistant, system, tool_call, user
from support.services import (
    GONE,
    Service,
    StartService,
    an_id,
    details_of,
    gathered,
    info_of,
    reason_of,
    refused,
)
from support.waiting import WEATHER, AskingAgent

STOP, CUT = conversation_pb2.FINISH_REASON_STOP, conversation_pb2.FINISH_REASON_LENGTH


async def contents(service: Service, conversation_id: str) -> list[str]:
    return [m.content for m in (await service.history(conversation_id)).messages]


async def test_messages_are_stored_one_behind_the_other(service: Service) -> None:
    first = await service.chat("Hi")
    before = await service.conversation(first.conversation_id)

    added = await service.append(
        first.conversation_id, user("One"), assistant("Two"), system("Three")
    )

    assert (3, 5, False) == (added.first_sequence, added.last_sequence, added.replayed)
    assert ["Hi", "HI", "One", "Two", "Three"] == await contents(service, first.conversation_id)
    found = await service.conversation(first.conversation_id)
    assert (5, "Three", "Hi") == (found.last_sequence, found.preview, found.title)
    assert before.update_time.ToDatetime() < found.update_time.ToDatetime()


async def test_message_comes_back_as_it_was_given(service: Service) -> None:
    """Every field: fails when times are cut, or a turn id is replaced."""
    conversation_id = an_id()
    usage = conversation_pb2.Usage(input_tokens=1, output_tokens=2, model_requests=1)
    calls = [
        tool_call("c", arguments='{"a": 1}', result="é", is_error=True, step=2),
        tool_call("d", arguments="", step=2),  # a model may have written none
    ]
    given = [
        user("One", turn_id=an_id(), create_time=a_time(1)),
        assistant(
            "\n",
            tool_calls=calls,
            turn_id=an_id(),
            create_time=a_time(2025, microsecond=1),
            usage=usage,
            model="m",
            finish_reason=STOP,
        ),
        system("Three", create_time=a_time(2024)),
    ]

    await service.append(conversation_id, *given, allow_missing=True)

    found = list((await service.history(conversation_id)).messages)
    for sequence, message in enumerate(given, start=1):
        message.sequence = sequence
    assert given == found


async def test_agent_is_shown_what_was_appended(start_service: StartService) -> None:
    agent = ScriptedAgent()
    service = await start_service(agent)
    conversation_id, turn_id = an_id(), an_id()
    answered = [user("Q", turn_id=turn_id), assistant("A", turn_id=turn_id)]
    lost = user("Lost", turn_id=an_id())
    await service.append(
        conversation_id, *answered, lost, user("U"), system("S"), allow_missing=True
    )

    await service.chat("Now", conversation_id=conversation_id)

    assert ["Q", "A", "U", "S", "Now"] == [m.content for m in agent.runs[0].window.messages]
    assert 1 == agent.runs[0].window.context.omitted_count


async def test_the_same_request_adds_once(service: Service) -> None:
    """Of several at the same moment, too."""
    conversation_id = an_id()
    ask: dict[str, Any] = {"request_id": "r", "allow_missing": True}
    answers = await gathered(
        *(service.append(conversation_id, user("One"), **ask) for _ in range(4))
    )

    assert [(1, 1)] * 4 == [(a.first_sequence, a.last_sequence) for a in answers]
    assert [False, True, True, True] == sorted(a.replayed for a in answers)
    assert ["One"] == await contents(service, conversation_id)
    again = service.append(conversation_id, user("Two"), **ask)
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(again)
    elsewhere = service.append(an_id(), user("One"), **ask)
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(elsewhere)


async def test_request_is_replayed_while_a_turn_is_open(start_service: StartService) -> None:
    """Fails when busy is checked before the request id."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    await service.append(conversation_id, user("One"), request_id="r", allow_missing=True)
    turn = asyncio.create_task(service.chat(conversation_id=conversation_id))
    await gate.entered.wait()

    assert (await service.append(conversation_id, user("One"), request_id="r")).replayed
    busy = service.append(conversation_id, user("Two"), request_id="s")
    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(busy)
    gate.opened.set()
    await turn


async def test_append_waits_in_line_for_the_open_turn(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    turn = asyncio.create_task(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    waiting = asyncio.create_task(
        service.append(conversation_id, user("Two"), on_busy=pb.ON_BUSY_WAIT)
    )
    while not service.worker.turns.queued:
        await asyncio.sleep(0.01)
    gate.opened.set()

    assert 3 == (await waiting).first_sequence
    await turn


async def test_append_that_waits_in_vain_stores_nothing(start_service: StartService) -> None:
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    conversation_id = an_id()
    turn = asyncio.create_task(service.chat(conversation_id=conversation_id, allow_missing=True))
    await gate.entered.wait()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.append(conversation_id, user("Two"), on_busy=pb.ON_BUSY_WAIT, timeout=1.5)
    assert caught.value.code().name in ("ABORTED", "DEADLINE_EXCEEDED")
    gate.opened.set()
    await turn
    assert ["hello", "HELLO"] == await contents(service, conversation_id)


async def test_append_that_waits_for_as_long_as_a_call_may_take_is_told_of_the_turn(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when it is told AGENT_TIMEOUT: it has no agent."""
    service = await start_service(AskingAgent(), chat_timeout_s=1.5)
    waits = await service.chat(tools=[WEATHER])
    # Without a look in the last second, in which it would be told DEADLINE_TOO_SHORT.
    monkeypatch.setattr(service.worker.bells, "next_look_s", lambda: 60.0)
    call = service.append(waits.conversation_id, user("Two"), on_busy=pb.ON_BUSY_WAIT)
    assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(call)


async def test_turn_whose_lease_has_passed_is_ended_and_writes_nothing_more(
    start_service: StartService,
) -> None:
    """Fails when the fence does not rise: the late answer comes behind what was appended."""
    gate = Gate()
    dying = await start_service(ScriptedAgent(gate), lease_s=1, notify="poll")
    conversation_id = an_id()

    async def no_renewal(*_: Any) -> bool:
        return False

    dying.worker.store.renew = no_renewal  # type: ignore[method-assign, assignment]
    turn = asyncio.create_task(
        dying.chat("Hi", conversation_id=conversation_id, allow_missing=True, request_id="r")
    )
    await gate.entered.wait()
    other = await start_service(notify="poll")
    added = await other.append(
        conversation_id, user("Two"), on_busy=pb.ON_BUSY_WAIT, request_id="a"
    )
    gate.opened.set()
    with pytest.raises(grpc.aio.AioRpcError):
        await turn

    assert (2, 2) == (added.first_sequence, added.last_sequence)
    found = await other.turn(request_id="r")
    assert "TURN_ABANDONED" == reason_of(found)
    again = other.chat("Hi", conversation_id=conversation_id, request_id="r")
    assert ("FAILED_PRECONDITION", "TURN_SUPERSEDED") == await refused(again)
    assert ["Hi", "Two"] == await contents(other, conversation_id)


async def test_expected_sequence_is_asked_of_the_conversation(service: Service) -> None:
    conversation_id = an_id()
    new: dict[str, Any] = {"allow_missing": True}
    wrong = service.append(conversation_id, user("One"), expected_sequence=1, **new)
    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(wrong)
    missing = service.conversation(conversation_id)
    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(missing)

    await service.append(conversation_id, user("One"), expected_sequence=0, **new)
    await service.append(conversation_id, user("Two"), expected_sequence=1)
    late = service.append(conversation_id, user("Three"), expected_sequence=1)
    assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(late)


async def test_nothing_is_appended_to_what_is_not_there(service: Service) -> None:
    assert GONE == await refused(service.append(an_id(), user("One")))
    conversation_id = an_id()
    ask: dict[str, Any] = {"request_id": "r", "allow_missing": True}
    await service.append(conversation_id, user("One"), **ask)
    assert GONE == await refused(service.append(conversation_id, user("x"), user="bob"))
    await service.delete(conversation_id)
    assert GONE == await refused(service.append(conversation_id, user("One"), **ask))
    new = service.append(conversation_id, user("One"), allow_missing=True)
    assert GONE == await refused(new)


async def test_watches_deliver_what_is_appended(service: Service) -> None:
    conversation_id = an_id()
    await service.append(conversation_id, user("One"), user("Two"), allow_missing=True)
    watch = service.watch(conversation_id)

    async def next_message() -> str:
        while not (update := await watch.read()).HasField("message"):
            pass
        return str(update.message.content)

    assert ["One", "Two"] == [await next_message() for _ in range(2)]
    await service.append(conversation_id, system("Three"))
    assert "Three" == await next_message()
    await service.chat("Four", conversation_id=conversation_id)
    assert ["Four", "FOUR"] == [await next_message() for _ in range(2)]
    watch.cancel()


async def test_labels_move_along(service: Service) -> None:
    """Fails when the rows for lists keep the old time; the check at the end looks for it."""
    made = await service.create(labels={"team": "blue"})
    await service.create(labels={"team": "blue"})
    await service.append(made.conversation.conversation_id, user("One"))

    listed = await service.conversations(labels=["team=blue"])
    assert made.conversation.conversation_id == listed.conversations[0].conversation_id
    assert "One" == listed.conversations[0].title


# What is refused

SOON = Timestamp(seconds=2**33)
CALLS = [tool_call(str(number)) for number in range(65)]
REFUSED: dict[str, tuple[list[conversation_pb2.Message], set[tuple[str, str]]]] = {
    "no message": ([], {("messages", "REQUIRED")}),
    "too many": ([user("x")] * 1001, {("messages", "TOO_MANY")}),
    "too much": ([user("x" * 200_000)] * 6, {("messages", "TOO_LONG")}),
    "no role": (
        [user("x"), conversation_pb2.Message(content="x")],
        {("messages[1].role", "REQUIRED")},
    ),
    "a strange role": (
        [conversation_pb2.Message(role=9, content="x")],  # type: ignore[arg-type]
        {("messages[0].role", "UNKNOWN_VALUE")},
    ),
    "no content": ([user("")], {("messages[0].content", "REQUIRED")}),
    "blank": ([system(" \n")], {("messages[0].content", "BLANK")}),
    "NUL": (
        [user("\0"), assistant("\0")],
        {("messages[0].content", "HAS_NUL"), ("messages[1].content", "HAS_NUL")},
    ),
    "too long": (
        [user("x" * 262_145), assistant("x" * 262_145)],
        {("messages[0].content", "TOO_LONG"), ("messages[1].content", "TOO_LONG")},
    ),
    "an answer of nothing": ([assistant("")], {("messages[0].content", "REQUIRED")}),
    "a user's call": (
        [user("x", tool_calls=CALLS[:1])],
        {("messages[0].tool_calls", "NOT_AN_ANSWER")},
    ),
    "a user's model": (
        [system("x", model="m", usage={}, finish_reason=STOP)],
        {
            (f"messages[0].{field}", "NOT_AN_ANSWER")
            for field in ("model", "usage", "finish_reason")
        },
    ),
    "a strange finish reason": (
        [assistant("x", finish_reason=99)],
        {("messages[0].finish_reason", "UNKNOWN_VALUE")},
    ),
    "too many calls": ([assistant("", tool_calls=CALLS)], {("messages[0].tool_calls", "TOO_MANY")}),
    "too many calls in all": (
        [assistant("", tool_calls=CALLS[:64])] * 157,
        {("messages", "TOO_MANY")},
    ),
    "calls alike": (
        [assistant("", tool_calls=CALLS[:1] * 2)],
        {("messages[0].tool_calls[1].id", "NOT_UNIQUE")},
    ),
    "an empty call": (
        [assistant("", tool_calls=[conversation_pb2.ToolCall()])],
        {
            ("messages[0].tool_calls[0].id", "REQUIRED"),
            ("messages[0].tool_calls[0].name", "REQUIRED"),
            ("messages[0].tool_calls[0].step", "TOO_LOW"),
        },
    ),
    "a long call": (
        [assistant("", tool_calls=[tool_call("c", arguments="x" * 32_769, result="x" * 65_537)])],
        {
            ("messages[0].tool_calls[0].arguments", "TOO_LONG"),
            ("messages[0].tool_calls[0].result", "TOO_LONG"),
        },
    ),
    "negative counts": (
        [assistant("x", usage={"input_tokens": -1, "model_requests": -1})],
        {
            ("messages[0].usage.input_tokens", "NEGATIVE"),
            ("messages[0].usage.model_requests", "NEGATIVE"),
        },
    ),
    "no time": (
        [user("x", create_time=Timestamp(seconds=-(2**40)))],
        {("messages[0].create_time", "NOT_A_TIME")},
    ),
    "a time to come": (
        [user("x"), user("y", create_time=SOON)],
        {("messages[1].create_time", "IN_THE_FUTURE")},
    ),
    "no turn id": ([user("x", turn_id="x")], {("messages[0].turn_id", "NOT_A_UUID")}),
    "the nil turn id": (
        [user("x", turn_id="00000000-0000-0000-0000-000000000000")],
        {("messages[0].turn_id", "NIL")},
    ),
}


async def violations(call: Any) -> set[tuple[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert "INVALID_REQUEST" == info_of(caught.value).reason
    (bad,) = (d for d in details_of(caught.value) if isinstance(d, error_details_pb2.BadRequest))
    return {(violation.field, violation.reason) for violation in bad.field_violations}


async def test_wrong_messages_are_named_and_nothing_is_stored(service: Service) -> None:
    for case, (messages, expected) in REFUSED.items():
        conversation_id = an_id()
        call = service.append(conversation_id, *messages, allow_missing=True)
        assert expected == await violations(call), case
    assert [] == list((await service.conversations()).conversations)


async def test_very_many_wrong_messages_are_told_as_far_as_there_is_room(service: Service) -> None:
    """Fails when all are: a client takes no error of that size, and says RESOURCE_EXHAUSTED."""
    late = user("x", create_time=SOON)
    for message, field in ((conversation_pb2.Message(content="x"), "role"), (late, "create_time")):
        call = service.append(an_id(), *[message] * 1000, allow_missing=True)
        found = await violations(call)
        assert {f"messages[{n}].{field}" for n in range(len(found))} == {name for name, _ in found}
        assert 10 < len(found) < 100
        with pytest.raises(grpc.aio.AioRpcError, match=f"; and {1000 - len(found)} more"):
            await service.append(an_id(), *[message] * 1000, allow_missing=True)


async def test_what_is_at_the_limits_is_stored(service: Service) -> None:
    """Fails when gRPC's own limit has no room for what Parley allows."""
    conversation_id = an_id()
    many = await service.append(conversation_id, *[user("x" * 1048)] * 1000, allow_missing=True)
    assert 1000 == many.last_sequence
    calls = [tool_call("c", arguments="x" * 32_768, result="x" * 65_536), *CALLS[:63]]
    await service.append(conversation_id, assistant("x" * 262_144, tool_calls=calls))
    await service.append(conversation_id, user("x" * 262_144))


async def test_turn_of_the_conversation_is_no_turn_id(service: Service) -> None:
    """Of another conversation it is: histories are copied.

    Fails when the check of the data, at the end, takes such an answer for that conversation's.
    """
    first = await service.chat()
    call = service.append(first.conversation_id, user("x"), user("y", turn_id=first.turn_id))
    assert {("messages[1].turn_id", "OF_A_TURN")} == await violations(call)
    copied = [user("x"), user("y", turn_id=first.turn_id), assistant("z", turn_id=first.turn_id)]
    await service.append(an_id(), *copied, allow_missing=True)

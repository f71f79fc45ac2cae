"""ForkConversation: what is copied, up to where, and that both go their own ways."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from support.agents import Gate, ScriptedAgent, say_back
from support.databases import as_superuser
from support.messages import assistant, system, user
from support.services import Service, StartService, an_id, gathered, info_of, refused


async def three_turns(service: Service, **fields: Any) -> str:
    made = await service.create(**fields)
    conversation_id = made.conversation.conversation_id
    for message in ("One", "Two", "Three"):
        await service.chat(message, conversation_id=conversation_id)
    return conversation_id


async def test_fork_has_everything_that_its_source_has(service: Service) -> None:
    fields = {"title": "T", "labels": {"team": "blue"}, "instructions": "Be brief."}
    source_id = await three_turns(service, **fields)

    forked = await service.fork(source_id)

    fork, source = forked.conversation, await service.conversation(source_id)
    assert (source_id, 6) == (fork.forked_from.conversation_id, fork.forked_from.last_sequence)
    assert not source.HasField("forked_from")
    same = ("title", "labels", "instructions", "last_sequence", "preview")
    assert [getattr(source, field) for field in same] == [getattr(fork, field) for field in same]
    assert (1, False) == (fork.revision, forked.replayed)
    copied = await service.history(fork.conversation_id)
    assert (await service.history(source_id)).messages == copied.messages
    listed = await service.conversations(labels=["team=blue"])
    assert fork.forked_from == listed.conversations[0].forked_from
    assert fork == await service.conversation(fork.conversation_id)


async def test_what_no_rpc_shows_is_copied_too(service: Service, database_url: str) -> None:
    """Fails without the opaque state: a provider would refuse the fork's next turn."""
    source_id = await three_turns(service)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE message SET opaque_state = 'state' WHERE sequence = 2")
        fork = (await service.fork(source_id)).conversation
        found = connection.execute(
            "SELECT opaque_state FROM message WHERE conversation_id = %s AND sequence = 2",
            [fork.conversation_id],
        ).fetchone()
    assert (b"state",) == found


async def test_fork_and_source_change_apart(service: Service) -> None:
    source_id = await three_turns(service, labels={"team": "blue"})
    fork_id = (await service.fork(source_id, up_to_sequence=2)).conversation.conversation_id

    await service.chat("Other", conversation_id=fork_id)
    assert 4 == (await service.conversation(fork_id)).last_sequence
    assert 6 == (await service.conversation(source_id)).last_sequence
    await service.delete(source_id)
    history = await service.history(fork_id)
    assert ["One", "ONE", "Other", "OTHER"] == [m.content for m in history.messages]
    assert 1 == len((await service.conversations(labels=["team=blue"])).conversations)


@pytest.mark.parametrize(
    ("up_to", "expected"),
    [
        (1, "0"),
        (2, None),
        (3, "2"),
        (4, None),
        (5, None),
        (6, None),
        (7, None),
        (8, "7"),
        (9, None),
    ],
)
async def test_fork_ends_where_a_turn_does(
    service: Service, up_to: int, expected: str | None
) -> None:
    """Two turns, three appended messages, an appended turn; and the same in a fork of it."""
    turn_id = an_id()
    first = await service.chat("One")
    await service.chat("Two", conversation_id=first.conversation_id)
    appended = [user("5"), assistant("6"), system("7")]
    turn = [user("8", turn_id=turn_id), assistant("9", turn_id=turn_id)]
    await service.append(first.conversation_id, *appended, *turn)
    whole = await service.fork(first.conversation_id)

    for source_id in (first.conversation_id, whole.conversation.conversation_id):
        call = service.fork(source_id, up_to_sequence=up_to)
        if expected is None:
            assert up_to == (await call).conversation.last_sequence
        else:
            with pytest.raises(Exception, match="midst of a turn") as caught:
                await call
            info = info_of(caught.value)  # type: ignore[arg-type]
            assert "NOT_A_TURN_BOUNDARY" == info.reason
            assert {"up_to_sequence": str(up_to), "previous_boundary": expected} == info.metadata
            # Up to 0 means up to the end.
            assert "up to 0" not in str(caught.value)


async def test_turn_that_is_open_is_not_copied(start_service: StartService) -> None:
    gate = Gate()
    scripts: Iterator[Any] = iter([say_back, gate])
    service = await start_service(ScriptedAgent(lambda run: next(scripts)(run)))
    first = await service.chat("One")
    turn = asyncio.create_task(service.chat("Two", conversation_id=first.conversation_id))
    await gate.entered.wait()

    forked = await service.fork(first.conversation_id)
    assert (2, "") == (forked.conversation.last_sequence, forked.conversation.open_turn_id)
    open_one = service.fork(first.conversation_id, up_to_sequence=3)
    assert ("FAILED_PRECONDITION", "NOT_A_TURN_BOUNDARY") == await refused(open_one)
    gate.opened.set()
    assert "TWO" == (await turn).response


async def test_started_turn_that_is_to_be_run_again_is_not_copied(
    start_service: StartService, database_url: str
) -> None:
    """Fails when a lease that has passed ends every turn: the question is copied then."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate), lease_s=60)
    started = (await service.start("One")).turn
    await gate.entered.wait()
    with psycopg.connect(as_superuser(database_url)) as connection:
        connection.execute("UPDATE conversation SET lease_expires_at = now() - interval '1 second'")

    forked = await service.fork(started.conversation_id)

    assert 0 == forked.conversation.last_sequence
    whole = service.fork(started.conversation_id, up_to_sequence=1)
    assert ("FAILED_PRECONDITION", "NOT_A_TURN_BOUNDARY") == await refused(whole)
    gate.opened.set()
    await service.until_turn(started, "COMPLETED", "FAILED")


async def test_failed_turn_is_copied_and_not_shown(start_service: StartService) -> None:
    """The window of a fork leaves out what that of its source does."""

    async def fail(_: Any) -> Any:
        raise RuntimeError
        yield

    scripts: list[Any] = [fail]
    agent = ScriptedAgent(lambda run: (scripts.pop() if scripts else say_back)(run))
    service = await start_service(agent)
    source_id = an_id()
    await gathered(service.chat("Lost", conversation_id=source_id, allow_missing=True))
    fork = (await service.fork(source_id)).conversation

    assert 1 == fork.last_sequence
    for conversation_id in (source_id, fork.conversation_id):
        await service.chat("Now", conversation_id=conversation_id)
        assert ["Now"] == [m.content for m in agent.runs[-1].window.messages]


async def test_the_same_request_forks_once(service: Service) -> None:
    source_id = await three_turns(service)
    forks = await gathered(*(service.fork(source_id, request_id="r") for _ in range(3)))

    assert 1 == len({f.conversation.conversation_id for f in forks})
    assert [False, True, True] == sorted(f.replayed for f in forks)
    reused = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert reused == await refused(service.fork(source_id, request_id="r", up_to_sequence=2))
    assert reused == await refused(service.create(request_id="r"))
    await service.delete(source_id)
    assert (await service.fork(source_id, request_id="r")).replayed
    await service.delete(forks[0].conversation.conversation_id)
    gone = service.fork(source_id, request_id="r")
    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(gone)


async def test_what_cannot_be_forked_is_refused(service: Service) -> None:
    source_id = await three_turns(service)
    for ask in ({}, {"request_id": "r"}):
        missing = service.fork(an_id(), **ask)
        assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(missing)
        theirs = service.fork(source_id, user="bob", **ask)
        assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(theirs)
        taken = service.fork(source_id, new_conversation_id=source_id, **ask)
        assert ("ALREADY_EXISTS", "CONVERSATION_EXISTS") == await refused(taken)
        too_far = service.fork(source_id, up_to_sequence=7, **ask)
        assert ("FAILED_PRECONDITION", "SEQUENCE_NOT_REACHED") == await refused(too_far)
    negative = service.fork(source_id, up_to_sequence=-1)
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(negative)


async def test_empty_conversation_is_forked(service: Service) -> None:
    made = await service.create(instructions="Be brief.")
    fork = (await service.fork(made.conversation.conversation_id)).conversation

    assert (0, "Be brief.", True) == (
        fork.last_sequence,
        fork.instructions,
        fork.HasField("forked_from"),
    )


async def test_ten_thousand_messages_are_forked(service: Service) -> None:
    """It takes 0.06 s, and is promised to take less than 1 s; here it may be beside other tests."""
    conversation_id = an_id()
    for _ in range(10):
        await service.append(conversation_id, *[user("x" * 200)] * 1000, allow_missing=True)
    began = asyncio.get_running_loop().time()
    fork = (await service.fork(conversation_id)).conversation
    took_s = asyncio.get_running_loop().time() - began

    assert 10_000 == fork.last_sequence
    assert took_s < 5

"""Windows as they are read, against the rule in its plainest form, over conversations at random."""

import random
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple

import psycopg
import pytest

from parley_server.core.model import NO_TURN, Role, ToolCall, WindowMessage
from parley_server.storage import rows
from parley_server.storage.driver.connection import Parameters, Row, Statement
from parley_server.storage.driver.connections import Connections
from parley_server.storage.statements import sql
from parley_server.storage.windows import read_window

OWNER = uuid.UUID(int=7)
LENGTH = 60
CALLS = rows.tool_calls_text((ToolCall("1", "look", "{}", "", is_error=False, step=1),))

pytestmark = pytest.mark.writes_rows


class Said(NamedTuple):
    """A message as it is stored."""

    sequence: int
    turn_id: uuid.UUID
    role: str
    content: str
    tool_calls: str | None = None
    state: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.content.encode()) + len(self.tool_calls or "")


def conversation(chance: random.Random, unanswered: float) -> list[Said]:
    """Return messages at random: turns with and without an answer, and appended ones."""
    said: list[Said] = []

    def say(turn_id: uuid.UUID, role: Role) -> None:
        content = "ä" * chance.choice([0, 1, 5, 20, 20, 20, 200])
        calls, state = None, None
        if role is Role.ASSISTANT:
            calls = CALLS if chance.random() < 0.2 else None
            state = bytes(chance.choice([0, 10, 100])) if chance.random() < 0.5 else None
        said.append(Said(len(said) + 1, turn_id, role.value, content, calls, state))

    while len(said) < LENGTH:
        if chance.random() < 0.2:
            say(NO_TURN, chance.choice([Role.USER, Role.ASSISTANT, Role.SYSTEM]))
            continue
        turn_id = uuid.uuid4()
        say(turn_id, Role.USER)
        if chance.random() >= unanswered:
            say(turn_id, Role.ASSISTANT)
    return said


def by_the_rule(
    said: list[Said], before: int, max_messages: int, max_bytes: int
) -> tuple[list[Said], int]:
    """Return what is to be shown, newest first, and how many unanswered messages are between."""
    shown: list[Said] = []
    skipped = total = 0
    behind: Said | None = None
    for message in said[: before - 1][::-1][: max_messages * 10]:
        is_answered = behind is not None and (
            (behind.role, behind.turn_id) == ("ASSISTANT", message.turn_id)
        )
        behind = message
        if message.role == "USER" and message.turn_id != NO_TURN and not is_answered:
            skipped += 1
            continue
        total += message.size
        if total > max_bytes or len(shown) == max_messages:
            break
        shown.append(message)
    return shown, skipped


def states_by_the_rule(shown: list[Said], max_bytes: int) -> list[bytes | None]:
    total = 0
    states = []
    for number, message in enumerate(shown, 1):
        total += len(message.state or b"")
        fits = sum(m.size for m in shown[:number]) + total <= max_bytes
        states.append(message.state if fits else None)
    return states


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[Connections]:
    made = Connections(database_url, name="tests", size=1, lease_s=30, is_prepared=True)
    await made.open()
    yield made
    await made.close()


class Stored:
    """A conversation in the database, whose windows are read."""

    def __init__(self, connections: Connections, url: str, said: list[Said]) -> None:
        self._connections = connections
        self.id = uuid.uuid4()
        self.asked: list[tuple[Statement, Parameters]] = []
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content,"
                " tool_calls, opaque_state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [(OWNER, self.id, *message) for message in said],
            )

    async def window(self, before: int, max_messages: int, max_bytes: int) -> list[WindowMessage]:
        self.asked.clear()
        return await read_window(
            self._read, before=before, max_messages=max_messages, max_bytes=max_bytes
        )

    async def _read(self, statement: Statement, part: Parameters) -> list[Row]:
        self.asked.append((statement, part))
        keys = {"owner": OWNER, "conversation": self.id}
        return await self._connections.repeat(statement, {**keys, **part})


@pytest.mark.parametrize("unanswered", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("seed", range(3))
async def test_any_window_is_what_the_rule_says(
    connections: Connections, database_url: str, seed: int, unanswered: float
) -> None:
    """Fails when an unanswered message takes room, hides what is behind it, or is shown."""
    chance = random.Random(seed)
    said = conversation(chance, unanswered)
    stored = Stored(connections, database_url, said)
    for _ in range(60):
        before = chance.randint(1, len(said) + 1)
        max_messages = chance.choice([0, 1, 2, 5, 20, 99])
        max_bytes = chance.choice([0, 1, 50, 300, 1000, 100_000])
        found = await stored.window(before, max_messages, max_bytes)

        shown, skipped = by_the_rule(said, before, max_messages, max_bytes)
        assert [m.sequence for m in shown] == [m.sequence for m in found]
        assert [m.content for m in shown] == [m.content for m in found]
        assert [bool(m.tool_calls) for m in shown] == [bool(m.tool_calls) for m in found]
        states = states_by_the_rule(shown, max_bytes)
        with_states = [m.opaque_state for m in found]
        if skipped:  # what is skipped may stand in the way of a state, and of older ones then
            fit = len(states)
            while with_states[:fit] != states[:fit]:
                fit -= 1
            assert [None] * (len(states) - fit) == with_states[fit:]
        else:
            assert states == with_states
            assert 1 == len(stored.asked)


def turns(first: int, last: int) -> list[Said]:
    """Return answered turns, from the sequence of the first message to that of the last answer."""
    return [
        Said(n, uuid.UUID(int=(n + 1) // 2), ["ASSISTANT", "USER"][n % 2], "x")
        for n in range(first, last + 1)
    ]


async def test_unanswered_message_that_is_larger_than_the_window_hides_nothing(
    connections: Connections, database_url: str
) -> None:
    said = [*turns(1, 40), Said(41, uuid.UUID(int=99), "USER", "y" * 1000)]
    stored = Stored(connections, database_url, said)
    found = await stored.window(before=42, max_messages=20, max_bytes=500)

    assert list(range(40, 20, -1)) == [m.sequence for m in found]


async def test_what_stands_before_an_unanswered_message_alone_is_read_again(
    connections: Connections, database_url: str
) -> None:
    """Fails when one failed turn costs the window a second time, as long as it is in reach."""
    said = [*turns(1, 40), Said(41, uuid.UUID(int=99), "USER", "failed"), *turns(43, 60)]
    said[41:] = [message._replace(sequence=message.sequence - 1) for message in said[41:]]
    stored = Stored(connections, database_url, said)
    found = await stored.window(before=60, max_messages=22, max_bytes=500)

    assert [*range(59, 41, -1), *range(40, 36, -1)] == [m.sequence for m in found]
    (first, part), (second, rest) = stored.asked
    assert (sql.WINDOW, sql.ANSWERED_WINDOW) == (first, second)
    assert (60, 22) == (part["before"], part["limit"])
    assert (39, 2) == (rest["before"], rest["limit"])


async def test_window_looks_back_past_failed_turns_as_far_as_it_may(
    connections: Connections, database_url: str
) -> None:
    """Fails when it stops before ten times its messages, or does not stop there."""
    failed = [Said(n, uuid.UUID(int=n), "USER", "anybody?") for n in range(3, 201)]
    stored = Stored(connections, database_url, turns(1, 2) + failed)

    assert [2, 1] == [m.sequence for m in await stored.window(201, 20, 100)]
    assert [2] == [m.sequence for m in await stored.window(200, 20, 100)][:1]
    assert [] == await stored.window(201, 19, 100)
    assert 2 == len(stored.asked)

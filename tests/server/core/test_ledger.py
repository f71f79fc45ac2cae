"""The ledger: each attempt is counted once, whatever ends it, with what it is known to have used.

The table goes through every way in which an attempt can end. Each row fails without the part of the
statement that counts it, and with a part that counts without asking whether the attempt was ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentTimeout, StoreOutcomeUnknown, StoreUnavailable
from parley_server.core.model import Spent, Usage
from support.agents import ScriptedAgent, Speaker
from support.databases import as_superuser
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    gathered,
)

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY

USED = Usage(100, 20, 5, 2)
UNKNOWN = Usage(0, 0, 0, 0)


class Turn:
    """A turn that runs on one worker and has used something; another worker is there as well."""

    def __init__(self, runs_on: Service, speaker: Speaker, other: Service, url: str) -> None:
        self.runs_on, self.speaker, self.other = runs_on, speaker, other
        self.url = url
        self.conversation_id = an_id()
        self.call: asyncio.Task[pb.ChatResponse] | None = None

    async def begin(self) -> None:
        await self.runs_on.create(conversation_id=self.conversation_id, labels={"team": "blue"})
        self.call = asyncio.ensure_future(self.runs_on.chat(**self.request))
        self.speaker.say(Spent(USED), "half a ")
        await self.speaker.entered.wait()
        [attempt] = self.runs_on.worker.turns.attempts
        await until(lambda: attempt.transcript.usage is not None)

    @property
    def request(self) -> dict[str, Any]:
        return {"conversation_id": self.conversation_id, "request_id": "r"}

    def run(self, statement: str) -> None:
        with psycopg.connect(as_superuser(self.url), autocommit=True) as connection:
            connection.execute(statement)

    def let_lease_pass(self) -> None:
        self.run("UPDATE conversation SET lease_expires_at = now() WHERE open_turn_id IS NOT NULL")

    def rows(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(as_superuser(self.url)) as connection:
            return connection.execute(
                "SELECT turns, attempts, failed_attempts, input_tokens, output_tokens,"
                " cached_input_tokens, model_requests FROM usage_day"
            ).fetchall()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something of which no event tells."""
    while not holds():
        await asyncio.sleep(0.01)


async def answered(turn: Turn) -> None:
    turn.speaker.say(None)


async def failed(turn: Turn) -> None:
    turn.speaker.say(AgentTimeout())


async def broken(turn: Turn) -> None:
    turn.speaker.say(ValueError("as the test says"))


async def cancelled(turn: Turn) -> None:
    await turn.other.cancel(request_id="r")


async def caller_lost(turn: Turn) -> None:
    assert turn.call is not None
    turn.call.cancel()


async def drained(turn: Turn) -> None:
    turn.runs_on.worker.turns.attempts.end_all()


async def answered_twice(turn: Turn) -> None:
    """The connection breaks once the answer is stored, so that it is stored again."""
    store = turn.runs_on.worker.store
    finish = store.finish

    async def once(*values: Any, **named: Any) -> None:
        store.finish = finish  # type: ignore[method-assign]
        await finish(*values, **named)
        raise StoreOutcomeUnknown

    store.finish = once  # type: ignore[assignment, method-assign]
    turn.speaker.say(None)


async def failed_twice(turn: Turn) -> None:
    store = turn.runs_on.worker.store
    fail = store.fail

    async def once(*values: Any, **named: Any) -> None:
        store.fail = fail  # type: ignore[method-assign]
        await fail(*values, **named)
        raise StoreOutcomeUnknown

    store.fail = once  # type: ignore[assignment, method-assign]
    turn.speaker.say(AgentTimeout())


async def abandoned_and_run_again(turn: Turn) -> None:
    turn.let_lease_pass()
    await turn.other.chat(**turn.request)
    turn.speaker.say(None)


async def abandoned_and_superseded(turn: Turn) -> None:
    turn.let_lease_pass()
    await turn.other.chat(conversation_id=turn.conversation_id)
    turn.speaker.say(None)


async def abandoned_and_cancelled(turn: Turn) -> None:
    turn.let_lease_pass()
    await turn.other.cancel(request_id="r")
    turn.speaker.say(None)


async def failed_and_run_again(turn: Turn) -> None:
    turn.speaker.say(AgentTimeout())
    await gathered(_call_of(turn))
    await turn.other.chat(**turn.request)


async def failed_and_superseded(turn: Turn) -> None:
    turn.speaker.say(AgentTimeout())
    await gathered(_call_of(turn))
    await turn.other.chat(conversation_id=turn.conversation_id)


async def deleted(turn: Turn) -> None:
    await turn.other.delete(turn.conversation_id)


async def deleted_and_run_again(turn: Turn) -> None:
    await turn.other.delete(turn.conversation_id)
    await turn.other.undelete(turn.conversation_id)
    await turn.other.chat(**turn.request)


async def deleted_and_cancelled(turn: Turn) -> None:
    """A cancel that was recorded before holds: the turn is taken over, though it has failed.

    The worker that runs it cannot look: it would stop it before the deletion. It is told at last.
    """
    worker = turn.runs_on.worker

    async def away(*_: Any) -> None:
        raise StoreUnavailable

    worker.store.turn = away  # type: ignore[assignment, method-assign]
    await asyncio.sleep(0.5)  # a look that is under way ends
    turn.run("UPDATE turn SET cancel_requested_time = now()")
    await turn.other.delete(turn.conversation_id)
    await turn.other.undelete(turn.conversation_id)
    await turn.other.cancel(request_id="r")
    worker.turns.attempts.end_all()


async def deleted_while_abandoned(turn: Turn) -> None:
    turn.let_lease_pass()
    await turn.other.delete(turn.conversation_id)


def _call_of(turn: Turn) -> asyncio.Task[pb.ChatResponse]:
    assert turn.call is not None
    return turn.call


ENDS: list[tuple[Callable[[Turn], Awaitable[None]], tuple[int, int, int], Usage]] = [
    (answered, (1, 1, 0), USED),
    (answered_twice, (1, 1, 0), USED),
    (failed, (0, 1, 1), USED),
    (failed_twice, (0, 1, 1), USED),
    (broken, (0, 1, 1), USED),
    (cancelled, (1, 1, 0), USED),
    (caller_lost, (0, 1, 1), USED),
    (drained, (0, 1, 1), USED),
    (abandoned_and_run_again, (1, 2, 1), UNKNOWN),
    (abandoned_and_superseded, (1, 2, 1), UNKNOWN),
    (abandoned_and_cancelled, (1, 1, 0), UNKNOWN),
    (failed_and_run_again, (1, 2, 1), USED),
    (failed_and_superseded, (1, 2, 1), USED),
    (deleted, (0, 1, 1), UNKNOWN),
    (deleted_and_run_again, (1, 2, 1), UNKNOWN),
    (deleted_and_cancelled, (1, 1, 1), UNKNOWN),
    (deleted_while_abandoned, (0, 1, 1), UNKNOWN),
]


@pytest.mark.slow
@pytest.mark.parametrize(("end", "counts", "used"), ENDS)
async def test_attempt_is_counted_once_whatever_ends_it(
    start_service: StartService,
    database_url: str,
    end: Callable[[Turn], Awaitable[None]],
    counts: tuple[int, int, int],
    used: Usage,
) -> None:
    speaker = Speaker()
    runs_on = await start_service(ScriptedAgent(speaker), trash_days=1)
    turn = Turn(runs_on, speaker, await start_service(trash_days=1), database_url)
    await turn.begin()
    assert [] == turn.rows()
    await end(turn)
    await gathered(_call_of(turn))
    await speaker.closed.wait()
    await until(lambda: not len(runs_on.worker.turns.attempts.tasks))

    assert [(*counts, *used)] == turn.rows()
    [row] = await turn.other.usage(by_label="team")
    assert ("blue", *counts) == (row.label_value, row.turns, row.attempts, row.failed_attempts)

"""A claim whose connection was lost: whenever it is carried out after all, there is one turn."""

from itertools import chain, repeat
from time import monotonic
from typing import Any

import psycopg
import pytest

from parley_server.core.errors import StoreOutcomeUnknown
from parley_server.core.model import Lease, NewTurn, Owner, Turn
from support.services import Service, StartService, an_id

NEVER, AT_ONCE, AFTER_THE_LOOK = "never", "at once", "after the look"

CLAIMS: dict[str, dict[str, Any]] = {
    "new": {},
    "new, request id": {"request_id": "r"},
    "own id": {"conversation_id": "CHOSEN", "allow_missing": True},
    "own id, request id": {"conversation_id": "CHOSEN", "allow_missing": True, "request_id": "r"},
    "there": {"conversation_id": "THERE"},
    "there, request id": {"conversation_id": "THERE", "request_id": "r"},
    "there, sequence": {"conversation_id": "THERE", "expected_sequence": 2},
}


class LostClaim:
    """Stands before a store's claim: the first one's answer is lost, its backend lives on."""

    def __init__(self, service: Service, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = service.worker.store
        self._claim, self._turn = store.claim, store.turn
        self._when = when
        self._lost: tuple[Owner, NewTurn] | None = None
        self.claims = 0
        monkeypatch.setattr(store, "claim", self.claim)
        monkeypatch.setattr(store, "turn", self.turn)

    async def claim(self, owner: Owner, new: NewTurn) -> Lease | Turn:
        self.claims += 1
        if self.claims > 1:
            return await self._claim(owner, new)
        if self._when == AT_ONCE:
            await self._claim(owner, new)
        if self._when == AFTER_THE_LOOK:
            self._lost = owner, new
        raise StoreOutcomeUnknown

    async def turn(self, *name: Any, **how: Any) -> Turn | None:
        found = await self._turn(*name, **how)
        if self._lost is not None:
            await self._claim(*self._lost)
            self._lost = None
        return found


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 100])
@pytest.mark.parametrize("when", [NEVER, AT_ONCE, AFTER_THE_LOOK])
@pytest.mark.parametrize("kind", CLAIMS)
async def test_lost_claim_makes_one_turn(
    start_service: StartService,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    when: str,
    limit: int | None,
) -> None:
    """Fails when a refusal is believed though the turn in the way is this call's own.

    And when a key that is there already is taken for a defect.
    """
    service = await start_service(max_turns_per_minute=limit)
    there = (await service.chat("before")).conversation_id
    ids = {"THERE": there, "CHOSEN": an_id()}
    lost = LostClaim(service, when, monkeypatch)
    fields: dict[str, Any] = {
        name: ids.get(str(value), value) for name, value in CLAIMS[kind].items()
    }
    answer = await service.chat("hello", timeout=10, **fields)

    assert ("HELLO", False) == (answer.response, answer.replayed)
    assert (1 if when == AT_ONCE else 2) == lost.claims
    history = await service.history(answer.conversation_id)
    assert ["hello", "HELLO"] == [message.content for message in history.messages][-2:]
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*), max(attempt) FROM turn").fetchone()
    assert (2, 1) == row


async def test_lost_claim_whose_lease_has_passed_is_run_once_more_under_its_request_id(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a lease that another call may have by now is taken for this call's."""
    service = await start_service(lease_s=1)
    began = monotonic()
    moments = chain([began], repeat(began + 2))  # looked up once the lease has passed
    monkeypatch.setattr("parley_server.core.turns.claims.monotonic", lambda: next(moments))
    LostClaim(service, AT_ONCE, monkeypatch)
    answer = await service.chat("hello", timeout=15, request_id="r")

    assert ("HELLO", 1, 2) == (answer.response, answer.user_sequence, answer.response_sequence)
    assert 2 == (await service.turn(request_id="r")).attempt

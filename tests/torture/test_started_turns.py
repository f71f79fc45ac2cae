"""10,000 started turns while workers are killed; another number by PARLEY_TORTURE_TURNS."""

import os
from typing import Any

import pytest

from support.started_at_size import Size, prove

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]

TURNS = int(os.environ.get("PARLEY_TORTURE_TURNS", "10000"))
SIZE = Size(TURNS, conversations=max(1, TURNS // 10), kill_s=(2, 8), within_s=3000)


async def test_every_started_turn_is_answered_and_told_once(
    database_url: str, record_property: Any
) -> None:
    """Fails as its smaller sister in tests/server/test_started_faults.py does."""
    outcome = await prove(database_url, SIZE)

    record_property("kills", outcome.kills)
    print(
        f"\n{SIZE.turns:,} turns in {SIZE.conversations:,} conversations: accepted in"
        f" {outcome.accepted_s:.0f} s, all answered after {outcome.took_s:.0f} s;"
        f" {outcome.kills} workers killed, {outcome.taken_over} turns run again,"
        f" {outcome.watches} watches of the feed"
    )
    assert outcome.taken_over

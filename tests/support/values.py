"""Values of the model, for tests of the rules that are made of them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from parley_server.core.model import Turn, TurnState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINGERPRINT = b"fingerprint"

_TURN = Turn(
    id=UUID(int=1),
    conversation_id=UUID(int=0),
    request_id="r",
    fingerprint=FINGERPRINT,
    agent="",
    state=TurnState.RUNNING,
    attempt=1,
    user_sequence=1,
    response_sequence=None,
    error_reason=None,
    error_text="",
    create_time=NOW,
    end_time=None,
    context=None,
    answer=None,
    is_newest=True,
    fence=1,
    is_cancel_requested=False,
)


def a_turn(**changes: Any) -> Turn:
    """Return the newest turn of a conversation, running, with these changes."""
    return replace(_TURN, **changes)

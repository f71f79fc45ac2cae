"""What is traced: calls, attempts at turns, statements."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol
from uuid import UUID

from parley_server.core.model import Lease


class CallSpan(Protocol):
    """A call under way."""

    is_recorded: bool
    """Whether it is told anything: a call that is not recorded has no span."""

    def ended(self, code: str, about: Mapping[str, str]) -> None:
        """Say how it has ended.

        Args:
            code: the name of its status, such as NOT_FOUND.
            about: `call_id`, and as far as they are known `conversation_id` and `turn_id`.
        """
        ...


class AttemptSpan(Protocol):
    """An attempt under way."""

    def ended(self, outcome: str, *, is_failure: bool = False) -> None:
        """Say how it has ended: COMPLETED, CANCELLED, WAITING, or the reason of its failure."""
        ...


class Tracer(Protocol):
    """Records what is done for a call, as spans. Its methods do not wait, and do not fail.

    A span lasts as long as its block, and what is recorded inside is part of it.
    """

    def call(self, path: str) -> AbstractContextManager[CallSpan]:
        """Record a call, under the trace that it came with.

        Args:
            path: SERVICE/METHOD.
        """
        ...

    def accepted(self, turn_id: UUID) -> None:
        """Take note that a turn was accepted by the call under way: its attempt belongs to it."""
        ...

    def attempt(self, lease: Lease, agent: str) -> AbstractContextManager[AttemptSpan]:
        """Record an attempt at a turn: under the call that it is made for, or that accepted it.

        Args:
            agent: the name that the turn was asked for with; empty: the default one.
        """
        ...

    def statement(self, name: str) -> AbstractContextManager[object]:
        """Record a statement, if it is sent for something that is recorded."""
        ...


class NoSpan:
    """Records nothing."""

    is_recorded = False

    def ended(self, *_: object, **__: object) -> None:
        """Record nothing."""


NOTHING = nullcontext(NoSpan())
"""A block that is not recorded."""


class NoTracer:
    """Records nothing."""

    def call(self, path: str) -> AbstractContextManager[CallSpan]:  # noqa: ARG002 - the port's
        """Record nothing."""
        return NOTHING

    def accepted(self, turn_id: UUID) -> None:
        """Take note of nothing."""

    def attempt(
        self,
        lease: Lease,  # noqa: ARG002 - the port's
        agent: str,  # noqa: ARG002 - the port's
    ) -> AbstractContextManager[AttemptSpan]:
        """Record nothing."""
        return NOTHING

    def statement(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002 - the port's
        """Record nothing."""
        return NOTHING


NO_TRACER = NoTracer()

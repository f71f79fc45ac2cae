"""What is counted."""

from typing import Protocol

from parley_server.core.errors import ParleyError
from parley_server.core.model import Answer, Usage


class Meter(Protocol):
    """Counts what becomes of turns. Its methods do not wait, and do not fail.

    `agent` is the name of whom the turn was given to; empty: the default one.
    """

    def agent_ran(self, agent: str, seconds: float, usage: Usage | None) -> None:
        """Count a run of an agent, which ended by itself or was stopped, and what it has used."""
        ...

    def answered(self, agent: str, answer: Answer) -> None:
        """Count a turn whose answer was stored."""
        ...

    def failed(self, agent: str, error: ParleyError) -> None:
        """Count an attempt that ended without an answer, and why."""
        ...

    def waited(self, agent: str) -> None:
        """Count a turn that has begun to wait for its caller."""
        ...

    def wait_ended(self, how: str) -> None:
        """Count a wait that has ended: RESUMED, or a WaitEnd."""
        ...

    def replayed(self, agent: str) -> None:
        """Count an answer that was given again."""
        ...

    def rehearsed(self, agent: str, error: ParleyError | None, usage: Usage | None) -> None:
        """Count a rehearsal that has ended, why it has failed, if so, and what it has used."""
        ...

    def taken_over(self) -> None:
        """Count a lease that had passed and was taken from its worker."""
        ...

    def removed(self, cause: str, messages: int) -> None:
        """Count messages that were removed for good: by a "deletion" or an "erasure"."""
        ...

    def expired(self, conversations: int) -> None:
        """Count conversations that were deleted because they had become too old."""
        ...


class NoMeter:
    """Counts nothing."""

    def agent_ran(self, agent: str, seconds: float, usage: Usage | None) -> None:
        """Count nothing."""

    def answered(self, agent: str, answer: Answer) -> None:
        """Count nothing."""

    def failed(self, agent: str, error: ParleyError) -> None:
        """Count nothing."""

    def waited(self, agent: str) -> None:
        """Count nothing."""

    def wait_ended(self, how: str) -> None:
        """Count nothing."""

    def replayed(self, agent: str) -> None:
        """Count nothing."""

    def rehearsed(self, agent: str, error: ParleyError | None, usage: Usage | None) -> None:
        """Count nothing."""

    def taken_over(self) -> None:
        """Count nothing."""

    def removed(self, cause: str, messages: int) -> None:
        """Count nothing."""

    def expired(self, conversations: int) -> None:
        """Count nothing."""


NO_METER = NoMeter()

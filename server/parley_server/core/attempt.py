"""One run of the agent for a turn, up to the first thing that ends it."""

import asyncio
import logging
import traceback
from contextlib import aclosing
from enum import Enum, auto

from parley_server.core.errors import (
    AgentError,
    AgentRefused,
    AgentTimeout,
    AgentUnavailable,
    CallerLost,
    ConversationNotFound,
    InternalError,
    LeaseLost,
    ParleyError,
    StoreUnavailable,
    WorkerDrained,
)
from parley_server.core.event_log import EventLog
from parley_server.core.model import AgentRun, Answer, Context, FailureReason, Lease, Owner
from parley_server.core.ports import Agent
from parley_server.core.transcript import Transcript

log = logging.getLogger("parley.turns")


class Stop(Enum):
    """What ended an attempt."""

    AGENT_DONE = auto()
    """The agent ended by itself: with an answer, or by raising."""
    CALLER_LOST = auto()
    TIMEOUT = auto()
    LEASE_LOST = auto()
    CONVERSATION_GONE = auto()
    WORKER_DRAINED = auto()
    CANCELLED = auto()
    """Somebody asked for it with CancelTurn: what was said so far is the answer."""


class Attempt:
    """An attempt under way on this worker.

    Whatever ends it calls `stop`, and the first one counts: once the agent is done, a lost caller
    cannot take the answer back.
    """

    def __init__(
        self, owner: Owner, lease: Lease, agent: Agent, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.owner = owner
        self.lease = lease
        self.transcript = Transcript(agent.model)
        self.context: Context | None = None
        """What the window shows. None: it has not been read yet."""
        self.events: EventLog | None = None
        """Where its events are stored, if a stream has started it."""
        self._agent = agent
        self._loop = loop
        self._error: BaseException | None = None
        self._stopped: asyncio.Future[Stop] = loop.create_future()

    def stop(self, why: Stop) -> None:
        if not self._stopped.done():
            self._stopped.set_result(why)

    async def run(self, run: AgentRun, strays: set[asyncio.Task[None]]) -> Stop:
        """Run the agent until something ends the attempt.

        Args:
            strays: where the agent's task is kept until it has ended. One that ignores being
                cancelled is left behind there; nothing that it says counts any more.
        """
        if self._stopped.done():
            return self._stopped.result()
        task = self._loop.create_task(self._collect(run))
        strays.add(task)
        task.add_done_callback(strays.discard)
        task.add_done_callback(self._agent_done)
        try:
            why = await self._stopped
        finally:
            self.transcript.is_closed = True
            task.cancel()
        return why

    async def _collect(self, run: AgentRun) -> None:
        async with aclosing(self._agent.run(run)) as events:
            async for event in events:
                taken = self.transcript.add(event)
                if taken is not None and self.events is not None:
                    self.events.add(taken)
                if self.transcript.is_closed:
                    return

    def _agent_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._error = asyncio.CancelledError()
        else:
            self._error = task.exception()
        self.stop(Stop.AGENT_DONE)

    def answer(self) -> Answer:
        """Return what the agent answered.

        Raises: AgentError: it failed.
        """
        if self._error is None:
            return self.transcript.answer()
        if isinstance(self._error, AgentError):
            raise self._error
        # Its text may hold what was said: the log gets type and place.
        log.error(
            "agent raised",
            extra={
                "error": type(self._error).__name__,
                "place": place(self._error),
                "turn_id": str(self.lease.turn_id),
            },
        )
        raise AgentUnavailable


def place(error: BaseException) -> str:
    """Return where an exception was raised: file, line and function, and nothing that was said."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}"


def error_of(why: Stop, lease: Lease) -> ParleyError:
    """Return what the caller of an attempt that was stopped is told."""
    match why:
        case Stop.CALLER_LOST:
            return CallerLost()
        case Stop.TIMEOUT:
            return AgentTimeout()
        case Stop.WORKER_DRAINED:
            return WorkerDrained()
        case Stop.CONVERSATION_GONE:
            return ConversationNotFound(lease.conversation_id)
        case _:
            return LeaseLost()


_REASONS: dict[type[ParleyError], FailureReason] = {
    AgentRefused: FailureReason.AGENT_REFUSED,
    AgentTimeout: FailureReason.AGENT_TIMEOUT,
    AgentUnavailable: FailureReason.AGENT_UNAVAILABLE,
    CallerLost: FailureReason.CALLER_LOST,
    InternalError: FailureReason.INTERNAL,
    StoreUnavailable: FailureReason.STORE_UNAVAILABLE,
    WorkerDrained: FailureReason.WORKER_DRAINED,
}


def reason_of(error: ParleyError) -> FailureReason | None:
    """Return how a failed attempt is written down; None: it is not ours to write about."""
    return next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), None)


def error_for(reason: FailureReason | None) -> ParleyError | None:
    """Return what a call that waited for an attempt is told of its failure.

    None: the attempt failed for want of its caller or its worker, so the turn may be run anew.
    """
    match reason:
        case FailureReason.AGENT_REFUSED:
            return AgentRefused()
        case FailureReason.AGENT_TIMEOUT:
            return AgentTimeout()
        case FailureReason.AGENT_UNAVAILABLE:
            return AgentUnavailable()
        case FailureReason.INTERNAL:
            return InternalError()
        case _:
            return None

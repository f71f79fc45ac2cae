"""One run of the agent for a turn, up to the first thing that ends it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from parley_server.core.attempts.event_log import EventLog
from parley_server.core.attempts.roster import NamedAgent
from parley_server.core.attempts.step_log import StepLog
from parley_server.core.attempts.transcript import Transcript
from parley_server.core.errors import AgentError, AgentUnavailable
from parley_server.core.failures import Stop, raised_at
from parley_server.core.model import (
    AgentRun,
    Answer,
    Context,
    Lease,
    Owner,
    Text,
    ToolCall,
    TurnRequest,
)
from parley_server.core.tasks import Tasks

log = logging.getLogger("parley.turns")


class Attempt:
    """An attempt under way on this worker.

    Whatever ends it calls `stop`, and the first one counts: once the agent is done, a lost caller
    cannot take the answer back.
    """

    def __init__(
        self,
        owner: Owner,
        ask: TurnRequest,
        lease: Lease,
        named: NamedAgent,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.owner = owner
        self.ask = ask
        self.lease = lease
        self.named = named
        self.transcript = Transcript.limited(named.agent.model, named.limits)
        self.context: Context | None = None
        """What the window shows. None: it has not been read yet."""
        self.events: EventLog | None = None
        """Where its events are stored, if a stream has started it."""
        self.on_piece: Callable[[Text | ToolCall], None] | None = None
        """Called with each event, of a run of which nothing is stored."""
        self.steps: StepLog | None = None
        """Where its steps are stored. None: those of earlier attempts have not been read yet."""
        self._error: BaseException | None = None
        self._loop = loop
        self._stopped: asyncio.Future[Stop] = loop.create_future()

    @property
    def has_more(self) -> bool:
        """Whether anything may be stored of it that goes once it is answered.

        Steps that were not read yet may be there.
        """
        if self.events is not None:
            return True
        return self.lease.attempt > 1 if self.steps is None else self.steps.has_any

    def stop(self, why: Stop) -> None:
        if not self._stopped.done():
            self._stopped.set_result(why)

    async def run(self, run: AgentRun, strays: Tasks) -> Stop:
        """Run the agent until something ends the attempt.

        Args:
            strays: where the agent's task is kept until it has ended. One that ignores being
                cancelled is left behind there; nothing that it says counts any more.
        """
        if self._stopped.done():
            return self._stopped.result()
        task = strays.start(self._collect(run))
        task.add_done_callback(self._agent_done)
        timer = None
        if run.limits.seconds is not None:
            timer = self._loop.call_later(run.limits.seconds, self.stop, Stop.TIMEOUT)
        try:
            why = await self._stopped
        finally:
            if timer is not None:
                timer.cancel()
            self.transcript.is_closed = True
            task.cancel()
        return why

    async def _collect(self, run: AgentRun) -> None:
        with self.named.uses:  # it may go on for a while after it was told to stop
            async with aclosing(self.named.agent.run(run)) as events:
                async for event in events:
                    taken = self.transcript.add(event)
                    if taken is not None and self.events is not None:
                        self.events.add(taken)
                    if taken is not None and self.on_piece is not None:
                        self.on_piece(taken)
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
                "place": raised_at(self._error),
                "turn_id": str(self.lease.turn_id),
            },
        )
        raise AgentUnavailable

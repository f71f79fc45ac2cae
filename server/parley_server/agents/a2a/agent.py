"""An agent on another server, behind the port `core.ports.Agent`."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc

from parley_server.agents.a2a.access import Access, Address
from parley_server.agents.a2a.asking import Asked
from parley_server.agents.a2a.connection import CANCEL_S, Connection
from parley_server.agents.a2a.failures import (
    OutOfProtocol,
    agent_error,
    is_task_gone,
    is_without_streams,
)
from parley_server.agents.a2a.reading import Ending, Reader
from parley_server.agents.a2a.state import TaskState
from parley_server.agents.errors import ToolRefused
from parley_server.core.errors import AgentError, AgentRefused, AgentTimeout, AgentUnavailable
from parley_server.core.model import AgentEvent, AgentRun, Finish, OpaqueState, Spent, Text
from parley_server.core.tasks import Tasks
from parley_server.core.tracing import AskedAgent, current_trace

log = logging.getLogger("parley.agents")

STREAMS_AGAIN_S = 60.0
"""How long an agent that does not stream is not asked to."""
NO_TOOLS = "an agent on another server cannot use the caller's tools: call without tools"


OWN_CLOCK_S = 0.25
"""By how much sooner an agent may reach a run's deadline: it goes by a clock of its own."""
_FAILURES: dict[Ending | None, type[AgentError]] = {
    Ending.FAILED: AgentUnavailable,
    Ending.REFUSED: AgentRefused,
}


@dataclass(slots=True)
class _Try:
    """One call of an agent, and what came of it."""

    reader: Reader
    task: TaskState | None
    is_streamed: bool
    has_begun: bool = False
    """The agent has said something."""
    failure: AgentError | None = None
    again: "tuple[TaskState | None, bool] | None" = None
    """How to ask instead: with which task, and streamed or not."""
    details: dict[str, str] = field(default_factory=dict)


class A2AAgent:
    """Asks a remote agent, once for each attempt.

    The agent need not remember anything: the window goes along with each message. One that asks for
    input is asked to go on with its task; if the task is gone, it gets the message as a new one.
    """

    model = "a2a"
    context_tokens = None

    def __init__(self, name: str, access: Access | None = None) -> None:
        """Make an agent; nothing is connected before it is first asked.

        Args:
            name: a2a+grpc://HOST:PORT, or a2a+grpcs://HOST:PORT with TLS.
            access: None: nothing of it.
        Raises: BadAgent.
        """
        address = Address.read(name)
        self._address = address
        self._connection = Connection(address, access or Access())
        self._cancelling: Tasks | None = None
        self._streams_from = 0.0
        """When streams may be tried again, on the monotonic clock."""

    async def close(self) -> None:
        """Tell the agent which tasks are cancelled, and disconnect."""
        if self._cancelling is not None:
            await self._cancelling.wait(CANCEL_S)
        await self._connection.close()

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Answer one turn.

        Raises: AgentRefused, AgentUnavailable, AgentTimeout.
        Guarantees: none of the three holds the agent's words, not even as its context. A task that
            is known, and that may still be at work, is cancelled whatever ends the run.
        """
        if run.tools:
            raise ToolRefused(run.tools[0].name, NO_TOOLS)
        asking = self._asked_agent(run)
        try:
            async with aclosing(self._answer(run, asking)) as events:
                async for event in events:
                    if isinstance(event, Finish):
                        asking.answered(event.model, event.usage)
                    yield event
        except AgentError as error:
            asking.failed(type(error).__name__)
            raise
        finally:
            asking.ended()

    def _asked_agent(self, run: AgentRun) -> AskedAgent:
        """Begin the span of this run, if it is recorded."""
        trace = current_trace.get()
        if trace is None:
            return AskedAgent({})
        address = self._address
        return trace.ask_agent(address.host, address.port, run.conversation_id)

    async def _answer(self, run: AgentRun, asking: AskedAgent) -> AsyncGenerator[AgentEvent, None]:
        """Ask the agent, again in another way if need be. Raises: as `run`."""
        asked = Asked.of(run, asking.headers)
        task = TaskState.of_run(run, self._address.target)
        is_streamed = time.monotonic() >= self._streams_from
        ends_at = time.monotonic() + run.time_left_s
        while True:
            reader = Reader(
                asked.message.context_id,
                task.task_id if task is not None else "",
                task.told if task is not None else None,
            )
            trying = _Try(reader, task, is_streamed)
            async with aclosing(self._texts(asked, trying)) as texts:
                async for text in texts:
                    yield Text(text)
            if trying.again is None:
                break
            task, is_streamed = trying.again
        for event in self._last(reader, asked.message.context_id):
            yield event
        failure = trying.failure
        if failure is None and reader.ending in _FAILURES:
            failure = _FAILURES[reader.ending]()
        if isinstance(failure, AgentUnavailable) and time.monotonic() > ends_at - OWN_CLOCK_S:
            failure = AgentTimeout()
        if failure is not None:
            details = {"error": type(failure).__name__, "turn_id": str(run.turn_id)}
            log.warning("agent failed", extra={**details, **trying.details})
            raise failure
        yield Finish(reader.reason, reader.model or self.model, reader.usage)

    async def _texts(self, asked: Asked, trying: _Try) -> AsyncGenerator[str, None]:
        """Yield what the agent says. What goes wrong is in `trying` then."""
        method = self._connection.stream if trying.is_streamed else self._connection.send
        reader = trying.reader
        events = method(asked.request(trying.task), asked.headers, asked.time_left_s)
        is_stopped = True
        try:
            async with aclosing(events):
                async for event in events:
                    trying.has_begun = True
                    for text in reader.read(event):
                        yield text
                    if reader.ending is not None:
                        break
            is_stopped = reader.ending in (None, Ending.FULL, Ending.REFUSED) or asked.is_rehearsal
            if reader.ending is None:
                raise OutOfProtocol("the end comes before the end of the task")
        except OutOfProtocol as rule:
            trying.failure = AgentUnavailable()
            trying.details = {"rule": str(rule)}
        except grpc.aio.AioRpcError as error:
            self._fail(trying, error)
        except asyncio.CancelledError:
            running = asyncio.current_task()
            if running is None or running.cancelling():
                raise
            trying.failure = AgentUnavailable()  # the connection was closed under the call
        finally:
            if is_stopped and reader.can_be_cancelled:
                self._cancel(reader.task_id, asked)

    def _fail(self, trying: _Try, error: grpc.aio.AioRpcError) -> None:
        trying.failure = agent_error(error)
        trying.details = {"status": error.code().name}
        if trying.has_begun:
            return
        if trying.is_streamed and is_without_streams(error):
            self._streams_from = time.monotonic() + STREAMS_AGAIN_S
            trying.again = trying.task, False
        elif trying.task is not None and is_task_gone(error):
            trying.again = None, trying.is_streamed

    def _cancel(self, task_id: str, asked: Asked) -> None:
        if self._cancelling is None:
            self._cancelling = Tasks()
        self._cancelling.start(self._connection.cancel(task_id, asked.headers))

    def _last(self, reader: Reader, context_id: str) -> list[AgentEvent]:
        """Return what is known of a run beside its text, before it ends."""
        events: list[AgentEvent] = []
        if reader.usage is not None:
            events.append(Spent(reader.usage))
        if reader.ending is Ending.INPUT_REQUIRED:
            state = TaskState(reader.task_id, reader.texts.told_so_far)
            events.append(OpaqueState(state.dumped(self._address.target, context_id)))
        return events

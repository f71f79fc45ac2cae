"""A user's own agent, on an event loop in a separate thread.

    worker's loop                              agent's thread
    run ── starts ───────────────────────────► _pump: one task for each turn
        ◄─ events, at most ROOM of them ahead ── (call_soon_threadsafe)
        ── makes room, cancels ──────────────►

Whatever the agent's tools do to their thread, the worker's loop goes on. A tool that blocks it
holds up only the other turns of the same agent; a caller is released at once even then,
and what the blocked run does afterwards counts for nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeAlias

from pydantic_ai import Agent
from pydantic_ai.models import Model

from parley_server.agents.errors import BadAgent
from parley_server.agents.home import CLOSE_S, Home, move_in
from parley_server.agents.model_strings import close_model, model_of
from parley_server.agents.more_tools import MoreTools
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.errors import AgentUnavailable
from parley_server.core.failures import raised_at
from parley_server.core.model import AgentEvent, AgentRun, Step, StepKind, Steps

log = logging.getLogger("parley.agents")

ROOM = 32
"""How many events of a run may wait for the worker's loop."""
STEP = 16
"""After how many events room is made again: each time costs a wake-up of the other thread."""

_Sent: TypeAlias = AgentEvent | Exception | None
"""None: the run is over."""


class ThreadedAgent:
    """Runs a user's `pydantic_ai.Agent`; stands for it in the worker."""

    def __init__(
        self,
        module: str,
        attribute: str,
        *,
        openai_base_url: str | None = None,
        openai_api_key: str | None = None,
        more_tools: MoreTools | None = None,
    ) -> None:
        """Have the agent imported and entered in its thread, unless it is there.

        Args:
            module: importable, the working directory included.
            openai_base_url, openai_api_key: for an agent whose model is a string.
            more_tools: those of MCP servers, and rules for all of its tools.
        Raises: BadAgent.
        """
        self._own_model: Model[object] | None = None
        """One that this agent alone asks: the user's object was entered with another."""

        def make(home: Home) -> PydanticAgent:
            agent = home.agent
            model = _model(home.model, openai_base_url, openai_api_key)
            if model is not home.model and isinstance(agent, Agent):
                if home.is_entered:
                    self._own_model = model
                else:
                    agent.model = model
            return PydanticAgent(agent, model, more_tools=more_tools, asked=self._own_model)

        self._home, self._inner = move_in(module, attribute, make)
        self._loop = self._home.loop
        self._is_closed = False

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def context_tokens(self) -> int | None:
        return self._inner.context_tokens

    async def close(self) -> None:
        """Leave the user's agent, and stop its runs if no other agent of the file is made of it.

        Guarantees: returns within seconds; a thread that is blocked is left behind.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._own_model is not None:
            with suppress(RuntimeError):  # its loop is closed already
                closing = close_model(self._own_model)
                done = asyncio.run_coroutine_threadsafe(closing, self._loop)
                await asyncio.wait([asyncio.wrap_future(done)], timeout=CLOSE_S)
        self._home.leave()
        await self._home.ended()

    def retold(self, steps: Sequence[Step]) -> Sequence[AgentEvent]:
        """Return what steps say, for a turn that goes on no more."""
        return self._inner.retold(steps)

    async def run(self, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        """Answer one turn. Guarantees: closing or cancelling it returns at once."""
        worker = asyncio.get_running_loop()
        arrived: asyncio.Queue[_Sent] = asyncio.Queue()
        room = asyncio.Semaphore(ROOM)  # of the agent's loop
        run = replace(run, steps=_StepsOfWorker(run.steps, worker))
        pump = asyncio.run_coroutine_threadsafe(self._pump(run, worker, arrived, room), self._loop)
        taken = 0
        try:
            while (sent := await arrived.get()) is not None:
                if isinstance(sent, Exception):
                    raise sent
                taken += 1
                if taken % STEP == 0:
                    self._loop.call_soon_threadsafe(_make, room, STEP)
                yield sent
        finally:
            pump.cancel()

    async def _pump(
        self,
        run: AgentRun,
        worker: asyncio.AbstractEventLoop,
        arrived: "asyncio.Queue[_Sent]",
        room: asyncio.Semaphore,
    ) -> None:
        last: Exception | None = None
        try:
            async with aclosing(self._inner.run(run)) as events:
                async for event in events:
                    await room.acquire()
                    worker.call_soon_threadsafe(arrived.put_nowait, event)
        except Exception as error:
            last = error
        except BaseException as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # else it is the worker that has enough
                details = {"error": type(error).__name__, "place": raised_at(error)}
                log.error("agent raised", extra=details)
            last = AgentUnavailable()
            raise
        finally:
            with suppress(RuntimeError):  # the worker's loop is closed already
                worker.call_soon_threadsafe(arrived.put_nowait, last)


class _StepsOfWorker:
    """The steps of a run, for an agent in another thread: they are stored on the worker's loop."""

    def __init__(self, steps: Steps, worker: asyncio.AbstractEventLoop) -> None:
        self.done = steps.done
        self._steps = steps
        self._worker = worker

    async def store(self, kind: StepKind, body: str) -> None:
        """Store one more step, as `Steps.store`."""
        store = self._steps.store(kind, body)
        try:
            storing = asyncio.run_coroutine_threadsafe(store, self._worker)
        except RuntimeError:  # the worker's loop is closed already
            store.close()
            raise
        await asyncio.wrap_future(storing)


def _make(room: asyncio.Semaphore, count: int) -> None:
    for _ in range(count):
        room.release()


def _model(
    said: Model[object] | str | None, openai_base_url: str | None, openai_api_key: str | None
) -> Model[object]:
    """Return the model that a user's code says. Raises: BadAgent."""
    if isinstance(said, Model):
        return said
    if isinstance(said, str):
        return model_of(said, openai_base_url=openai_base_url, openai_api_key=openai_api_key)
    raise BadAgent("the pydantic_ai.Agent must name its model: Agent('PROVIDER:MODEL')")

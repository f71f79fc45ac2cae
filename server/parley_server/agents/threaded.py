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
import concurrent.futures
import importlib
import logging
import os
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeAlias

from pydantic_ai import Agent
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model

from parley_server.agents.errors import BadAgent
from parley_server.agents.model_strings import complaint, model_of, without_empty_variables
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
CLOSE_S = 5.0
"""How long the end of the agent is waited for; its thread does not outlive the process."""

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
        """Import the agent in a new thread and enter it there (`async with agent`).

        Args:
            module: importable, the working directory included.
            openai_base_url, openai_api_key: for an agent whose model is a string.
            more_tools: those of MCP servers, and rules for all of its tools.
        Raises: BadAgent.
        """
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._life: concurrent.futures.Future[None] = concurrent.futures.Future()
        entered: concurrent.futures.Future[PydanticAgent] = concurrent.futures.Future()

        def load() -> PydanticAgent:
            with without_empty_variables():
                agent = _imported(module, attribute)
            model = _model(agent, openai_base_url, openai_api_key)
            if isinstance(agent, Agent):
                agent.model = model
            return PydanticAgent(agent, model, more_tools=more_tools)

        def live() -> None:
            asyncio.set_event_loop(self._loop)
            try:
                inner = load()
            except BaseException as error:
                entered.set_exception(_as_bad_agent(f"python:{module}:{attribute}", error))
            else:
                self._run_loop(inner, entered)
            self._loop.close()

        threading.Thread(target=live, name=f"agent {module}:{attribute}", daemon=True).start()
        self._inner = entered.result()

    def _run_loop(
        self, inner: PydanticAgent, entered: "concurrent.futures.Future[PydanticAgent]"
    ) -> None:
        life = self._loop.create_task(self._live(inner, entered))
        while not life.done():
            try:
                self._loop.run_until_complete(life)
            except BaseException as error:
                # SystemExit out of a task ends a loop. One agent's code must not end all of them.
                log.error("agent's event loop ended", extra={"error": type(error).__name__})
        self._life.set_result(None)

    async def _live(
        self, inner: PydanticAgent, entered: "concurrent.futures.Future[PydanticAgent]"
    ) -> None:
        """Keep the agent entered until it is closed; one task does both, as its tools require."""
        try:
            async with inner.entered():
                entered.set_result(inner)
                await self._stop.wait()
                await self._end_runs()
        except BaseException as error:
            if entered.done():
                details = {"error": type(error).__name__, "place": raised_at(error)}
                log.warning("agent not closed", extra=details)
            else:
                entered.set_exception(_as_bad_agent(inner.model, error))

    async def _end_runs(self) -> None:
        runs = asyncio.all_tasks() - {asyncio.current_task()}
        for task in runs:
            task.cancel()
        if runs:
            await asyncio.wait(runs, timeout=CLOSE_S / 2)

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def context_tokens(self) -> int | None:
        return self._inner.context_tokens

    async def close(self) -> None:
        """Stop the runs and leave the agent; a thread that is blocked is left behind."""
        with suppress(RuntimeError):  # its loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        life = asyncio.wrap_future(self._life)
        await asyncio.wait([life], timeout=CLOSE_S)

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


def _imported(module: str, attribute: str) -> AbstractAgent[object, object]:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise BadAgent(
                f"there is no module '{module}' in the working directory or among what is installed"
            ) from None
        raise
    agent = getattr(found, attribute, None)
    if not isinstance(agent, AbstractAgent):
        raise BadAgent(f"'{attribute}' in the module '{module}' must be a pydantic_ai.Agent")
    return agent


def _model(
    agent: AbstractAgent[object, object], openai_base_url: str | None, openai_api_key: str | None
) -> Model[object]:
    model = agent.model
    if isinstance(model, Model):
        return model
    if isinstance(model, str):
        return model_of(model, openai_base_url=openai_base_url, openai_api_key=openai_api_key)
    raise BadAgent("the pydantic_ai.Agent must name its model: Agent('PROVIDER:MODEL')")


def _as_bad_agent(name: str, error: BaseException) -> BadAgent:
    if isinstance(error, BadAgent):
        return error
    if isinstance(error, ModuleNotFoundError):
        return BadAgent(f"'{name}' needs the module {error.name}, which is not installed")
    if isinstance(error, UserError):
        return BadAgent(complaint(name, error))
    return BadAgent(f"'{name}' cannot be started: {type(error).__name__} in {raised_at(error)}")

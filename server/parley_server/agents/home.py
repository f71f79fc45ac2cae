"""The thread in which a user's own agent lives.

The agent is one object of the user's module, and what it opens belongs to the event loop on which
it was entered. So it is entered once, for the first that uses it, and left after the last, however
many agents of a file are made of it: a reload makes the next one before it closes the last.
"""

import asyncio
import concurrent.futures
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model

from parley_server.agents.errors import BadAgent
from parley_server.agents.model_strings import complaint, without_empty_variables
from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.core.failures import raised_at

log = logging.getLogger("parley.agents")

CLOSE_S = 5.0
"""How long the end of the agent is waited for; its thread does not outlive the process."""

_opening = threading.Lock()
"""Held while agents are imported and entered, which may take seconds."""
_counting = threading.Lock()
"""Held for a moment, by event loops as well: guards `_homes`, and who uses them."""


class Home:
    """A user's agent, entered on an event loop in a separate thread."""

    agent: AbstractAgent[Any, Any]
    model: "Model[Any] | str | None"
    """What the user's code says that the agent's model is."""

    def __init__(self, module: str, attribute: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.users = 0
        """How many use it. It is closed after the last, and then not used again."""
        self.is_entered = False
        self._module = module
        self._attribute = attribute
        self._stop = asyncio.Event()
        self._life: concurrent.futures.Future[None] = concurrent.futures.Future()

    @property
    def name(self) -> str:
        return f"python:{self._module}:{self._attribute}"

    @property
    def is_the_modules(self) -> bool:
        """Whether its agent is still the one of its module."""
        module = sys.modules.get(self._module)
        return module is not None and getattr(module, self._attribute, None) is self.agent

    def open(self, make: "Make") -> PydanticAgent:
        """Import the agent in a new thread and enter it there (`async with agent`).

        Raises: BadAgent.
        """
        entered: concurrent.futures.Future[PydanticAgent] = concurrent.futures.Future()
        thread = threading.Thread(
            target=self._live_in_thread,
            args=(make, entered),
            name=f"agent {self._module}:{self._attribute}",
            daemon=True,
        )
        thread.start()
        return entered.result()

    def _live_in_thread(
        self, make: "Make", entered: "concurrent.futures.Future[PydanticAgent]"
    ) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            with without_empty_variables():
                self.agent = _imported(self._module, self._attribute)
            self.model = self.agent.model
            first = make(self)
        except BaseException as error:
            entered.set_exception(_as_bad_agent(self.name, error))
        else:
            self._run_loop(first, entered)
        if hasattr(self, "model") and isinstance(self.agent, Agent):
            self.agent.model = self.model  # whoever enters it again has other settings for it
        self.loop.close()
        self._life.set_result(None)

    def _run_loop(
        self, first: PydanticAgent, entered: "concurrent.futures.Future[PydanticAgent]"
    ) -> None:
        life = self.loop.create_task(self._live(first, entered))
        while not life.done():
            try:
                self.loop.run_until_complete(life)
            except BaseException as error:
                # SystemExit out of a task ends a loop. One agent's code must not end all of them.
                log.error("agent's event loop ended", extra={"error": type(error).__name__})

    async def _live(
        self, first: PydanticAgent, entered: "concurrent.futures.Future[PydanticAgent]"
    ) -> None:
        """Keep the agent entered until it is closed; one task does both, as its tools require."""
        try:
            async with first.entered():
                self.is_entered = True
                entered.set_result(first)
                await self._stop.wait()
                await self._end_runs()
        except BaseException as error:
            if entered.done():
                details = {"error": type(error).__name__, "place": raised_at(error)}
                log.warning("agent not closed", extra=details)
            else:
                entered.set_exception(_as_bad_agent(first.model, error))

    async def _end_runs(self) -> None:
        runs = asyncio.all_tasks() - {asyncio.current_task()}
        for task in runs:
            task.cancel()
        if runs:
            await asyncio.wait(runs, timeout=CLOSE_S / 2)

    def leave(self) -> None:
        """Use it no more. After the last use the runs are stopped, and the agent is left."""
        with _counting:
            self.users -= 1
            is_last = self.users == 0
        if is_last:
            with suppress(RuntimeError):  # its loop is closed already
                self.loop.call_soon_threadsafe(self._stop.set)

    async def ended(self) -> None:
        """Wait for the end of the agent, if nobody uses it; not for a thread that is blocked."""
        if self.users == 0:
            await asyncio.wait([asyncio.wrap_future(self._life)], timeout=CLOSE_S)

    def await_end(self) -> None:
        """Wait, in a thread, until it was left.

        Raises: BadAgent: some code of the agent blocks its thread.
        """
        try:
            self._life.result(2 * CLOSE_S)
        except TimeoutError:
            raise BadAgent(
                f"'{self.name}' was removed and has not ended yet: try again, or restart the server"
            ) from None


Make = Callable[[Home], PydanticAgent]
"""Makes of a user's agent one that runs turns, or raises BadAgent. Not entered yet, it may still be
given its model."""

_homes: dict[tuple[str, str], Home] = {}
"""By module and attribute: the last one of each."""


def move_in(module: str, attribute: str, make: Make) -> tuple[Home, PydanticAgent]:
    """Return where a user's agent lives, and what `make` makes of it. `Home.leave` is to follow.

    Args:
        module: importable, the working directory included.
    Raises: BadAgent.
    """
    key = (module, attribute)
    with _opening:
        if (used := _used(key)) is not None:
            try:
                return used, make(used)
            except BaseException as error:
                used.leave()
                raise _as_bad_agent(used.name, error) from None
        before = _homes.get(key)
        if before is not None and before.is_the_modules:
            before.await_end()
        home = Home(module, attribute)
        made = home.open(make)
        with _counting:
            home.users = 1
            _homes[key] = home
        return home, made


def _used(key: tuple[str, str]) -> Home | None:
    """Use the home of an agent. None: there is none, or nobody uses it any more."""
    with _counting:
        home = _homes.get(key)
        if home is None or home.users == 0 or not home.is_the_modules:
            return None
        home.users += 1
        return home


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


def _as_bad_agent(name: str, error: BaseException) -> BadAgent:
    if isinstance(error, BadAgent):
        return error
    if isinstance(error, ModuleNotFoundError):
        return BadAgent(f"'{name}' needs the module {error.name}, which is not installed")
    if isinstance(error, UserError):
        return BadAgent(complaint(name, error))
    return BadAgent(f"'{name}' cannot be started: {type(error).__name__} in {raised_at(error)}")

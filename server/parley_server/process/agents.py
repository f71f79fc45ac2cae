"""The agents of a worker: made at its start, and again when their file was changed."""

import asyncio
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from parley_server.agents.catalog import REMOTE, Surroundings, close_agent, create_agent
from parley_server.agents.file.building import (
    Lineup,
    Made,
    NotLinedUp,
    ServerDefaults,
    complaint_of_room,
    line_up,
)
from parley_server.agents.file.problems import BadAgentsFile
from parley_server.agents.file.reading import read_agents_file, text_of
from parley_server.config import BadSettings, Settings
from parley_server.core.attempts.roster import NamedAgent, Roster
from parley_server.core.ports import Agent

if TYPE_CHECKING:  # its libraries take seconds to import
    from parley_server.agents.mcp.servers import McpServers

log = structlog.get_logger("parley.agents")

CLOSE_S = 5.0
"""How long the end of the worker waits for agents that were taken out of the file."""


class OneAgent:
    """One agent, as PARLEY_AGENT names it."""

    def __init__(self, name: str, agent: Agent, defaults: ServerDefaults) -> None:
        self._agent = agent
        # Whether an agent on another server acts, only it knows.
        can_rehearse = not name.startswith(REMOTE)
        named = NamedAgent(name, agent, defaults.window(agent), can_rehearse=can_rehearse)
        self.roster = Roster([named], default=name)

    async def reload(self) -> None:
        """Do nothing: there is no file."""

    async def close(self) -> None:
        """Close it. Nobody uses it any more."""
        await close_agent(self._agent)


class FiledAgents:
    """The agents of a file."""

    def __init__(self, path: Path, defaults: ServerDefaults, around: Surroundings) -> None:
        """Make them.

        Raises: BadAgentsFile.
        """
        self._path = path
        self._defaults = defaults
        self._around = around
        self.lineup = self._line_up(None)
        if self.lineup.servers is not None:
            self.lineup.servers.open()
        self.closing: set[asyncio.Task[None]] = set()
        self.roster = Roster(self.lineup.named, self.lineup.default)

    def _line_up(self, before: Lineup | None) -> Lineup:
        file = read_agents_file(self._path, os.environ)
        return line_up(file, self._defaults, self._around, before)

    async def reload(self) -> None:
        """Read the file again, and have its agents from now on.

        Guarantees: a file with anything wrong changes nothing, and is told in the log. Attempts
            under way keep their agents, which are closed after the last of them.
        """
        before = self.lineup
        try:
            # In a thread: a user's agent is imported, and a library for the first agent of a kind.
            after = await asyncio.to_thread(self._line_up, before)
        except BadAgentsFile as error:
            for problem in error.problems:
                log.error("agents file is wrong, nothing was changed", problem=str(problem))
            if isinstance(error, NotLinedUp):
                await _close_all(error.made, error.servers)
            return
        self.lineup = after
        if after.servers is not None and after.servers is not before.servers:
            after.servers.open()
        self.roster.replace(after.named, after.default)
        log.info("agents file was read again", **_changes(before, after))
        earlier = set(self.closing)
        task = asyncio.create_task(_close_after_use(before, after, earlier))
        self.closing.add(task)
        task.add_done_callback(self.closing.discard)

    async def close(self) -> None:
        """Close all of them. Nobody uses them any more, or nobody waits for what they do."""
        if self.closing:
            await asyncio.wait(self.closing, timeout=CLOSE_S)
        await close_lineup(self.lineup)


def agents_for(settings: Settings, agent: Agent | None = None) -> OneAgent | FiledAgents:
    """Return the agents that turns can be given to.

    Args:
        agent: answers instead of those that the settings name.
    Raises: BadSettings.
    """
    around, defaults = surroundings_of(settings), defaults_of(settings)
    if settings.agents_file is not None and agent is None:
        try:
            return FiledAgents(settings.agents_file, defaults, around)
        except BadAgentsFile as error:
            raise BadSettings(f"PARLEY_AGENTS_FILE cannot be used:\n{error}") from None
    try:
        made = agent or create_agent(
            settings.agent or "",
            openai_base_url=around.openai_base_url,
            openai_api_key=around.openai_api_key,
            local=around.local,
        )
    except ValueError as error:
        raise BadSettings(f"PARLEY_AGENT: {error}") from None
    one = OneAgent(settings.agent or "", made, defaults)
    if (complaint := complaint_of_room(one.roster.default.window)) is not None:
        raise BadSettings(f"PARLEY_INSTRUCTIONS, PARLEY_CONTEXT_TOKENS: {complaint}")
    return one


def surroundings_of(settings: Settings) -> Surroundings:
    """Return what a worker has for all of its agents."""
    key, local_key = settings.openai_api_key, settings.local_model_key
    local = None
    if settings.local_model_url and local_key:
        local = (settings.local_model_url, local_key.get_secret_value())
    return Surroundings(
        openai_base_url=settings.openai_base_url,
        openai_api_key=key.get_secret_value() if key else None,
        local=local,
    )


def defaults_of(settings: Settings) -> ServerDefaults:
    """Return what holds for an agent that says nothing else. Raises: BadSettings."""
    return ServerDefaults(
        _instructions(settings), settings.context_messages, settings.context_tokens
    )


def _instructions(settings: Settings) -> str:
    path = settings.instructions_file
    if path is None:
        return settings.instructions
    try:
        return text_of(path)
    except OSError as error:
        raise BadSettings(f"PARLEY_INSTRUCTIONS_FILE: {error}") from None
    except UnicodeDecodeError:
        raise BadSettings(
            f"PARLEY_INSTRUCTIONS_FILE: {path} is no text in UTF-8: save it as UTF-8"
        ) from None


def _changes(before: Lineup, after: Lineup) -> dict[str, object]:
    """Return what a log line says of a change: names, and which agent is the default."""
    old = {named.name: named for named in before.named}
    new = {named.name: named for named in after.named}
    both = [name for name in new if name in old]
    return {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in both if new[name] != old[name]],
        "unchanged": [name for name in both if new[name] == old[name]],
        "default": after.default,
    }


async def _close_after_use(
    before: Lineup, after: Lineup, earlier: Collection[asyncio.Task[None]]
) -> None:
    """Close what the agents of before have that those of after have not, each when it is free.

    Args:
        earlier: closings that are under way. Their agents may have tools of the same servers.
    """
    gone = before.others_than(after)
    await asyncio.gather(*(_close_free(made) for made in gone))
    if before.servers is not None and before.servers is not after.servers:
        if earlier:
            await asyncio.wait(earlier)
        await before.servers.close()


async def _close_free(made: Made) -> None:
    await made.uses.ended()
    await _close([made])


async def close_lineup(lineup: Lineup) -> None:
    """Close agents that nobody uses any more, and the servers of their tools after them."""
    await _close_all(lineup.made, lineup.servers)


async def _close_all(made: Iterable[Made], servers: "McpServers | None") -> None:
    await _close(made)
    if servers is not None:
        await servers.close()


async def _close(all_made: Iterable[Made]) -> None:
    """Close agents; one that cannot be closed keeps no other one open."""
    for made in all_made:
        try:
            await close_agent(made.agent)
        except Exception as error:
            log.warning("agent not closed", error=type(error).__name__)

"""A name becomes an agent.

local                       the small model on this machine
echo, echo:SECONDS          says what it is told, after so many seconds
python:MODULE:ATTRIBUTE     a user's own pydantic_ai.Agent
PROVIDER:MODEL              a model of any provider that pydantic-ai knows
a2a+grpc://HOST:PORT        an agent on another server; a2a+grpcs:// with TLS

A table of the agents file names one of them, and says more: `make_agent`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from parley_server.agents.echo import EchoAgent
from parley_server.agents.errors import BadAgent
from parley_server.agents.local_model import CONTEXT_TOKENS, Endpoint
from parley_server.core.ports import Agent

if TYPE_CHECKING:
    from parley_server.agents.a2a.access import Access
    from parley_server.agents.file.definitions import AgentTable
    from parley_server.agents.mcp.servers import McpServers
    from parley_server.agents.more_tools import MoreTools

# The libraries behind the other agents take two to three seconds to import, which only those who
# use them are to pay: hence the imports inside functions. All of them are done when `create_agent`
# returns.


@runtime_checkable
class Closable(Protocol):
    """An agent that has something to be closed."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker has for all of its agents."""

    openai_base_url: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    local: Endpoint | None = field(default=None, repr=False)
    """URL and key of a LocalModel that was started."""


REMOTE = ("a2a+grpc:", "a2a+grpcs:")
"""How the model of an agent on another server begins."""


def make_agent(table: "AgentTable", servers: "McpServers | None", around: Surroundings) -> Agent:
    """Return the agent of a table of the agents file, ready to run.

    Args:
        table: its secrets are filled in.
        servers: the file's servers of tools. None: it has none.
    Raises: BadAgent, in one sentence that says what to set or install.
    """
    key = table.api_key.get_secret_value() if table.api_key else None
    # A key is for its own server: the worker's does not go to the server of one agent.
    default_key = None if table.base_url else around.openai_api_key
    return create_agent(
        table.model,
        openai_base_url=table.base_url or around.openai_base_url,
        openai_api_key=key or default_key,
        local=around.local,
        own={k: v for k, v in (("base_url", table.base_url), ("api_key", key)) if v},
        access=_access(table),
        more_tools=_more_tools(table, servers),
    )


def _access(table: "AgentTable") -> "Access | None":
    if not table.model.startswith(REMOTE):
        return None
    from parley_server.agents.a2a.access import Access

    token = table.token.get_secret_value() if table.token else None
    return Access(token, table.ca_file, table.cert_file, table.key_file)


def _more_tools(table: "AgentTable", servers: "McpServers | None") -> "MoreTools | None":
    """Return the tools and rules of a table. Raises: BadAgent."""
    if not table.mcp and not table.tools:
        return None
    from parley_server.agents.more_tools import MoreTools

    return MoreTools(servers.for_agent(table.mcp) if servers else (), table.tools)


def create_agent(
    name: str,
    *,
    openai_base_url: str | None = None,
    openai_api_key: str | None = None,
    local: Endpoint | None = None,
    own: Mapping[str, str] | None = None,
    access: "Access | None" = None,
    more_tools: "MoreTools | None" = None,
) -> Agent:
    """Return the agent of this name, ready to run.

    Args:
        openai_base_url, openai_api_key: None or empty: not set.
        local: URL and key of a LocalModel that was started.
        own: `base_url` and `api_key` for the model of another provider than OpenAI.
        access: of an agent on another server: token and certificates.
        more_tools: of an agents file, for an agent that can have tools.
    Raises: BadAgent, in one sentence that says what to set or install.
    """
    kind, _, rest = name.partition(":")
    if kind == "echo":
        return EchoAgent(_seconds(name, rest))
    if name == "local":
        return _local(local, more_tools)
    try:
        if kind == "python":
            return _python(name, rest, openai_base_url or None, openai_api_key or None, more_tools)
        if f"{kind}:" in REMOTE:
            return _remote(name, access)
        return _model(name, openai_base_url or None, openai_api_key or None, own, more_tools)
    except ModuleNotFoundError as error:
        raise BadAgent(
            f"'{name}' needs the package {error.name}: install Parley with its extra [server]"
        ) from None


async def close_agent(agent: Agent) -> None:
    """Close an agent, if it has anything to be closed."""
    if isinstance(agent, Closable):
        await agent.close()


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadAgent(f"'{name}': echo needs a number of seconds, 0 or more, for example echo:1.5")
    return seconds


def _local(endpoint: Endpoint | None, more_tools: "MoreTools | None") -> Agent:
    if endpoint is None:
        raise BadAgent("the local model is not running: let parley-server serve start it")
    from parley_server.agents.model_strings import openai_chat_model
    from parley_server.agents.pydantic_agent import PydanticAgent

    url, key = endpoint
    model = openai_chat_model("local", f"{url.rstrip('/')}/v1", key)
    return PydanticAgent.of_model(model, context_tokens=CONTEXT_TOKENS, more_tools=more_tools)


def _python(
    name: str,
    rest: str,
    base_url: str | None,
    key: str | None,
    more_tools: "MoreTools | None",
) -> Agent:
    module, _, attribute = rest.partition(":")
    if not module or not attribute:
        raise BadAgent(f"'{name}' must be python:MODULE:ATTRIBUTE, such as python:support:agent")
    from parley_server.agents.threaded import ThreadedAgent

    return ThreadedAgent(
        module, attribute, openai_base_url=base_url, openai_api_key=key, more_tools=more_tools
    )


def _remote(name: str, access: "Access | None") -> Agent:
    from parley_server.agents.a2a.agent import A2AAgent

    return A2AAgent(name, access)


def _model(
    name: str,
    base_url: str | None,
    key: str | None,
    own: Mapping[str, str] | None,
    more_tools: "MoreTools | None",
) -> Agent:
    from parley_server.agents.model_strings import model_of
    from parley_server.agents.pydantic_agent import PydanticAgent

    model = model_of(name, openai_base_url=base_url, openai_api_key=key, own=own)
    return PydanticAgent.of_model(model, more_tools=more_tools)

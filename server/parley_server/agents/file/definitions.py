"""What an agents file may say: each class is a table of it. The JSON schema comes from here."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

NAME = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"


class Table(BaseModel):
    """A table of the file: a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolRule(Table):
    """`[agents.NAME.tools.TOOL]`: who runs or approves a tool, whoever defines it."""

    run_by: Literal["server", "caller"] = "server"
    approval: bool = False
    once: bool = False
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    description: str = ""
    """Of a caller's tool."""
    parameters: dict[str, Any] | None = None
    """A JSON Schema of type object, of a caller's tool."""


class LimitsTable(Table):
    """`[agents.NAME.limits]`: see `core.model.AgentLimits`."""

    seconds: float | None = Field(default=None, gt=0, le=86_400)
    reply_bytes: int | None = Field(default=None, ge=1, le=256 * 1024)
    tool_calls: int | None = Field(default=None, ge=0, le=64)
    output_tokens: int | None = Field(default=None, ge=1)
    tokens_a_day: int | None = Field(default=None, ge=1)


class McpServer(Table):
    """`[mcp.NAME]`: a server of tools, started with the worker or reached by URL."""

    command: list[str] | None = None
    """The program and its arguments, for stdio."""
    env: dict[str, SecretStr] = {}
    cwd: Path | None = None
    url: str | None = None
    """Of a server that speaks streamable HTTP."""
    headers: dict[str, SecretStr] = {}
    tools: list[str] | None = None
    """Those that agents see. None: all."""
    prefix: str = ""
    """Put before each tool's name, with an underscore."""
    timeout_s: float = Field(default=30, gt=0, le=86_400)
    """Of one call of a tool."""
    start_s: float = Field(default=10, gt=0, le=600)
    """Of a connection until the server has named its tools."""


class AgentTable(Table):
    """`[agents.NAME]`: an agent."""

    description: str = Field(default="", max_length=1024)
    model: str
    """What PARLEY_AGENT takes: local, echo, PROVIDER:MODEL, python:MODULE:ATTRIBUTE, a2a+grpc://…"""
    instructions: str = ""
    instructions_file: Path | None = None
    base_url: str | None = None
    """Of a server that speaks the provider's protocol."""
    api_key: SecretStr | None = None
    context_messages: int | None = Field(default=None, ge=1, le=1000)
    context_tokens: int | None = Field(default=None, ge=256)
    mcp: list[str] = []
    """Names of [mcp.…] tables."""
    tools: dict[str, ToolRule] = {}
    limits: LimitsTable = LimitsTable()
    rehearsal: bool | None = None
    """Whether it may rehearse. None: unless it is on another server."""
    # Of an agent on another server, a2a+grpc://HOST:PORT or a2a+grpcs://HOST:PORT.
    token: SecretStr | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class AgentsFile(Table):
    """The whole file. Paths in it are relative to its folder."""

    default: str | None = None
    """The agent that answers where none is named. None: the only one."""
    agents: dict[str, AgentTable]
    mcp: dict[str, McpServer] = {}

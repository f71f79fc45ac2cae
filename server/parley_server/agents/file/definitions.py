"""What an agents file may say: each class is a table of it. The JSON schema comes from here."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

NAME = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME, examples=["shop"])]
File = Annotated[Path, Field(strict=False)]  # TOML has no paths, only text


class Table(BaseModel):
    """A table of the file: a key that it does not know is an error, and so is a text for a number.

    The examples of its fields are what an error says would be right.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class ToolRule(Table):
    """`[agents.NAME.tools.TOOL]`: who runs or approves a tool, whoever defines it."""

    run_by: Literal["server", "caller"] = Field(default="server", examples=["caller"])
    """Who runs it: the server, or the caller of the turn."""
    approval: bool = Field(default=False, examples=[True])
    """Whether the turn waits for its caller's approval before the tool runs."""
    once: bool = Field(default=False, examples=[True])
    """Whether it must not run twice, not even after a failure in the middle."""
    timeout_s: float | None = Field(default=None, gt=0, le=86_400, examples=[30])
    """How long one call may take, in seconds."""
    description: str = Field(default="", examples=["Charges the customer."])
    """Of a caller's tool: what the model is told of it."""
    parameters: dict[str, Any] | None = None
    """Of a caller's tool: a JSON Schema of type object."""


class LimitsTable(Table):
    """`[agents.NAME.limits]`: what one answer of the agent may take; see docs/agents.md."""

    seconds: float | None = Field(default=None, gt=0, le=86_400, examples=[30])
    """Of one attempt; then it fails with AGENT_TIMEOUT."""
    reply_bytes: int | None = Field(default=None, ge=1, le=256 * 1024, examples=[8192])
    """Of the answer's text in UTF-8; it is cut there, as LENGTH."""
    tool_calls: int | None = Field(default=None, ge=0, le=64, examples=[5])
    """Of the answer; it ends with the last one, as LENGTH. 0: the agent is given no tools."""
    output_tokens: int | None = Field(default=None, ge=16, le=10**9, examples=[2000])
    """Of the answer, over all its requests to the model; it is cut there, as LENGTH."""
    tokens_a_day: int | None = Field(default=None, ge=1, le=10**15, examples=[100_000])
    """Of an owner's turns with this agent within a day; then they fail with BUDGET_EXHAUSTED."""


class McpServer(Table):
    """`[mcp.NAME]`: a server of tools, started with the worker or reached by URL."""

    command: list[str] | None = Field(default=None, examples=[["uvx", "some-mcp-server"]])
    """The program and its arguments, for stdio."""
    env: dict[str, SecretStr] = Field(default={}, examples=[{"TOKEN": "$TOKEN"}])
    """Variables of the program; $VARIABLE stands for one of the worker's."""
    cwd: File | None = Field(default=None, examples=["tools"])
    """The folder in which the program starts."""
    url: str | None = Field(default=None, examples=["https://tools.example.com/mcp"])
    """Of a server that speaks streamable HTTP."""
    headers: dict[str, SecretStr] = Field(default={}, examples=[{"Authorization": "Bearer $TOKEN"}])
    """Sent with each request; $VARIABLE stands for one of the worker's."""
    tools: list[str] | None = Field(default=None, examples=[["search"]])
    """Those that agents see. Without it: all."""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$", examples=["files"])
    """Put before each tool's name, with an underscore."""
    timeout_s: float = Field(default=30, gt=0, le=86_400, examples=[30])
    """Of one call of a tool, in seconds."""
    start_s: float = Field(default=10, gt=0, le=600, examples=[10])
    """Of a connection until the server has named its tools, in seconds."""


class AgentTable(Table):
    """`[agents.NAME]`: an agent."""

    description: str = Field(default="", max_length=1024, examples=["Answers about orders."])
    """What callers are told of it."""
    model: str = Field(min_length=1, max_length=256, examples=["openai:gpt-5-mini"])
    """What PARLEY_AGENT takes: local, echo, PROVIDER:MODEL, python:MODULE:ATTRIBUTE, a2a+grpc://…"""
    instructions: str = Field(default="", examples=["You help the customers of a shop."])
    """What it is told before every conversation, in place of PARLEY_INSTRUCTIONS."""
    instructions_file: File | None = Field(default=None, examples=["shop.md"])
    """A file with the instructions."""
    base_url: str | None = Field(default=None, examples=["http://127.0.0.1:8000/v1"])
    """Of a server that speaks the provider's protocol."""
    api_key: SecretStr | None = Field(default=None, examples=["$OPENAI_API_KEY"])
    """The provider's key, as $VARIABLE. Without it: the provider's own variable."""
    context_messages: int | None = Field(default=None, ge=1, le=1000, examples=[100])
    """Most messages in a window. Without it: PARLEY_CONTEXT_MESSAGES."""
    context_tokens: int | None = Field(default=None, ge=256, le=10**9, examples=[16_384])
    """Most tokens in a window. Without it: PARLEY_CONTEXT_TOKENS."""
    mcp: list[str] = Field(default=[], examples=[["files"]])
    """Names of [mcp.…] tables, whose tools it has."""
    tools: dict[str, ToolRule] = {}
    """Rules for tools, by name."""
    limits: LimitsTable = LimitsTable()
    """What one answer may take."""
    rehearsal: bool | None = Field(default=None, examples=[True])
    """Whether it may rehearse. Without it: unless it is on another server."""
    token: SecretStr | None = Field(default=None, examples=["$AGENT_TOKEN"])
    """Of an agent on another server: the bearer token, as $VARIABLE."""
    ca_file: File | None = Field(default=None, examples=["ca.pem"])
    """Of a2a+grpcs://: the authorities, as PEM, in place of the system's."""
    cert_file: File | None = Field(default=None, examples=["client.pem"])
    """Of a2a+grpcs://: the worker's own certificate, as PEM."""
    key_file: File | None = Field(default=None, examples=["client.key"])
    """Of a2a+grpcs://: the key of that certificate, as PEM."""


class AgentsFile(Table):
    """Named agents of a Parley server. Paths are relative to the file's folder."""

    default: str | None = Field(default=None, examples=["shop"])
    """The agent that answers where none is named. Without it: the only one."""
    agents: dict[Name, AgentTable]
    """The agents, by name."""
    mcp: dict[Name, McpServer] = {}
    """Servers of tools, by name."""

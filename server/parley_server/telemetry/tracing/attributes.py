"""What a span may say. An attribute that is not named here does not leave the process.

Names are OpenTelemetry's where it has one: conventions for RPC, databases and generative AI.
Those that begin with `parley.` are Parley's own.
"""

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
DB_SYSTEM = "db.system.name"
DB_SUMMARY = "db.query.summary"
DB_STATUS = "db.response.status_code"
ERROR_TYPE = "error.type"
CONVERSATION_ID = "gen_ai.conversation.id"
AGENT_NAME = "gen_ai.agent.name"
CALL_ID = "parley.call.id"
TURN_ID = "parley.turn.id"
ATTEMPT = "parley.attempt"
OUTCOME = "parley.outcome"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"

OWN = frozenset(
    {
        RPC_SYSTEM,
        RPC_METHOD,
        RPC_STATUS,
        DB_SYSTEM,
        DB_SUMMARY,
        DB_STATUS,
        ERROR_TYPE,
        CONVERSATION_ID,
        AGENT_NAME,
        CALL_ID,
        TURN_ID,
        ATTEMPT,
        OUTCOME,
    }
)
"""Of the spans that Parley makes itself."""

OF_AGENTS = frozenset(
    {
        OPERATION,
        PROVIDER,
        "gen_ai.request.model",
        "gen_ai.request.frequency_penalty",
        "gen_ai.request.max_tokens",
        "gen_ai.request.presence_penalty",
        "gen_ai.request.seed",
        "gen_ai.request.temperature",
        "gen_ai.request.top_p",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.id",
        RESPONSE_MODEL,
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.tool.call.id",
        "gen_ai.tool.name",
        SERVER_ADDRESS,
        SERVER_PORT,
        "pydantic_ai.tool.deferral.name",
        "exception.type",
    }
)
"""Of the spans of agents, and of their events: their libraries make them, or Parley does."""

USAGE = ("gen_ai.usage.", "gen_ai.aggregated_usage.")
"""How the names of counts of tokens begin: of one request, and of a run's requests together."""

CONTENT = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.tool.definitions",
        "exception.message",
    }
)
"""What is said: only with PARLEY_TRACES_CONTENT."""

KNOWN = OWN | OF_AGENTS


def may_leave(name: str, *, has_content: bool) -> bool:
    """Return whether a span may say it."""
    if name in KNOWN or (has_content and name in CONTENT):
        return True
    return name.startswith(USAGE)

"""Who answers: adapters behind the port `core.ports.Agent`.

    catalog            a name becomes an agent: the one place that knows them all
    echo               EchoAgent, deterministic, for tests and load
    pydantic_agent     PydanticAgent, one run of any `pydantic_ai.Agent`, by way of
        history            a window becomes pydantic-ai's messages
        guard              a tool that fails becomes a result, never the end of the run
        steps, past        what a run does is stored, and an attempt goes on from it
        waiting            calls that wait for the turn's caller end the run, and go on later
        limits             what one answer may take
        events             pydantic-ai's events become Parley's, in order
        provider_errors    THE table: what a provider does wrong becomes an AgentError
    file               the agents file, which names several and says more of each
    model_strings      `openai:MODEL` and the like become a model
    more_tools         what the agents file adds to an agent's own tools, by way of
        mcp                tools of MCP servers
        tool_rules         who runs a tool, who approves it, once, how long
    threaded           ThreadedAgent, a user's own agent on an event loop in a separate thread
    local_model        starts and stops the small model on this machine, which is served by
        local_server       a separate program: it imports nothing of Parley

Of Parley's own packages they import the core and each other. How a user's agent is written, and
what its tools are told of the turn, is said in `pydantic_agent`.
"""

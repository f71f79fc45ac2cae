"""Tools of MCP servers, within bounds. Decision 0034.

servers       the servers of an agents file, on an event loop in a thread of their own
connection    one server: reached, listed, called, and reached again after it has died
streamable_http  messages over HTTP, within bounds
stdio         messages of a child process, within bounds; launcher starts it
messages      what comes of either: too long, garbage, lists of tools
listing       what a server says of its tools, and under which names agents get them
results       what a tool returned: as text within bounds, without secrets
toolset       the tools of servers beside those of an agent's own
"""

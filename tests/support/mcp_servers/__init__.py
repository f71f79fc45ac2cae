"""Real servers of the `mcp` package, and one that writes what no server should, as programs."""

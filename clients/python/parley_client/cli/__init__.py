"""The command `parley`: talk to an agent in a terminal or a script, and look at what was said."""

from parley_client.cli.app import main

__all__ = ["main"]

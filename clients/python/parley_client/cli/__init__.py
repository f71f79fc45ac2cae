"""The command `parley`: talk to an agent in a terminal or a script, and read conversations.

It needs the libraries of the extra `cli`, which an installation of the clients alone does not have.
"""

import sys
from importlib.util import find_spec

LIBRARIES = frozenset({"markdown_it", "platformdirs", "prompt_toolkit", "rich", "typer"})
"""What the extra `cli` installs, by the names that are imported."""


def main() -> None:
    """Run the command, or say how to install what it needs and exit with 1."""
    for library in sorted(LIBRARIES):
        if find_spec(library) is None:
            sys.exit(
                f"parley: the command needs {library}, which is not installed: "
                "`pip install 'parley[cli]'` adds what is missing to this installation"
            )
    from parley_client.cli.app import main as run

    run()

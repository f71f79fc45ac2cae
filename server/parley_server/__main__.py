"""The server's command. It is written in `commands`, which needs what the extra [server] brings."""

import sys


def main() -> None:
    """Run the command; if a package is missing, say in one sentence what to install."""
    try:
        from parley_server.process.commands import app

        app()
    except ImportError as error:
        sys.exit(
            f"parley-server: the package {error.name} is missing: "
            "install Parley with its extras [server,embedded,local]"
        )


if __name__ == "__main__":
    main()

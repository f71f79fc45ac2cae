"""The server's command. It is written in `commands`, which needs what the extra [server] brings."""

import sys
from importlib import import_module


def main() -> None:
    """Run the command; if a package is missing, say in one sentence what to install."""
    try:
        import_logging()
        from parley_server.process.commands import app

        app()
    except ImportError as error:
        sys.exit(
            f"parley-server: the package {error.name} is missing: "
            "install Parley with its extras [server,embedded,local]"
        )


def import_logging() -> None:
    """Import structlog, without Rich if that was not imported before.

    It would draw tracebacks with it, of which none is logged. That would take a sixth of the time
    of all imports, and 4 MB of each process.
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import_module("structlog")
    finally:
        del sys.modules["rich"]


if __name__ == "__main__":
    main()

"""What a server does not import: it would cost each start time and each worker memory."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "package",
    [
        "sqlalchemy",
        "alembic",
        "pydantic_ai",
        "prometheus_client",
        "opentelemetry",
        "a2a",
        "fastmcp",
        "mcp",
        "httpx2",
        "jsonschema",
        "rich",
    ],
)
def test_serving_does_not_import(package: str) -> None:
    program = (
        "import sys\n"
        "from parley_server import __main__\n"
        "__main__.import_logging()\n"
        "import parley_server.process.commands, parley_server.process.bootstrap,"
        " parley_server.process.serving\n"
        f"print({package!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert "False" == done.stdout.strip(), done.stderr

"""Fixtures come from tests/support, one plugin a subject."""

import os
import signal
import sys
from pathlib import Path

import pytest

# Tests start some hundred processes. Each would compile all it imports, which takes longer than
# most tests, where PYTHONDONTWRITEBYTECODE is set, as in containers. Nothing lands beside sources.
sys.pycache_prefix = os.environ.setdefault(
    "PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / "build" / "pycache")
)
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

pytest_plugins = [
    "support.other_postgres",
    "support.databases",
    "support.published_keys",
    "support.services",
    "support.released",
    "support.pgbouncers",
    "support.roles",
    "support.two_owners",
    "support.postgres_wire",
    "support.attacked_workers",
    "support.configs",
    "support.moved_postgres",
    "support.torture.experiments",
    "support.torture.replicated",
    "support.traced_workers",
    "support.web_proxies",
]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell's background job, which ignores Ctrl-C, and so would whatever the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # As below nohup: the run goes on, but what it starts takes the signal as it usually would.
    signal.signal(signal.SIGHUP, lambda *_: None)

_LONGEST = ("tests/together/", "tests/docs/", "tests/server/test_")
"""Where single tests take up to a minute. With them at the end, most processors would wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests; otherwise the order stays."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))

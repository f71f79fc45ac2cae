"""Fixtures come from tests/support, one plugin a subject."""

import signal

pytest_plugins = [
    "support.databases",
    "support.published_keys",
    "support.services",
    "support.roles",
    "support.two_owners",
    "support.postgres_wire",
    "support.attacked_workers",
    "support.configs",
    "support.moved_postgres",
    "support.traced_workers",
]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell's background job, which ignores Ctrl-C, and so would whatever the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

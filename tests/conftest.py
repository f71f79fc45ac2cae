"""Fixtures come from tests/support, one plugin a subject."""

pytest_plugins = [
    "support.databases",
    "support.published_keys",
    "support.services",
    "support.roles",
    "support.twins",
    "support.postgres_wire",
    "support.victims",
]

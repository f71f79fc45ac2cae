"""Databases with row security on, and a role that works on their tables and owns none."""

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from parley_server.storage.schema import row_security
from support.databases import as_superuser

GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"


def as_role(url: str, role: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}:{password}@{host}").geturl()


@pytest.fixture(scope="session")
def server_role(postgres_url: str) -> Iterator[tuple[str, str]]:
    """A role without any rights of its own, and its password."""
    role, password = f"parley_server_{secrets.token_hex(4)}", secrets.token_hex(16)
    with psycopg.connect(as_superuser(postgres_url), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        yield role, password
        connection.execute(f"DROP ROLE {role}")


@pytest.fixture
def granted_url(database_url: str, server_role: tuple[str, str]) -> str:
    """This test's database, for a role that may work on its tables and owns none."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(GRANT.format(role=server_role[0]))
    return as_role(database_url, *server_role)


@pytest.fixture
def walled_url(database_url: str, granted_url: str) -> str:
    """The same with row security on."""
    assert row_security.switch(database_url, is_on=True)
    return granted_url

"""TLS to the database: what `sslmode=verify-full` in PARLEY_DATABASE_URL does, and renewals."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from parley_server.storage.schema import version
from parley_server.storage.schema.reaching import DatabaseAway
from support.certificates import Certificates
from support.secured_postgres import SecuredPostgres
from support.services import StartService, eventually

NAME = "database.test"


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
async def secured(database_url: str, files: Certificates) -> AsyncIterator[SecuredPostgres]:
    if "host=/" not in database_url:
        pytest.skip("PARLEY_TEST_DATABASE_URL is not the embedded Postgres on its Unix socket")
    async with SecuredPostgres(database_url, files).running() as secured:
        yield secured


def url_of(secured: SecuredPostgres, roots: Path, *, name: str = NAME) -> str:
    return (
        f"postgresql://parley@/{secured.database}?host={name}&hostaddr=127.0.0.1"
        f"&port={secured.port}&sslmode=verify-full&sslrootcert={roots}"
    )


async def test_verify_full_trusts_the_named_authority_and_the_named_host_only(
    start_service: StartService, secured: SecuredPostgres, files: Certificates, tmp_path: Path
) -> None:
    ca, roots = trustme.CA(), tmp_path / "roots.crt"
    files.write(ca, name=NAME)
    ca.cert_pem.write_to_path(str(roots))
    service = await start_service(database_url=url_of(secured, roots))
    assert "HELLO" == (await service.chat("hello")).response

    with pytest.raises(DatabaseAway):
        await asyncio.to_thread(version.check, url_of(secured, roots, name="another.test"))
    trustme.CA().cert_pem.write_to_path(str(roots))
    with pytest.raises(DatabaseAway):
        await asyncio.to_thread(version.check, url_of(secured, roots))


async def test_renewed_authorities_are_trusted_by_new_connections(
    start_service: StartService, secured: SecuredPostgres, files: Certificates, tmp_path: Path
) -> None:
    """libpq reads the file at every connection, so that no worker has to be restarted."""
    old, new, roots = trustme.CA(), trustme.CA(), tmp_path / "roots.crt"
    files.write(old, name=NAME)
    old.cert_pem.write_to_path(str(roots))
    service = await start_service(database_url=url_of(secured, roots))
    await service.chat("hello")

    files.write(new, name=NAME)
    new.cert_pem.write_to_path(str(roots))
    secured.cut()
    answer = await eventually(lambda: service.chat("and again"))

    assert "AND AGAIN" == answer.response

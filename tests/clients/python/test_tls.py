"""A caller's own certificate: for both clients and the command."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from parley_client import AsyncParleyClient, ParleyClient, Unavailable, tls
from support.certificates import Certificates
from support.services import StartService, a_token

CALLERS = trustme.CA()
COMMAND = (sys.executable, "-c", "from parley_client.cli import main; main()")


@pytest.fixture
async def address(start_service: StartService, tmp_path: Path) -> str:
    """A server that asks for certificates of CALLERS; its own is for localhost."""
    ca, files = trustme.CA(), Certificates(tmp_path)
    files.write(ca, name="localhost")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    pair = CALLERS.issue_cert("caller.test")
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "caller.crt"))
    pair.private_key_pem.write_to_path(str(tmp_path / "caller.key"))
    service = await start_service(**files.settings(client_ca=CALLERS))
    return f"localhost:{service.port}"


@pytest.mark.slow
async def test_both_clients_show_their_certificate(address: str, tmp_path: Path) -> None:
    own = tls(tmp_path / "ca.crt", tmp_path / "caller.crt", str(tmp_path / "caller.key"))

    def said() -> str:
        with ParleyClient(address, token=a_token(), credentials=own) as client:
            return client.chat("hello").response

    assert "HELLO" == await asyncio.to_thread(said)
    async with AsyncParleyClient(address, token=a_token(), credentials=own) as client:
        assert "HELLO" == (await client.chat("hello")).response
    without = tls(tmp_path / "ca.crt")
    async with AsyncParleyClient(address, token=a_token(), credentials=without) as client:
        with pytest.raises(Unavailable):
            await client.chat("hello")


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give both files"):
        tls(cert_file=tmp_path / "caller.crt")


@pytest.mark.slow
async def test_the_command_shows_its_certificate(address: str, tmp_path: Path) -> None:
    files = {
        "PARLEY_CA_FILE": str(tmp_path / "ca.crt"),
        "PARLEY_CERT_FILE": str(tmp_path / "caller.crt"),
        "PARLEY_KEY_FILE": str(tmp_path / "caller.key"),
    }

    async def said(**environment: str) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, "chat", "hello", "--timeout", "20"],
            env={"PARLEY_ADDRESS": address, "PARLEY_TOKEN": a_token(), **environment},
            capture_output=True,
            text=True,
        )

    done = await said(**files)
    assert (0, "HELLO\n") == (done.returncode, done.stdout), done.stderr
    assert 6 == (await said(PARLEY_CA_FILE=files["PARLEY_CA_FILE"])).returncode
    for settings, expected in (
        ({"PARLEY_CERT_FILE": files["PARLEY_CERT_FILE"]}, "go together"),
        ({**files, "PARLEY_PLAINTEXT": "1"}, "--plaintext excludes"),
    ):
        done = await said(**settings)
        assert (2, True) == (done.returncode, expected in done.stderr), done.stderr

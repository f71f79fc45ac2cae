"""`parley-server check`, as a probe on the same machine runs it."""

import asyncio
from pathlib import Path

import pytest
import trustme

from support.certificates import Certificates
from support.processes import ServerProcess, run
from support.web_proxies import a_recording_proxy


async def checked(server: ServerProcess, *arguments: str, **environment: str) -> tuple[int, str]:
    """Return the exit code, and what was said of the server."""
    address = f"127.0.0.1:{server.port}"
    done = await asyncio.to_thread(run, "check", "--address", address, *arguments, **environment)
    return done.returncode, done.stderr.strip().removeprefix("parley-server: ")


def variables(settings: dict[str, str]) -> dict[str, str]:
    return {f"PARLEY_{name.upper()}": value for name, value in settings.items()}


@pytest.mark.slow
async def test_check_tells_readiness_liveness_and_any_service(database_url: str) -> None:
    with ServerProcess(database_url) as server:
        at = f"127.0.0.1:{server.port}"
        assert (0, f"{at}: SERVING") == await checked(server)
        assert (0, f"{at}: SERVING") == await checked(server, "--liveness")
        own = ("--service", "parley.v1.ConversationService")
        assert (0, f"{at}: SERVING") == await checked(server, *own)
        assert (1, f"{at} has no health service any") == await checked(server, "--service", "any")
        both = await checked(server, *own, "--liveness")
        assert (1, "--service and --liveness cannot be used together") == both


@pytest.mark.slow
async def test_check_asks_the_server_itself_whatever_proxy_the_variables_name(
    database_url: str, tmp_path: Path
) -> None:
    """Fails without grpc.enable_http_proxy, over plaintext and over TLS alike."""
    files = Certificates(tmp_path)
    files.write(trustme.CA())
    async with a_recording_proxy() as proxy:
        for settings in ({}, files.settings()):
            with ServerProcess(database_url, **settings) as server:
                code, said = await checked(server, **variables(settings), **proxy.variables)
                assert (0, True) == (code, said.endswith(": SERVING")), said
        assert [] == proxy.asked


@pytest.mark.slow
async def test_check_trusts_the_configured_certificate_and_no_other(
    database_url: str, tmp_path: Path
) -> None:
    """The certificate has another name than the address, and its authority is not at hand."""
    ca, files = trustme.CA(), Certificates(tmp_path)
    files.write(ca)
    with ServerProcess(database_url, **files.settings()) as server:
        code, said = await checked(server, **variables(files.settings()))
        assert (0, True) == (code, said.endswith(": SERVING")), said
        assert 1 == (await checked(server))[0]  # plaintext
        other = tmp_path / "other"
        other.mkdir()
        Certificates(other).write(ca)
        code, said = await checked(server, **variables(Certificates(other).settings()))
        assert (1, True) == (code, "does not answer: UNAVAILABLE" in said), said


@pytest.mark.slow
@pytest.mark.parametrize("is_shown", [True, False])
async def test_check_shows_a_certificate_where_one_is_asked_for(
    database_url: str, tmp_path: Path, is_shown: bool
) -> None:
    """The server's own one is shown by itself; it does where its authority is the callers' too."""
    ca, callers, files = trustme.CA(), trustme.CA(), Certificates(tmp_path)
    files.write(ca)
    settings = files.settings(client_ca=callers if is_shown else ca)
    environment = variables(settings)
    if is_shown:
        pair = callers.issue_cert("probe.test")
        environment["PARLEY_CERT_FILE"] = str(tmp_path / "probe.crt")
        environment["PARLEY_KEY_FILE"] = str(tmp_path / "probe.key")
        pair.cert_chain_pems[0].write_to_path(environment["PARLEY_CERT_FILE"])
        pair.private_key_pem.write_to_path(environment["PARLEY_KEY_FILE"])
    with ServerProcess(database_url, **settings) as server:
        code, said = await checked(server, **environment)
        assert (0, True) == (code, said.endswith(": SERVING")), said
        if is_shown:
            del environment["PARLEY_CERT_FILE"]
            code, said = await checked(server, **environment)
            assert (1, True) == (code, "UNAVAILABLE" in said), said


def test_check_names_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    settings = variables(Certificates(tmp_path).settings())
    done = run("check", **settings)
    assert (1, True) == (done.returncode, "PARLEY_TLS_CERT_FILE: " in done.stderr), done.stderr

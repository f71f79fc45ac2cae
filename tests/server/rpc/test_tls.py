"""TLS: who is trusted, on both sides, and certificates that are renewed while calls go on."""

import datetime
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from structlog.testing import capture_logs

from parley.v1 import conversation_service_pb2 as pb
from parley.v1.conversation_service_pb2_grpc import ConversationServiceStub
from support.agents import ScriptedAgent, Speaker
from support.certificates import Certificates, a_clock_at, as_named, shown_by, trusting
from support.processes import ServerProcess, run
from support.services import StartService, metadata


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, ca: trustme.CA) -> Certificates:
    files = Certificates(tmp_path)
    files.write(ca)
    return files


@asynccontextmanager
async def connected(
    port: int, credentials: grpc.ChannelCredentials
) -> AsyncIterator[ConversationServiceStub]:
    address = f"127.0.0.1:{port}"
    async with grpc.aio.secure_channel(address, credentials, as_named()) as channel:
        yield ConversationServiceStub(channel)


async def outcome(port: int, credentials: grpc.ChannelCredentials) -> str:
    """Return what becomes of one call on a connection of its own."""
    async with connected(port, credentials) as stub:
        try:
            await stub.Chat(  # type: ignore[misc]  # an asynchronous stub: the types say either
                pb.ChatRequest(message="hello"), metadata=metadata("ada"), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def test_a_call_over_tls_is_answered_where_the_authority_is_trusted(
    start_service: StartService, files: Certificates, ca: trustme.CA
) -> None:
    service = await start_service(**files.settings())

    assert "OK" == await outcome(service.port, trusting(ca))
    assert "UNAVAILABLE" == await outcome(service.port, trusting(trustme.CA()))
    with pytest.raises(grpc.aio.AioRpcError):
        await service.chat()  # plaintext


async def test_mtls_takes_calls_of_its_authoritys_certificates_only(
    start_service: StartService, files: Certificates, ca: trustme.CA
) -> None:
    """Fails when the server does not require a certificate."""
    callers = trustme.CA()
    service = await start_service(**files.settings(client_ca=callers))

    assert "OK" == await outcome(service.port, trusting(ca, callers.issue_cert("caller.test")))
    assert "UNAVAILABLE" == await outcome(service.port, trusting(ca))
    stranger = trustme.CA().issue_cert("caller.test")
    assert "UNAVAILABLE" == await outcome(service.port, trusting(ca, stranger))


async def test_a_renewed_certificate_is_shown_while_an_open_stream_goes_on(
    start_service: StartService, files: Certificates, ca: trustme.CA
) -> None:
    """Fails with credentials that are read once."""
    speaker = Speaker()
    service = await start_service(ScriptedAgent(speaker), **files.settings())
    request = pb.StreamChatRequest(chat=pb.ChatRequest(message="hello"))
    async with connected(service.port, trusting(ca)) as stub:
        stream: Any = aiter(stub.StreamChat(request, metadata=metadata("ada"), timeout=60))
        assert (await anext(stream)).HasField("started")

        new_ca = trustme.CA()
        files.write(new_ca)
        assert await shown_by(service.port) in files.cert.read_text()
        speaker.say("still here", None)
        rest = [event async for event in stream]

    assert "still here" == rest[-1].completed.response
    speaker.say("hello", None)
    assert "OK" == await outcome(service.port, trusting(new_ca))
    assert "UNAVAILABLE" == await outcome(service.port, trusting(ca))


async def test_renewed_callers_authorities_are_asked_for(
    start_service: StartService, files: Certificates, ca: trustme.CA
) -> None:
    first, second = trustme.CA(), trustme.CA()
    service = await start_service(**files.settings(client_ca=first))
    second.cert_pem.write_to_path(str(files.client_ca))

    assert "OK" == await outcome(service.port, trusting(ca, second.issue_cert("caller.test")))
    assert "UNAVAILABLE" == await outcome(service.port, trusting(ca, first.issue_cert("a.test")))


def new_key_alone(files: Certificates, ca: trustme.CA) -> None:
    files.key.write_bytes(ca.issue_cert("parley.test").private_key_pem.bytes())


def half_a_key(files: Certificates, ca: trustme.CA) -> None:
    files.write(ca)
    files.key.write_bytes(files.key.read_bytes()[:100])


def half_a_certificate(files: Certificates, ca: trustme.CA) -> None:
    files.write(ca)
    files.cert.write_bytes(files.cert.read_bytes()[:100])


def no_key(files: Certificates, ca: trustme.CA) -> None:
    files.key.unlink()


def expired(files: Certificates, ca: trustme.CA) -> None:
    files.write(ca, expires=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))


Damage = Callable[[Certificates, trustme.CA], None]
DAMAGES: dict[Damage, str] = {
    new_key_alone: "PARLEY_TLS_KEY_FILE: does not belong to the certificate",
    half_a_key: "PARLEY_TLS_KEY_FILE: must hold a private key in PEM without a passphrase",
    half_a_certificate: "PARLEY_TLS_CERT_FILE: must hold certificates in PEM",
    no_key: "tls.key cannot be read: No such file or directory",
    expired: "PARLEY_TLS_CERT_FILE: expired at",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_pair_that_does_not_fit_is_ignored_and_the_old_one_stays(
    start_service: StartService, files: Certificates, ca: trustme.CA, damage: Damage
) -> None:
    """Fails when what the files hold is shown without a look at it."""
    service = await start_service(**files.settings())
    old = files.cert.read_text()
    with capture_logs() as lines:
        damage(files, ca)
        for _ in range(3):
            assert await shown_by(service.port) in old
        assert "OK" == await outcome(service.port, trusting(ca))
    said = [line for line in lines if line["event"].startswith("new certificate rejected")]
    assert 1 == len(said)
    assert DAMAGES[damage] in said[0]["why"]

    files.write(ca)
    assert await shown_by(service.port) in files.cert.read_text()


async def test_a_certificate_that_comes_too_early_is_shown_once_it_is_valid(
    start_service: StartService,
    files: Certificates,
    ca: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where clocks differ. Fails when files that were rejected are not looked at again."""
    service = await start_service(**files.settings())
    old = files.cert.read_text()
    monkeypatch.setattr("parley_server.rpc.tls.LOOK_AGAIN_S", 0)
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    files.write(ca, begins=tomorrow)
    assert await shown_by(service.port) in old

    monkeypatch.setattr("parley_server.rpc.tls.datetime", a_clock_at(tomorrow))
    assert await shown_by(service.port) in files.cert.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_start_without_a_fitting_pair_is_refused_in_one_sentence(
    files: Certificates, ca: trustme.CA, damage: Damage
) -> None:
    """With two workers, too: the pair is looked at before there are any."""
    damage(files, ca)
    done = serve(workers="2", **files.settings())

    assert 1 == done.returncode
    assert DAMAGES[damage] in done.stderr
    assert 1 == done.stderr.count("\n"), done.stderr


def test_settings_that_go_together_are_asked_for_together(files: Certificates) -> None:
    named = files.settings(client_ca=trustme.CA())
    cert, key = named["tls_cert_file"], named["tls_key_file"]
    for settings, expected in (
        ({"tls_cert_file": cert}, "set both"),
        ({"tls_key_file": key}, "set both"),
        ({"tls_client_ca_file": named["tls_client_ca_file"]}, "set PARLEY_TLS_CERT_FILE and"),
    ):
        done = serve(**settings)
        assert (1, True) == (done.returncode, expected in done.stderr), done.stderr


async def test_workers_below_a_parent_speak_tls_and_renew(
    database_url: str, files: Certificates, ca: trustme.CA
) -> None:
    with ServerProcess(database_url, workers=2, **files.settings()) as server:
        for _ in range(8):  # both workers have their turn
            assert "OK" == await outcome(server.port, trusting(ca))
        files.write(ca)
        for _ in range(8):
            assert await shown_by(server.port) in files.cert.read_text()
        assert "over TLS" in "".join(server.output)


def serve(**settings: str) -> "subprocess.CompletedProcess[str]":
    named = {f"PARLEY_{name.upper()}": value for name, value in settings.items()}
    return run("serve", PARLEY_AGENT="echo", PARLEY_DATA_DIR="/nonexistent", **named)

"""How servers are reached: plaintext on this machine, TLS elsewhere, retries by gRPC."""

import asyncio
import datetime
import ipaddress
import json

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parley.v1 import conversation_service_pb2 as pb
from parley_client import AsyncParleyClient, ParleyClient, Unavailable
from parley_client.channels import credentials_for, is_on_this_machine, options
from support.agents import Gate, ScriptedAgent
from support.scripted_server import an_answer, scripted
from support.services import StartService, a_token


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "127.8.0.1:1",
        "localhost:50051",
        "localhost",
        "[::1]:50051",
        "ipv4:127.0.0.1:50051",
        "dns:///localhost:50051",
        "dns:localhost:50051",
        "unix:/run/parley.sock",
        "unix:///run/parley.sock",
    ],
)
def test_this_machine_is_spoken_to_in_plaintext(address: str) -> None:
    assert is_on_this_machine(address)
    assert credentials_for(address, None) is None


@pytest.mark.parametrize(
    "address",
    [
        "parley.internal:443",
        "dns:///parley.internal:443",
        "10.0.0.7:50051",
        "[2001:db8::1]:50051",
        "localhost.example.com:50051",
        "127.0.0.1.example.com:50051",
        "dns://127.0.0.1/parley.internal:443",
    ],
)
def test_another_machine_is_spoken_to_with_tls_unless_told(address: str) -> None:
    assert not is_on_this_machine(address)
    assert isinstance(credentials_for(address, None), grpc.ChannelCredentials)
    assert credentials_for(address, "plaintext") is None


def test_the_service_config_covers_the_contracts_service_and_nothing_but_unavailable() -> None:
    config = json.loads(str(dict(options())["grpc.service_config"]))
    methods, streams, deletions = config["methodConfig"]
    service = pb.DESCRIPTOR.services_by_name["ConversationService"].full_name
    assert [{"service": service}] == methods["name"]
    assert ["UNAVAILABLE"] == methods["retryPolicy"]["retryableStatusCodes"]
    # A stream is asked for again by the client, which knows where it was lost: not by both.
    descriptor = pb.DESCRIPTOR.services_by_name["ConversationService"]
    streaming = {method.name for method in descriptor.methods if method.server_streaming}
    assert streaming == {name["method"] for name in streams["name"]}
    assert "retryPolicy" not in streams
    # Nor a deletion: its last try's NOT_FOUND depends on what the tries before it ended with.
    assert [{"service": service, "method": "DeleteConversation"}] == deletions["name"]
    assert "retryPolicy" not in deletions
    assert [{"round_robin": {}}] == config["loadBalancingConfig"]


def test_a_server_that_was_away_for_long_is_looked_for_every_five_seconds() -> None:
    """gRPC's own wait between two tries to connect grows to two minutes."""
    assert 5_000 == dict(options())["grpc.max_reconnect_backoff_ms"]


def a_certificate() -> tuple[bytes, bytes]:
    """Return a key and a certificate of this machine's, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(pem)


@pytest.mark.slow
async def test_both_clients_speak_tls() -> None:
    key, certificate = a_certificate()
    trusted = grpc.ssl_channel_credentials(certificate)

    def chat(address: str) -> str:
        with ParleyClient(address, token="secret", credentials=trusted) as client:
            return client.chat("hello").response

    async with scripted(
        an_answer(), credentials=grpc.ssl_server_credentials([(key, certificate)])
    ) as server:
        async with AsyncParleyClient(server.address, token="secret", credentials=trusted) as client:
            assert "HELLO" == (await client.chat("hello")).response
        assert "HELLO" == await asyncio.to_thread(chat, server.address)
        async with AsyncParleyClient(server.address) as plain:
            with pytest.raises(Unavailable):
                await plain.chat("hello")
    assert ["Bearer secret"] * 2 == [a.metadata["authorization"] for a in server.asked]


async def test_more_calls_than_one_connection_takes_are_under_way_at_once(
    start_service: StartService,
) -> None:
    """Fails without CONNECTION_SCALING: the 101st waits in the client."""
    gate = Gate()
    service = await start_service(ScriptedAgent(gate))
    async with AsyncParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client:
        calls = [asyncio.ensure_future(client.chat("hello")) for _ in range(150)]
        while len(service.worker.turns.attempts) < 150:
            await asyncio.sleep(0.05)
        gate.opened.set()
        assert {"HELLO"} == {(await call).response for call in calls}

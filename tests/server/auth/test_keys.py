"""Keys: what is taken, what is refused, and that nothing of them shows."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from parley_server.auth.keys import (
    MAX_FILE_BYTES,
    MAX_KEYS,
    MAX_TRIED,
    Algorithm,
    Key,
    KeySet,
    UnusableKeys,
    parse_keys,
    read_keys,
)

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
TO_JWK: dict[str, Any] = {
    "RSA": RSAAlgorithm.to_jwk,
    "EC": ECAlgorithm.to_jwk,
    "Ed": OKPAlgorithm.to_jwk,
}


def a_pem(private: Any) -> bytes:
    public: bytes = private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return public


def a_private_pem(private: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    made: bytes = private.private_bytes(Encoding.PEM, form, NoEncryption())
    return made


def a_certificate(private: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    day = datetime(2020, 1, 1, tzinfo=UTC)
    algorithm = None if isinstance(private, ed25519.Ed25519PrivateKey) else SHA256()
    return (
        x509.CertificateBuilder(name, name, private.public_key(), 1, day, day + timedelta(1))
        .sign(private, algorithm)
        .public_bytes(Encoding.PEM)
    )


def a_jwk(private: Any, **members: Any) -> dict[str, Any]:
    kind = next(kind for kind in TO_JWK if kind in type(private).__name__)
    return {**TO_JWK[kind](private.public_key(), as_dict=True), **members}


def a_jwks(*jwks: Any) -> bytes:
    return json.dumps({"keys": jwks}).encode()


def refusal_of(content: bytes) -> str:
    with pytest.raises(UnusableKeys) as refused:
        parse_keys(content, "keys.pem")
    return str(refused.value)


@pytest.mark.parametrize(
    ("private", "expected"),
    [(RSA, Algorithm.RS256), (EC, Algorithm.ES256), (ED, Algorithm.EDDSA)],
)
def test_public_key_binds_its_algorithm_in_every_form(private: Any, expected: Algorithm) -> None:
    for content in (a_pem(private), a_certificate(private), a_jwks(a_jwk(private))):
        (key,) = parse_keys(content, "keys")
        assert expected == key.algorithm
        assert private.public_key() == key.material


def test_secret_binds_hs256() -> None:
    assert Algorithm.HS256 == Key(secrets.token_bytes(32)).algorithm


def test_algorithm_of_a_key_cannot_be_chosen() -> None:
    with pytest.raises(TypeError):
        Key(secrets.token_bytes(32), algorithm=Algorithm.RS256)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Key(secrets.token_bytes(32)).algorithm = Algorithm.RS256  # type: ignore[misc]


def test_pem_file_holds_several_keys_with_text_around_them(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(b"old:\n" + a_pem(RSA) + b"new:\n" + a_certificate(EC) + a_pem(ED))

    keys = read_keys(file)

    assert [Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA] == [key.algorithm for key in keys]
    assert [None, None, None] == [key.kid for key in keys]


def test_pkcs1_public_key_is_taken() -> None:
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)

    assert [Algorithm.RS256] == [key.algorithm for key in parse_keys(pem, "keys.pem")]


def test_byte_order_mark_is_skipped() -> None:
    content = b"\xef\xbb\xbf" + a_jwks(a_jwk(EC))

    assert [Algorithm.ES256] == [key.algorithm for key in parse_keys(content, "jwks.json")]


def test_jwks_keeps_key_ids_and_leaves_out_keys_for_encryption() -> None:
    content = a_jwks(
        a_jwk(RSA, kid="a", use="sig", alg="RS256"),
        a_jwk(RSA, kid="b", use="enc", alg="RSA-OAEP"),
        a_jwk(EC, kid="c", key_ops=["deriveKey"]),
        a_jwk(EC, kid="d", key_ops=["verify"]),
        a_jwk(ED),
    )

    assert ["a", "d", None] == [key.kid for key in parse_keys(content, "jwks.json")]


@pytest.mark.parametrize("length", [0, 1, 31])
def test_secret_that_is_short_is_refused(length: int) -> None:
    with pytest.raises(UnusableKeys, match=f"secret of {length} bytes is too short: at least 32"):
        Key(b"x" * length)


@pytest.mark.parametrize(
    "secret",
    [a_pem(EC), a_private_pem(RSA), a_certificate(ED), json.dumps(a_jwk(EC)).encode()],
    ids=["public key", "private key", "certificate", "JWK"],
)
def test_secret_that_is_no_secret_is_refused(secret: bytes) -> None:
    with pytest.raises(UnusableKeys, match="use random bytes"):
        Key(secret)


@pytest.mark.parametrize(
    "pem",
    [
        a_private_pem(RSA),
        a_private_pem(RSA, PrivateFormat.TraditionalOpenSSL),
        a_private_pem(EC, PrivateFormat.TraditionalOpenSSL),
        a_private_pem(ED, PrivateFormat.OpenSSH),
        a_pem(RSA) + a_private_pem(ED),
    ],
    ids=["PKCS#8", "PKCS#1", "SEC1", "OpenSSH", "behind a public one"],
)
def test_private_key_in_pem_is_refused(pem: bytes) -> None:
    expected = "keys.pem holds a private key: only public keys belong there"

    assert expected == refusal_of(pem)


@pytest.mark.parametrize("private", [RSA, EC, ED])
def test_private_key_in_a_jwks_is_refused(private: Any) -> None:
    kind = next(kind for kind in TO_JWK if kind in type(private).__name__)
    jwk = TO_JWK[kind](private, as_dict=True)

    expected = "keys.pem, key 2 is a private key: only public keys belong there"

    assert expected == refusal_of(a_jwks(a_jwk(RSA), jwk))
    assert expected == refusal_of(a_jwks(a_jwk(RSA), {**jwk, "use": "enc"}))


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "c2VjcmV0" * 8},
        {"kty": "oct", "k": "c2VjcmV0" * 8, "use": "enc"},
        {"kty": "oct"},
        a_jwk(RSA, k="c2VjcmV0"),
    ],
)
def test_symmetric_key_in_a_jwks_is_refused(jwk: dict[str, str]) -> None:
    expected = "keys.pem, key 1 is a symmetric key: only public keys belong there"

    assert expected == refusal_of(a_jwks(jwk))


@pytest.mark.parametrize(
    "content",
    [a_pem(SHORT_RSA), a_certificate(SHORT_RSA), a_jwks(a_jwk(SHORT_RSA))],
    ids=["PEM", "certificate", "JWKS"],
)
def test_rsa_key_that_is_short_is_refused(content: bytes) -> None:
    expected = "keys.pem, key 1: an RSA key of 1,024 bits is too short: at least 2,048 are needed"

    assert expected == refusal_of(content)


OTHER_CURVES = {
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed448": ed448.Ed448PrivateKey.generate(),
}


@pytest.mark.parametrize(
    "content",
    [
        *(a_pem(private) for private in OTHER_CURVES.values()),
        *(a_jwks(a_jwk(private)) for private in OTHER_CURVES.values()),
        a_pem(x25519.X25519PrivateKey.generate()),
        a_pem(dsa.generate_private_key(1024)),
        a_jwks(a_jwk(ED, crv="X25519")),
        a_jwks(a_jwk(EC, crv="P-999")),
        a_jwks(a_jwk(EC, x=a_jwk(EC)["y"])),
        a_jwks(a_jwk(EC, x=1)),
        a_jwks({"kty": "RSA", "e": "AQAB"}),
        a_jwks({"kty": "RSA", "n": "!", "e": None}),
        a_jwks({"kty": ["RSA"]}),
        a_jwks({"kty": "LWE"}),
        a_jwks({}),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
    ],
    ids=lambda _: "",  # made anew in each process: no name of a test
)
def test_key_of_another_kind_is_refused_with_what_to_use(content: bytes) -> None:
    refusal = refusal_of(content)

    assert refusal.startswith("keys.pem, key 1")
    assert refusal.endswith("use RSA of 2,048 bits or more, EC on P-256, or Ed25519")


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (a_jwk(RSA, alg="PS256"), "keys.pem, key 1 is for an algorithm other than RS256"),
        (a_jwk(RSA, alg="HS256"), "keys.pem, key 1 is for an algorithm other than RS256"),
        (a_jwk(EC, alg=None), "keys.pem, key 1 is for an algorithm other than ES256"),
        (a_jwk(ED, kid=1), "keys.pem, key 1 has a kid that is not a string"),
        (a_jwk(ED, kid=None), "keys.pem, key 1 has a kid that is not a string"),
        ("a word", "keys.pem, key 1 is not an object"),
    ],
)
def test_jwk_that_contradicts_itself_is_refused(jwk: Any, expected: str) -> None:
    assert expected == refusal_of(a_jwks(jwk))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "keys.pem holds neither PEM nor a JWKS"),
        (b"ssh-ed25519 AAAA", "keys.pem holds neither PEM nor a JWKS"),
        (b'[{"kty": "RSA"}]', "keys.pem holds neither PEM nor a JWKS"),
        (b"{", "keys.pem is not valid JSON"),
        (b'{"keys": ' + b"[" * 100_000, "keys.pem is not valid JSON"),
        (b'{"keys": "\xff"}', "keys.pem is not valid JSON"),
        (b"{}", 'keys.pem is not a JWKS: it has no list "keys"'),
        (b'{"keys": {}}', 'keys.pem is not a JWKS: it has no list "keys"'),
        (a_jwks(), "keys.pem holds no key for checking signatures"),
        (
            a_jwks(a_jwk(RSA, use="enc")),
            "keys.pem holds no key for checking signatures",
        ),
        (a_pem(RSA)[:-30], "keys.pem holds a PEM block that is cut off or malformed"),
        (a_pem(ED) + a_pem(RSA)[:-30], "keys.pem holds a PEM block that is cut off or malformed"),
        (
            b"-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----",
            "keys.pem, key 1 is neither a public key nor a certificate",
        ),
        (b" " * (MAX_FILE_BYTES + 1), "keys.pem is larger than 1,048,576 bytes"),
        (a_pem(ED) * (MAX_KEYS + 1), "keys.pem: there are 33 keys: at most 32 can be used"),
        (
            a_jwks(a_jwk(RSA, kid="a"), a_jwk(RSA, kid="a")),
            "keys.pem: two keys have the same algorithm and the same kid",
        ),
    ],
)
def test_keys_text_that_makes_no_sense_is_refused(content: bytes, expected: str) -> None:
    assert expected == refusal_of(content)


def test_keys_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableKeys, match=r"absent\.pem cannot be read: No such file"):
        read_keys(tmp_path / "absent.pem")


@given(st.binary(max_size=200), st.sampled_from([b"", b"{", b'{"keys":[{', b"-----BEGIN PUBLIC "]))
def test_keys_text_raises_nothing_but_its_own_error(content: bytes, start: bytes) -> None:
    assert refusal_of(start + content).startswith("keys.pem")


def test_key_and_refusals_show_no_key() -> None:
    secret = b"hunter2-hunter2-hunter2-hunter2!"
    jwk = {"kty": "oct", "k": "hunter2"}

    assert "Key(kid=None, algorithm=<Algorithm.HS256: 'HS256'>)" == repr(Key(secret))
    assert "hunter2" not in refusal_of(a_jwks(jwk)) + refusal_of(b"hunter2")
    assert "BEGIN" not in repr(parse_keys(a_pem(RSA), "keys.pem"))


def test_key_set_needs_a_key() -> None:
    with pytest.raises(UnusableKeys, match="there is no key"):
        KeySet([])


def test_key_set_chooses_by_algorithm_then_by_id() -> None:
    a, b, nameless = Key(ED.public_key(), "a"), Key(ED.public_key(), "b"), Key(ED.public_key())
    rsa_a, secret = Key(RSA.public_key(), "a"), Key(secrets.token_bytes(32))
    keys = KeySet([a, b, nameless, rsa_a, secret])

    assert [a, b, nameless] == keys.candidates("EdDSA", None)
    assert [a] == keys.candidates("EdDSA", "a")
    assert [rsa_a] == keys.candidates("RS256", "a")
    assert [nameless] == keys.candidates("EdDSA", "unknown")
    assert [] == keys.candidates("RS256", "unknown")
    assert [secret] == keys.candidates("HS256", "a")
    unbound: tuple[object, ...] = ("ES256", "none", "", None, 1, ["RS256"], {})
    for algorithm in unbound:
        assert [] == keys.candidates(algorithm, None)


def test_token_that_names_no_key_is_tried_with_16() -> None:
    """Fails when it is tried with all of them: a token of 8 KiB then costs twice as much."""
    nameless = [Key(ED.public_key()) for _ in range(MAX_TRIED + 1)]
    named = Key(EC.public_key(), "last")
    keys = KeySet([*nameless, named])

    assert nameless[:16] == keys.candidates("EdDSA", None)
    assert nameless[:16] == keys.candidates("EdDSA", "unknown")
    many = KeySet([Key(ED.public_key(), str(number)) for number in range(MAX_KEYS)])
    assert ["31"] == [key.kid for key in many.candidates("EdDSA", "31")]

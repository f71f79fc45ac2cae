"""What makes a token valid. Every refusal is one and the same.

Every check of the verifier that no other one repeats was taken out once, and a test here failed.
"""

import json
import logging
import re
import unicodedata
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from parley_server.auth.jwt_verifier import MAX_TOKEN_BYTES, JwtVerifier
from parley_server.auth.keys import Key, UnusableKeys
from parley_server.core.errors import Unauthenticated
from parley_server.core.model import Owner, Principal, is_name
from support.bad_tokens import BAD_NAMES, MISSING, a_token, as_json, bad_tokens, sign_raw

SECRET = b"throw-away-throw-away-throw-away"
ISSUER, AUDIENCE = "https://issuer.example", "parley-test"
NOW = 1_800_000_000
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED, OTHER_ED = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, Any] = {"HS256": SECRET, "RS256": RSA, "ES256": EC, "EdDSA": ED}
KEYS = {
    "HS256": Key(SECRET),
    "RS256": Key(RSA.public_key()),
    "ES256": Key(EC.public_key()),
    "EdDSA": Key(ED.public_key()),
}
ALICE = Principal(Owner.of("", "alice"), None)
BAD_TOKENS = bad_tokens(SECRET, ISSUER, AUDIENCE, NOW)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


class Clock:
    def __init__(self, now_s: float = NOW) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def a_verifier(*keys: Key, tenant_claim: str | None = None, **options: Any) -> JwtVerifier:
    options = {"clock": Clock()} | options
    return JwtVerifier(keys or [Key(SECRET)], ISSUER, AUDIENCE, tenant_claim, **options)


def a_signed(algorithm: str, signer: Any = None, **header: str) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 60}
    return jwt.encode(claims, signer or SIGNERS[algorithm], algorithm, header)


def a_good(header: dict[str, Any] | None = None, **claims: Any) -> str:
    return a_token(SECRET, ISSUER, AUDIENCE, header=header, claims=claims, now_s=NOW)


def assert_refused(verifier: JwtVerifier, token: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verifier.check(token)
    error = refused.value
    assert Unauthenticated is type(error)
    assert Unauthenticated().args == error.args
    assert (None, None) == (error.__cause__, error.__context__)


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_token_is_valid_with_each_algorithm(algorithm: str) -> None:
    token = a_signed(algorithm)

    assert ALICE == a_verifier(KEYS[algorithm]).check(token)
    assert ALICE == a_verifier(*KEYS.values()).check(token)


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_token_that_is_bad_is_refused_in_the_one_wording(name: str) -> None:
    """`a_good()` is what each of them differs from in one thing, so that it is refused for that."""
    verifier = a_verifier()
    assert ALICE == verifier.check(a_good())

    assert_refused(verifier, BAD_TOKENS[name])
    assert_refused(a_verifier(*KEYS.values()), BAD_TOKENS[name])


@pytest.mark.parametrize("token", ["\u00fc", "\ud800", "a.b.\u00fc", "\x00", a_good() + "\u2028"])
def test_token_that_is_not_ascii_is_refused(token: str) -> None:
    assert_refused(a_verifier(), token)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_token_signed_by_hmac_with_a_public_key_is_refused(algorithm: str) -> None:
    public = SIGNERS[algorithm].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    for secret in (pem, pem.strip(), der):
        for alg in ("HS256", algorithm):
            token = a_token(secret, ISSUER, AUDIENCE, header={"alg": alg}, now_s=NOW)
            assert_refused(a_verifier(KEYS[algorithm]), token)
            assert_refused(a_verifier(*KEYS.values()), token)


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_token_of_an_algorithm_without_a_key_is_refused(algorithm: str) -> None:
    others = [key for name, key in KEYS.items() if name != algorithm]

    assert_refused(a_verifier(*others), a_signed(algorithm))


def test_token_of_another_algorithm_of_the_same_key_is_refused() -> None:
    for algorithm in ("RS384", "RS512", "PS256"):
        assert_refused(a_verifier(KEYS["RS256"]), a_signed(algorithm, RSA))
    for algorithm in ("HS384", "HS512"):
        long_secret = SECRET * 2
        assert_refused(a_verifier(Key(long_secret)), a_signed(algorithm, long_secret))


def test_kid_chooses_the_key() -> None:
    verifier = a_verifier(Key(ED.public_key(), "a"), Key(OTHER_ED.public_key(), "b"))

    assert ALICE == verifier.check(a_signed("EdDSA", ED, kid="a"))
    assert ALICE == verifier.check(a_signed("EdDSA", OTHER_ED, kid="b"))
    assert_refused(verifier, a_signed("EdDSA", ED, kid="b"))
    assert_refused(verifier, a_signed("EdDSA", ED, kid="c"))


def test_token_without_kid_is_tried_against_all_keys_of_its_algorithm() -> None:
    verifier = a_verifier(Key(OTHER_ED.public_key(), "b"), Key(ED.public_key(), "a"), KEYS["RS256"])

    assert ALICE == verifier.check(a_signed("EdDSA", ED))
    assert_refused(verifier, a_signed("EdDSA", ed25519.Ed25519PrivateKey.generate()))


def test_kid_is_ignored_where_keys_have_none() -> None:
    assert ALICE == a_verifier(KEYS["EdDSA"]).check(a_signed("EdDSA", ED, kid="whatever"))


@pytest.mark.parametrize("typ", [MISSING, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_typ_of_an_access_token_is_taken(typ: Any) -> None:
    assert ALICE == a_verifier().check(a_good({"typ": typ}))


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["another-service", AUDIENCE]])
def test_audience_may_stand_in_a_list(audience: Any) -> None:
    assert ALICE == a_verifier().check(a_good(aud=audience))


def test_token_of_8_kib_is_taken_and_a_byte_more_is_not_even_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_size = {len(t): t for t in (a_good(x="x" * n) for n in range(5940, 6000))}
    verifier = a_verifier()
    assert ALICE == verifier.check(by_size[MAX_TOKEN_BYTES])

    monkeypatch.setattr(jwt, "get_unverified_header", lambda token: pytest.fail("was parsed"))
    assert_refused(verifier, min(t for size, t in by_size.items() if size > MAX_TOKEN_BYTES))


@pytest.mark.parametrize(
    ("claims", "first_s", "last_s"),
    [
        ({"exp": NOW}, None, 29.9),
        ({"exp": NOW + 0.5}, None, 30.4),
        ({"nbf": NOW}, -30, None),
        ({"iat": NOW}, -30, None),
        ({"nbf": NOW, "iat": NOW + 9.5}, -20.5, None),
    ],
)
def test_times_are_checked_with_a_leeway_of_30_s(
    claims: dict[str, float], first_s: float | None, last_s: float | None
) -> None:
    token = a_good(None, **{"iat": MISSING} | claims)

    for edge_s, outside_s in ((first_s, -0.2), (last_s, 0.2)):
        if edge_s is not None:
            assert ALICE == a_verifier(clock=Clock(NOW + edge_s)).check(token)
            assert_refused(a_verifier(clock=Clock(NOW + edge_s + outside_s)), token)


def test_leeway_is_configurable() -> None:
    token = a_good(exp=NOW)

    assert ALICE == a_verifier(leeway_s=31, clock=Clock(NOW + 30)).check(token)
    assert_refused(a_verifier(leeway_s=0, clock=Clock(NOW)), token)


@pytest.mark.parametrize(
    "name", ["a", "x" * 255, "\u00fc" * 127, "auth0|5f7c", " a ", "\U0001f469"]
)
def test_names_become_the_owner_unchanged(name: str) -> None:
    claim, tenant = "https://issuer.example/tenant", "T" + name[1:]
    token = a_good(None, **{"sub": name, claim: tenant})

    assert Owner.of(tenant, name) == a_verifier(tenant_claim=claim).check(token).owner


def test_tenant_is_required_where_it_is_configured() -> None:
    verifier = a_verifier(tenant_claim="tenant")

    assert Owner.of("acme", "alice") == verifier.check(a_good(tenant="acme")).owner
    assert_refused(verifier, a_good())
    for tenant in BAD_NAMES.values():
        assert_refused(verifier, a_good(tenant=tenant))


def test_tenant_is_ignored_where_it_is_not_configured() -> None:
    assert ALICE == a_verifier().check(a_good(tenant="acme"))


@pytest.mark.parametrize(
    ("scope", "unless_required", "if_required"),
    [
        (MISSING, None, frozenset()),
        ("", frozenset(), frozenset()),
        (" ", frozenset(), frozenset()),
        ("parley.read", {"parley.read"}, {"parley.read"}),
        (" b  a b ", {"a", "b"}, {"a", "b"}),
        ("a\tb\u00a0c", {"a\tb\u00a0c"}, {"a\tb\u00a0c"}),
    ],
)
def test_scope_restricts(scope: Any, unless_required: object, if_required: object) -> None:
    assert unless_required == a_verifier().check(a_good(scope=scope)).scopes
    assert if_required == a_verifier(require_scopes=True).check(a_good(scope=scope)).scopes


@given(st.text() | st.text(st.characters(max_codepoint=0xA0), max_size=3))
def test_name_is_taken_exactly_as_the_design_says(name: str) -> None:
    try:
        fits = 1 <= len(name.encode()) <= 255
    except UnicodeEncodeError:
        fits = False
    controls = any(unicodedata.category(char) in ("Cc", "Cs") for char in name)

    assert (fits and not controls and not name.isspace()) == is_name(name)


def test_name_may_hold_every_character_that_is_no_control() -> None:
    every = [chr(point) for point in range(0x110000)]
    expected = [char for char in every if unicodedata.category(char) in ("Cc", "Cs")]

    assert expected == [char for char in every if not is_name(f"a{char}")]


@given(st.text(st.characters(max_codepoint=0x7F)) | st.text())
def test_verifier_refuses_any_text(token: str) -> None:
    assert_refused(a_verifier(), token)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_verifier_refuses_any_signed_bytes(header: bytes, payload: bytes) -> None:
    assert_refused(a_verifier(), sign_raw(SECRET, header, b"{}"))
    assert_refused(a_verifier(), sign_raw(SECRET, b'{"alg":"HS256"}', payload))


@given(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "x5c", "jwk", "jku"]),
    st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "scope", "tenant", "jti", "x"]),
    JSON,
)
def test_verifier_raises_nothing_but_unauthenticated(member: str, claim: str, value: Any) -> None:
    verifier = a_verifier(tenant_claim="tenant")
    for token in (a_good({member: value}, tenant="t"), a_good(**{"tenant": "t", claim: value})):
        try:
            caller = verifier.check(token)
        except Unauthenticated:
            continue
        assert is_name(caller.owner.user)
        assert is_name(caller.owner.tenant)


@given(st.data())
def test_token_with_one_character_changed_is_refused(data: st.DataObject) -> None:
    token = a_signed(data.draw(st.sampled_from(list(SIGNERS))))
    place = data.draw(st.integers(0, len(token) - 1))
    char = data.draw(st.characters(max_codepoint=0x7F).filter(lambda char: char != token[place]))
    verifier = a_verifier(*KEYS.values())
    assert ALICE == verifier.check(token)

    assert_refused(verifier, token[:place] + char + token[place + 1 :])


def test_duplicate_claim_counts_as_its_last() -> None:
    """As RFC 7519, section 4, allows; the corpus has the cases where the last one is bad."""
    claims = as_json({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW, "sub": "mallory"})
    token = sign_raw(SECRET, b'{"alg":"HS256"}', claims[:-1] + b', "sub": "alice"}')

    assert ALICE == a_verifier().check(token)


def test_log_has_the_type_of_what_was_wrong_and_nothing_of_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        for token in BAD_TOKENS.values():
            assert_refused(a_verifier(), token)

    assert len(BAD_TOKENS) == len(caplog.records)
    assert "token refused: ExpiredSignatureError" in caplog.messages
    for record in caplog.records:
        assert logging.DEBUG == record.levelno
        assert record.exc_info is None
        assert re.fullmatch(r"token refused: [A-Z][A-Za-z]+", record.getMessage())


def test_verifier_shows_no_secret() -> None:
    verifier = a_verifier()
    verifier.check(a_good())

    assert SECRET.decode() not in repr(verifier) + repr(vars(verifier))


@pytest.mark.parametrize("claim", ["", "sub", "iss", "aud", "exp", "nbf", "iat", "jti", "scope"])
def test_tenant_claim_with_another_meaning_is_refused(claim: str) -> None:
    with pytest.raises(ValueError, match=f'the tenant claim cannot be "{claim}"'):
        a_verifier(tenant_claim=claim)


def test_verifier_needs_keys_issuer_and_audience() -> None:
    with pytest.raises(UnusableKeys):
        JwtVerifier([], ISSUER, AUDIENCE, None)
    for issuer, audience in (("", AUDIENCE), (ISSUER, "")):
        with pytest.raises(ValueError, match="without an issuer and an audience"):
            JwtVerifier([Key(SECRET)], issuer, audience, None)


def test_bad_tokens_can_all_be_sent_as_metadata() -> None:
    assert json.dumps(BAD_TOKENS).isascii()
    assert all(re.fullmatch(r"[ -~]{0,9300}", token) for token in BAD_TOKENS.values())
    assert len(BAD_TOKENS) == len(set(BAD_TOKENS.values())) > 100

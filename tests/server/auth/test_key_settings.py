"""Where keys may come from: one place, reached safely, or the server does not start."""

from pathlib import Path

import pytest

from parley_server.config import BadSettings, Settings, load
from parley_server.process.wiring import verifier_for

IDENTITY = {"auth_issuer": "https://issuer.example", "auth_audience": "parley"}
URL = "https://issuer.example/.well-known/jwks.json"
SECRET = "a secret of this test run, thirty-two bytes and more"


def with_url(monkeypatch: pytest.MonkeyPatch, url: str) -> Settings:
    monkeypatch.setenv("PARLEY_AUTH_JWKS_URL", url)
    return load()


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "HTTPS://ISSUER.example:8443/keys?tenant=acme",
        "https://10.0.0.7/keys",
        "https://[2001:db8::1]/keys",
        "http://localhost:8080/keys",
        "http://127.0.0.1/keys",
        "http://127.9.9.9:1/keys",
        "http://[::1]:8080/keys",
    ],
)
def test_jwks_url_may_be_https_or_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert url == with_url(monkeypatch, url).auth_jwks_url


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys",
        "http://10.0.0.7/keys",
        "http://0.0.0.0/keys",
        "http://169.254.169.254/keys",
        "http://localhost.issuer.example/keys",
        "http://127.0.0.1.issuer.example/keys",
        "http://127.0.0.1@issuer.example/keys",
        "http://issuer.example/127.0.0.1",
        "https://user:password@issuer.example/keys",
        "https://",
        "https:///keys",
        "https://issuer.example:port/keys",
        "https://issuer.example/a b",
        "https://[issuer.example/keys",
        "file:///etc/parley/keys",
        "issuer.example/keys",
        "ftp://127.0.0.1/keys",
    ],
)
def test_jwks_url_that_is_not_safe_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """In one sentence, which does not repeat a password."""
    with pytest.raises(BadSettings) as refused:
        with_url(monkeypatch, url)
    (sentence,) = str(refused.value).splitlines()
    assert sentence.startswith("PARLEY_AUTH_JWKS_URL: must be an https:// URL without")
    assert "user:password" not in sentence


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"auth_hs256_secret": SECRET, "auth_jwks_url": URL},
            "PARLEY_AUTH_HS256_SECRET and PARLEY_AUTH_JWKS_URL are set together: choose one",
        ),
        (
            {"auth_keys_file": "keys.pem", "auth_jwks_url": URL},
            "PARLEY_AUTH_KEYS_FILE and PARLEY_AUTH_JWKS_URL are set together: choose one",
        ),
        (
            {"auth_hs256_secret": SECRET, "auth_keys_file": "keys.pem"},
            "PARLEY_AUTH_HS256_SECRET and PARLEY_AUTH_KEYS_FILE are set together: choose one",
        ),
        (
            {"auth_hs256_secret": SECRET, "auth_keys_file": "keys.pem", "auth_jwks_url": URL},
            "PARLEY_AUTH_HS256_SECRET and PARLEY_AUTH_KEYS_FILE and PARLEY_AUTH_JWKS_URL "
            "are set together: choose one",
        ),
        ({}, "without keys the server cannot identify callers"),
    ],
)
def test_keys_come_from_one_place(keys: dict[str, str], expected: str) -> None:
    settings = Settings(database_url="postgresql://x", agent="echo", **IDENTITY, **keys)
    with pytest.raises(BadSettings, match=expected):
        settings.check_serving()


@pytest.mark.parametrize("missing", IDENTITY)
def test_jwks_url_needs_issuer_and_audience(missing: str) -> None:
    settings = Settings(
        database_url="postgresql://x",
        agent="echo",
        auth_jwks_url=URL,
        **(IDENTITY | {missing: None}),
    )
    with pytest.raises(BadSettings, match="set PARLEY_AUTH_ISSUER and PARLEY_AUTH_AUDIENCE"):
        settings.check_serving()


@pytest.mark.parametrize(("name", "value"), [("hs256_secret", SECRET), ("jwks_url", URL)])
def test_each_place_alone_is_enough(name: str, value: str) -> None:
    settings = Settings(
        database_url="postgresql://x", agent="echo", **{f"auth_{name}": value}, **IDENTITY
    )

    settings.check_serving()
    assert settings.has_keys


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "holds neither PEM nor a JWKS"),
        ('{"keys": []}', "holds no key for checking signatures"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_without_keys_is_named_with_its_setting(
    tmp_path: Path, content: str | None, expected: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadSettings) as refused:
        verifier_for(Settings(auth_keys_file=file, **IDENTITY))
    assert f"PARLEY_AUTH_KEYS_FILE: {file} {expected}" == str(refused.value)


async def test_a_tenant_claim_with_another_meaning_is_refused_before_keys_are_fetched() -> None:
    """Fails when only a verifier looks at it: with published keys, each call then ends INTERNAL."""
    for keys in ({"auth_hs256_secret": SECRET}, {"auth_jwks_url": URL}):
        settings = Settings(auth_tenant_claim="sub", **keys, **IDENTITY)
        with pytest.raises(BadSettings, match=r'PARLEY_AUTH_TENANT_CLAIM: .* cannot be "sub"'):
            verifier_for(settings)

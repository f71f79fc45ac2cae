"""Tokens that no server may take; each differs in one thing from a token that every server takes.

All of them can be sent as gRPC metadata (printable ASCII, 9 KiB at most) to a server that allows
more than the 8 KiB of metadata that gRPC allows by default.
"""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MISSING = object()
"""As a claim's or a header's value: leave it out."""


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def as_json(value: dict[str, Any]) -> bytes:
    return json.dumps({k: v for k, v in value.items() if v is not MISSING}).encode()


def sign_raw(secret: bytes, header: bytes, payload: bytes, digest: str = "sha256") -> str:
    """Return a token of these very bytes with an HMAC signature, whatever they are."""
    signed = f"{base64url(header)}.{base64url(payload)}"
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), digest))}"


def a_token(
    secret: bytes,
    issuer: str,
    audience: str,
    *,
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    now_s: float | None = None,
) -> str:
    """Return a good token with some header members and claims put in, replaced, or MISSING."""
    now = int(time.time() if now_s is None else now_s)
    good = {"iss": issuer, "aud": audience, "sub": "alice", "iat": now, "exp": now + 3600}
    return sign_raw(
        secret,
        as_json({"alg": "HS256", "typ": "JWT"} | (header or {})),
        as_json(good | (claims or {})),
    )


def bad_tokens(
    secret: bytes, issuer: str, audience: str, now_s: float | None = None
) -> dict[str, str]:
    """Return bad tokens by what is wrong with them.

    Args:
        secret: the one HS256 secret of the server under test, which wants no tenant claim.
        issuer, audience: what that server expects.
        now_s: seconds since 1970; None: the machine's clock.
    """
    now = time.time() if now_s is None else now_s

    def token(header: dict[str, Any] | None = None, **claims: Any) -> str:
        return a_token(secret, issuer, audience, header=header, claims=claims, now_s=now)

    return {
        **_malformed(secret, token()),
        **_wrongly_signed(secret, issuer, audience, now),
        **{f"header {name}": token(header) for name, header in _HEADERS.items()},
        **{f"claim {name}": token(**claims) for name, claims in _CLAIMS.items()},
        **{f"sub {name}": token(sub=sub) for name, sub in BAD_NAMES.items()},
        **{f"scope {name}": token(scope=scope) for name, scope in _NOT_TEXT.items()},
        **{
            f"{claim} {name}": token(None, **{claim: value})
            for claim in ("exp", "nbf", "iat")
            for name, value in _NOT_TIMES.items()
        },
        "exp past": token(exp=int(now) - 31),
        "exp twice, the last past": _with_member(secret, token(), b'"exp": 1'),
        "sub twice, the last empty": _with_member(secret, token(), b'"sub": ""'),
        "nbf to come": token(nbf=int(now) + 3600),
        "iat to come": token(iat=int(now) + 3600),
        "iss in other letters": token(iss=issuer.swapcase()),
        "iss with more behind": token(iss=issuer + "/"),
        "aud with more behind": token(aud=audience + "-2"),
        "aud in an object": token(aud={audience: True}),
        "aud beside a number": token(aud=[audience, 1]),
        "iss in a list": token(iss=[issuer]),
        "9 KiB": _of_size(token, 9 * 1024),
        "a byte too long": _of_size(token, 8 * 1024 + 1),
    }


def _malformed(secret: bytes, good: str) -> dict[str, str]:
    header, payload, signature = good.split(".")
    alg = as_json({"alg": "HS256"})
    return {
        "empty": "",
        "a word": "secret",
        "dots": "..",
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{good}.{signature}.{signature}",
        "no header": f".{payload}.{signature}",
        "no payload": f"{header}..{signature}",
        "junk in the header": f"!{header[1:]}.{payload}.{signature}",
        "junk in the payload": f"{header}.{payload[:-1]}*.{signature}",
        "junk in the signature": f"{header}.{payload}.{signature[:-1]}~",
        "white space": f"{header} .{payload}.{signature}",
        "half a character": f"{header}.{payload}.{signature[:-2]}",
        "header is text": sign_raw(secret, b"HS256", b"{}"),
        "header is a list": sign_raw(secret, b'["HS256"]', b"{}"),
        "header is null": sign_raw(secret, b"null", b"{}"),
        "header is no UTF-8": sign_raw(secret, b'{"alg": "HS256", "x": "\xff"}', b"{}"),
        "header is deep": sign_raw(secret, b'{"alg": "HS256", "typ": ' + _DEEP + b"}", b"{}"),
        "payload is empty": sign_raw(secret, alg, b""),
        "payload is text": sign_raw(secret, alg, b"alice"),
        "payload is a list": sign_raw(secret, alg, b"[]"),
        "payload is a number": sign_raw(secret, alg, b"1"),
        "payload is null": sign_raw(secret, alg, b"null"),
        "payload is no UTF-8": sign_raw(secret, alg, b'{"sub": "\xff"}'),
        "payload is deep": sign_raw(secret, alg, b'{"sub": ' + _DEEP + b"}"),
        "payload holds a number of 5,000 digits": sign_raw(
            secret, alg, b'{"exp": ' + b"9" * 5000 + b"}"
        ),
    }


def _wrongly_signed(secret: bytes, issuer: str, audience: str, now: float) -> dict[str, str]:
    def token(key: bytes, **header: Any) -> str:
        return a_token(key, issuer, audience, header=header, now_s=now)

    good = token(secret)
    header, payload, signature = good.split(".")
    other = a_token(secret, issuer, audience, claims={"sub": "mallory"}, now_s=now)
    flipped = "B" if signature[0] == "A" else "A"
    unsigned = base64url(as_json({"alg": "none"}))
    hs512 = as_json({"alg": "HS512"})
    return {
        "alg none": f"{unsigned}.{payload}.",
        "alg none, signed": token(secret, alg="none"),
        "alg NONE": f"{base64url(as_json({'alg': 'NONE'}))}.{payload}.",
        "not signed": f"{header}.{payload}.",
        "signed with another secret": token(hashlib.sha256(secret).digest()),
        "signed with an empty secret": token(b""),
        "signed with a public key": token(_a_public_key()),
        "signed by HMAC with SHA-512": sign_raw(
            secret, hs512, base64.urlsafe_b64decode(payload + "=="), "sha512"
        ),
        "signature altered": f"{header}.{payload}.{flipped}{signature[1:]}",
        "signature of another token": f"{header}.{payload}.{other.rpartition('.')[2]}",
        "payload of another token": f"{header}.{other.split('.')[1]}.{signature}",
    }


def _a_public_key() -> bytes:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _with_member(secret: bytes, good: str, member: bytes) -> str:
    """Return a token with one more member behind its claims, whose name may be there already."""
    payload = base64.urlsafe_b64decode(good.split(".")[1] + "==")
    return sign_raw(secret, as_json({"alg": "HS256"}), payload[:-1] + b", " + member + b"}")


def _of_size(token: Any, size: int) -> str:
    """Return an otherwise good token of exactly this many bytes; not every size can be had."""
    for filler in range(size * 3 // 4 - 400, size):
        made: str = token(filler="x" * filler)
        if len(made) >= size:
            return made
    raise AssertionError


_DEEP = b"[" * 1500 + b"]" * 1500
_NOT_TEXT: dict[str, Any] = {
    "a number": 1,
    "null": None,
    "true": True,
    "a list": ["parley.read"],
    "an object": {},
}
BAD_NAMES: dict[str, Any] = {
    **_NOT_TEXT,
    "empty": "",
    "blank": "   ",
    "blank beyond ASCII": "\u2003\u00a0",
    "of 256 bytes": "x" * 256,
    "of 128 characters and 256 bytes": "\u00fc" * 128,
    "with NUL": "ali\x00ce",
    "with a line end": "alice\n",
    "with an escape": "\x1b[2Jalice",
    "with DEL": "alice\x7f",
    "with a C1 control": "ali\x85ce",
    "with a lone surrogate": "alice\ud800",
    "with surrogates the wrong way round": "\ude00\ud83d",
}
"""What neither a user nor a tenant may be called."""
_NOT_TIMES: dict[str, Any] = {
    "null": None,
    "text": "99999999999",
    "true": True,
    "a list": [99999999999],
    "negative": -1,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "minus infinite": float("-inf"),
    "of 401 digits": 10**400,
    "in milliseconds": 1_900_000_000_000,
}
_HEADERS: dict[str, dict[str, Any]] = {
    "without alg": {"alg": MISSING},
    "alg null": {"alg": None},
    "alg a number": {"alg": 1},
    "alg a list": {"alg": ["HS256"]},
    "alg an object": {"alg": {"HS256": 1}},
    "alg in small letters": {"alg": "hs256"},
    "alg HS384": {"alg": "HS384"},
    "alg RS256": {"alg": "RS256"},
    "alg ES256": {"alg": "ES256"},
    "alg EdDSA": {"alg": "EdDSA"},
    "typ of a proof": {"typ": "dpop+jwt"},
    "typ of a logout": {"typ": "logout+jwt"},
    "typ of an encrypted token": {"typ": "JWE"},
    "typ empty": {"typ": ""},
    "typ null": {"typ": None},
    "typ a list": {"typ": ["JWT"]},
    "crit": {"crit": ["exp"], "exp": 1},
    "crit that PyJWT knows": {"crit": ["b64"], "b64": True},
    "crit empty": {"crit": []},
    "crit a word": {"crit": "exp"},
    "payload not encoded": {"crit": ["b64"], "b64": False},
    "kid a number": {"kid": 1},
    "kid null": {"kid": None},
    "kid a list": {"kid": ["a"]},
}
_CLAIMS: dict[str, dict[str, Any]] = {
    "exp missing": {"exp": MISSING},
    "sub missing": {"sub": MISSING},
    "iss missing": {"iss": MISSING},
    "aud missing": {"aud": MISSING},
    "iss null": {"iss": None},
    "iss a number": {"iss": 1},
    "iss wrong": {"iss": "https://elsewhere.example"},
    "aud null": {"aud": None},
    "aud empty": {"aud": ""},
    "aud wrong": {"aud": "another-service"},
    "aud an empty list": {"aud": []},
    "aud a list of others": {"aud": ["another-service", "a-third"]},
}

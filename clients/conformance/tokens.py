"""Who calls: the tokens of every client that a scenario can name."""

import time
from collections.abc import Mapping
from typing import Any

import jwt

SECRET = "a secret of the conformance runs, thirty-two bytes and more"
ISSUER = AUDIENCE = "parley-conformance"
LIFE_S = 24 * 3600
LONG_AGO_S = -3600


def tokens_of(language: str) -> Mapping[str, str]:
    """Return the tokens by the client's name; empty: none is sent.

    Args:
        language: every one has users of its own, so that runners do not meet.
    """
    ada = f"ada of {language}"
    return {
        "ada": _token(ada),
        "bob": _token(f"bob of {language}"),
        "lister": _token(f"lister of {language}"),
        "exporter": _token(f"exporter of {language}"),
        "cut_exporter": _token(f"cut exporter of {language}"),
        "eraser": _token(f"eraser of {language}", scope="parley.read parley.write parley.erase"),
        "queuer": _token(f"queuer of {language}"),
        "feeder": _token(f"feeder of {language}"),
        "observer": _token(f"observer of {language}", scope="parley.read parley.observe"),
        "spender": _token(f"spender of {language}"),
        "no_token": "",
        "not_a_token": "secret",
        "expired": _token(ada, life_s=LONG_AGO_S),
        "wrong_signature": _token(ada, secret=SECRET[::-1]),
        "unsigned": _token(ada, secret="", algorithm="none"),
        "wrong_issuer": _token(ada, iss="somebody else"),
        "wrong_audience": _token(ada, aud="another service"),
        "no_user": _token(""),
        "read_only": _token(ada, scope="parley.read"),
        "write_only": _token(ada, scope="parley.write"),
        "other_scope": _token(ada, scope="mail.read"),
    }


def _token(
    user: str,
    *,
    life_s: int = LIFE_S,
    secret: str = SECRET,
    algorithm: str = "HS256",
    **claims: Any,
) -> str:
    now_s = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now_s, "exp": now_s + life_s}
    return jwt.encode(good | claims, secret, algorithm)

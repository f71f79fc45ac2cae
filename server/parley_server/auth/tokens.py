"""Makes tokens with the shared secret, for people who try Parley out and for tests."""

import time
from collections.abc import Callable

import jwt

from parley_server.auth.jwt_verifier import LAST_TIME_S, check_tenant_claim
from parley_server.auth.keys import Key
from parley_server.core.model import MAX_NAME_BYTES, is_name


def mint(
    secret: bytes,
    user: str,
    tenant: str,
    ttl_s: int,
    issuer: str,
    audience: str,
    tenant_claim: str | None,
    scope: str | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> str:
    """Return a token that a server with this secret, issuer, audience and tenant claim takes.

    Args:
        secret: at least 32 bytes.
        user, tenant: 1 to 255 bytes of UTF-8; the tenant is empty if there is no tenant claim.
        ttl_s: how long it is valid, in seconds, from 1.
        scope: names separated by spaces. None: the token is not restricted.
    Raises:
        UnusableKeys: the secret cannot be used.
        ValueError: another argument cannot; the message is one sentence for the user.
    """
    key = Key(secret)
    check_tenant_claim(tenant_claim)
    if tenant and tenant_claim is None:
        raise ValueError("a tenant needs a configured tenant claim")
    for role, name in (("user", user), ("tenant", tenant)):
        if not is_name(name) and (role == "user" or tenant_claim is not None):
            raise ValueError(
                f"the {role} must be 1 to {MAX_NAME_BYTES} bytes of UTF-8, not blank, "
                "without control characters"
            )
    now_s = int(clock())
    if not 1 <= ttl_s <= LAST_TIME_S - now_s:
        raise ValueError("the time to live must be at least a second and end before the year 10000")
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "iat": now_s,
        "exp": now_s + ttl_s,
    }
    if tenant_claim is not None:
        claims[tenant_claim] = tenant
    if scope is not None:
        claims["scope"] = scope
    return jwt.encode(claims, secret, key.algorithm)

"""Checks JSON Web Tokens and says whose they are.

PyJWT parses a token and checks signature, issuer and audience. What it leaves open is closed here:
size, `typ`, `crit`, times on a clock that tests can move, and the names of users and tenants.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jwt
from jwt.exceptions import InvalidSubjectError

from parley_server.auth.keys import Key, KeySet
from parley_server.core.errors import Unauthenticated
from parley_server.core.model import Owner, Principal, is_name

MAX_TOKEN_BYTES = 8 * 1024
REMEMBER_S = 60
"""How long a verified token is taken without checking it again (decision 0003)."""
REMEMBER_TOKENS = 10_000
REMEMBER_SCOPES = 64
"""A token with more scopes is checked every time: the set can be far larger than the token."""
LAST_TIME_S = 253_402_300_799
"""The end of the year 9999, in seconds since 1970: a larger claim is in other units, or a trick."""
CLAIMS_WITH_A_MEANING = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope"})

_TYPES = frozenset({"jwt", "at+jwt"})
_PYJWT = jwt.PyJWT(
    {
        "require": ["exp", "sub", "iss", "aud"],
        "enforce_minimum_key_length": True,
        # Checked here: PyJWT reads the machine's clock, and takes "1" and true for numbers.
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
    }
)
_log = logging.getLogger(__name__)


class JwtVerifier:
    """The TokenVerifier for signed tokens.

    Args:
        keys: 1 to 32.
        issuer: the `iss` that a token must have.
        audience: what a token's `aud` must be or contain.
        tenant_claim: the claim that names the tenant, which every token must then carry. None:
            there are no tenants, and every owner's tenant is empty.
        leeway_s: how far the clocks of issuer and worker may be apart, in seconds.
        require_scopes: True: a token without a `scope` claim has no scope. False: it has all.
        clock: seconds since 1970.
        remember_tokens: how many verified tokens are remembered.
    Raises:
        UnusableKeys: there is no key, or they cannot be told apart.
        ValueError: the issuer or audience is empty, or the tenant claim has another meaning.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        issuer: str,
        audience: str,
        tenant_claim: str | None,
        leeway_s: float = 30,
        *,
        require_scopes: bool = False,
        clock: Callable[[], float] = time.time,
        remember_tokens: int = REMEMBER_TOKENS,
    ) -> None:
        if not issuer or not audience:
            raise ValueError("tokens cannot be checked without an issuer and an audience")
        check_tenant_claim(tenant_claim)
        self._keys = KeySet(keys)
        self._issuer = issuer
        self._audience = audience
        self._tenant_claim = tenant_claim
        self._leeway_s = leeway_s
        self._require_scopes = require_scopes
        self._clock = clock
        self._verified = _VerifiedTokens(remember_tokens)

    has_keys = True
    keys_age_s = None

    async def open(self) -> None:
        """Its keys are there: nothing is opened."""

    async def close(self) -> None:
        """Nothing was opened."""

    async def verify(self, token: str) -> Principal:
        """Return whose token this is: the port's method. Nothing is waited for."""
        return self.check(token)

    def check(self, token: str) -> Principal:
        """Return whose token this is.

        Raises: Unauthenticated, whatever is wrong with it.
        Guarantees: nothing in a token makes it raise anything else, and nothing of it is logged.
        """
        try:
            return self._verify(token)
        except Exception as cause:  # a token is anybody's bytes: whatever they set off refuses it
            _log.debug("token refused: %s", type(cause).__name__)
        raise Unauthenticated  # outside of the handler, so that the cause is not carried along

    def unknown_kid(self, token: str) -> str | None:
        """Return the id of the key that a refused token asks for, if there is no such key."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except Exception:  # a token is anybody's bytes, and this one was refused already
            return None
        return kid if isinstance(kid, str) and not self._keys.has(kid) else None

    def _verify(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES:
            raise jwt.DecodeError
        digest = hashlib.sha256(token.encode("ascii")).digest()
        now = self._clock()
        caller = self._verified.get(digest, now)
        if caller is None:
            claims = self._signed_claims(token)
            end = self._end(claims, now)
            caller = self._caller(claims)
            self._verified.put(digest, caller, now, min(end, now + REMEMBER_S))
        return caller

    def _signed_claims(self, token: str) -> dict[str, Any]:
        """Check header, signature, issuer and audience; return the claims."""
        header = jwt.get_unverified_header(token)
        _check_header(header)
        for key in self._keys.candidates(header.get("alg"), header.get("kid")):
            try:
                return _PYJWT.decode(
                    token,
                    key.material,
                    [key.algorithm],
                    issuer=self._issuer,
                    audience=self._audience,
                )
            except jwt.InvalidSignatureError:
                continue
        raise jwt.InvalidSignatureError

    def _end(self, claims: dict[str, Any], now: float) -> float:
        """Check the claims that are times; return when the token stops to be valid."""
        end = _time_s(claims["exp"]) + self._leeway_s
        if now >= end:
            raise jwt.ExpiredSignatureError
        for claim in ("nbf", "iat"):
            if claim in claims and _time_s(claims[claim]) > now + self._leeway_s:
                raise jwt.ImmatureSignatureError
        return end

    def _caller(self, claims: dict[str, Any]) -> Principal:
        tenant = "" if self._tenant_claim is None else _name(claims.get(self._tenant_claim))
        return Principal(Owner.of(tenant, _name(claims["sub"])), self._scopes(claims))

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str] | None:
        if "scope" not in claims:
            return frozenset() if self._require_scopes else None
        scope = claims["scope"]
        if not isinstance(scope, str):
            raise jwt.InvalidTokenError
        return frozenset(scope.split(" ")) - {""}


class _Verified(NamedTuple):
    caller: Principal
    since: float
    until: float


class _VerifiedTokens:
    """Tokens that were found good, by SHA-256, for a while.

    Guarantees: every method takes constant time. When it is full, the oldest entry goes: they end
    in about that order; a flood of tokens only makes other tokens be checked again.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, _Verified] = OrderedDict()

    def get(self, digest: bytes, now: float) -> Principal | None:
        entry = self._entries.get(digest)
        # A clock that was set back must not make an entry last longer.
        if entry is None or not entry.since <= now < entry.until:
            return None
        return entry.caller

    def put(self, digest: bytes, caller: Principal, since: float, until: float) -> None:
        if caller.scopes is not None and len(caller.scopes) > REMEMBER_SCOPES:
            return
        self._entries.pop(digest, None)  # or it would keep its old place in the order
        self._entries[digest] = _Verified(caller, since, until)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def check_tenant_claim(claim: str | None) -> None:
    """Raise ValueError if tenants cannot be told by this claim."""
    if claim == "" or claim in CLAIMS_WITH_A_MEANING:
        raise ValueError(f'the tenant claim cannot be "{claim}": that claim is reserved')


def _check_header(header: dict[str, Any]) -> None:
    if "crit" in header:
        raise jwt.InvalidTokenError  # no extension is supported
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise jwt.InvalidTokenError  # made for another purpose (RFC 8725, 3.11; RFC 9068, 4)


def _name(value: object) -> str:
    if not is_name(value):
        raise InvalidSubjectError
    return value


def _time_s(value: object) -> float:
    """Return a claim's time, in seconds since 1970. NaN, infinity, true and "1" are no times."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise jwt.InvalidTokenError
    if not 0 <= value <= LAST_TIME_S:
        raise jwt.InvalidTokenError
    return value

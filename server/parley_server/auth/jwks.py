"""Keys that an issuer publishes at a URL (a JWKS): fetched, kept, and fetched again.

`JwksKeys` holds the newest ones and knows when there may be a fetch; `JwksVerifier` checks tokens
with them. Decision 0011 has the reasons for every bound here.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.auth.keys import Key, UnusableKeys, published_keys
from parley_server.core.endless import endless
from parley_server.core.errors import KeysUnavailable, Unauthenticated
from parley_server.core.model import Principal

if TYPE_CHECKING:
    import httpx2

log = structlog.get_logger("parley.auth")

TIMEOUT_S = 3.0
"""For a whole fetch: name, connection, TLS, answer."""
MAX_DOCUMENT_BYTES = 256 * 1024
REFRESH_S = 300.0
"""How often keys are fetched without a reason: how long a withdrawn key may stay valid."""
MIN_DISTANCE_S = 30.0
"""Between the starts of two fetches, whatever became of the first."""
KEEP_S = 3600.0
"""How long keys are used while no newer ones can be had."""
UNKNOWN_S = 60.0
"""How long an id that the issuer was found not to have causes no fetch."""
UNKNOWN_IDS = 256
MAX_WAITING = 500
"""How many calls may wait for a fetch at once. Whoever makes up a key id may have a call wait, and
each takes some 25 KiB."""


class JwksKeys:
    """The keys of one issuer, as far as they are known.

    Args:
        url: where they are; `https`, or `http` on this machine.
        timeout_s: for a whole fetch, in seconds.
        clock: seconds that only grow.
        sleep: waits so many seconds of that clock.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep
        self._client: httpx2.AsyncClient | None = None
        self._has_failed = False
        self._keys: tuple[Key, ...] = ()
        self._tried_s = self._fetched_s = -math.inf
        self._fetching: asyncio.Task[bool] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._waiting = 0

    @property
    def current(self) -> Sequence[Key]:
        """What tokens may be checked with now: the same object until it changes. Empty: nothing."""
        return self._keys if self._clock() < self._fetched_s + KEEP_S else ()

    @property
    def age_s(self) -> float | None:
        """How long ago the issuer last said what its keys are, in seconds. None: it never did."""
        return None if self._fetched_s == -math.inf else self._clock() - self._fetched_s

    @property
    def unknown_ids(self) -> int:
        """How many ids are remembered that the issuer has no key of."""
        return len(self._unknown)

    async def open(self) -> None:
        """Fetch for the first time, whether that works or not, and keep fetching from then on."""
        self._client = _client(self._url)
        await self.look_again()
        self._refreshing = asyncio.create_task(endless("fetching keys", self._refresh))

    async def close(self) -> None:
        """Stop fetching."""
        for task in (self._refreshing, self._fetching):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._client is not None:
            await self._client.aclose()

    async def look_again(self) -> bool:
        """Wait for the fetch under way, or for a new one if it is time for one.

        Returns: True: the issuer has said what its keys are. False: it has not, or has to be left
            alone for now.
        Guarantees: one fetch at a time, and one in 30 s. Cancelling this leaves it to the others.
        """
        if self._fetching is None or self._fetching.done():
            if self._clock() < self._tried_s + MIN_DISTANCE_S:
                return False
            self._tried_s = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        return await asyncio.shield(self._fetching)

    async def look_again_for_call(self) -> bool:
        """Do the same for a call. Raises: KeysUnavailable: too many calls wait already."""
        if self._waiting >= MAX_WAITING:
            raise KeysUnavailable
        self._waiting += 1
        try:
            return await self.look_again()
        finally:
            self._waiting -= 1

    async def finds(self, kid: str) -> bool:
        """Say whether the issuer has a key of this id, which it did not have so far.

        Raises: KeysUnavailable: too many calls wait for its keys already.
        Guarantees: an id that it was found not to have causes no fetch for 60 s.
        """
        if self._clock() < self._unknown.get(kid, -math.inf):
            return False
        has_looked = await self.look_again_for_call()
        is_found = any(key.kid == kid for key in self.current)
        if has_looked and not is_found:
            self._unknown.pop(kid, None)  # or it would keep its old place in the order
            self._unknown[kid] = self._clock() + UNKNOWN_S
            if len(self._unknown) > UNKNOWN_IDS:
                self._unknown.popitem(last=False)
        return is_found

    async def _refresh(self) -> None:
        while True:
            is_well = bool(self._keys) and self._fetched_s >= self._tried_s
            due_s = self._tried_s + (REFRESH_S if is_well else MIN_DISTANCE_S)
            if self._clock() < due_s:
                await self._sleep(due_s - self._clock())
            else:
                await self.look_again()

    async def _fetch(self) -> bool:
        """Fetch once. False: it did not work, and what was known before goes on."""
        try:
            if self._has_failed:
                await self._reopen()
            async with asyncio.timeout(self._timeout_s):
                keys, left_out = published_keys(await self._document())
        except Exception as error:  # neither issuer nor client promise a closed list of what breaks
            why = str(error) if isinstance(error, UnusableKeys) else type(error).__name__
            log.warning("the issuer's keys cannot be fetched", why=why, age_s=self.age_s)
            self._has_failed = True
            return False
        self._has_failed = False
        self._fetched_s = self._clock()
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            log.info("the issuer's keys have changed", keys=len(keys), left_out=left_out[:5])
        if not keys:
            log.warning("the issuer publishes no usable key", left_out=left_out[:5])
        return True

    async def _reopen(self) -> None:
        """Read again whom to trust: a client does so once, and SSL_CERT_FILE may be a new one."""
        before, self._client = self._client, await asyncio.to_thread(_client, self._url)
        if before is not None:
            await before.aclose()

    async def _document(self) -> bytes:
        if self._client is None:
            raise RuntimeError("not open")
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != 200:
                raise UnusableKeys(f"the issuer answered with the status {response.status_code}")
            document = bytearray()
            async for piece in response.aiter_raw():
                document += piece
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise UnusableKeys(f"the document has more than {MAX_DOCUMENT_BYTES:,} bytes")
        return bytes(document)


class JwksVerifier:
    """The TokenVerifier for an issuer that publishes its keys.

    Args:
        keys: opened and closed with the verifier.
        verifier_of: makes the verifier that checks tokens with certain keys.
    Guarantees: what was found out with keys that have changed since is forgotten with them.
    """

    def __init__(self, keys: JwksKeys, verifier_of: Callable[[Sequence[Key]], JwtVerifier]) -> None:
        self.keys = keys
        self._verifier_of = verifier_of
        self._known: Sequence[Key] = ()
        self._verifier: JwtVerifier | None = None

    async def open(self) -> None:
        await self.keys.open()

    async def close(self) -> None:
        await self.keys.close()

    @property
    def has_keys(self) -> bool:
        return bool(self.keys.current)

    @property
    def keys_age_s(self) -> float | None:
        return self.keys.age_s

    async def verify(self, token: str) -> Principal:
        """Return whose token this is; of one with an unknown key id, after looking for that key.

        Raises:
            Unauthenticated: whatever is wrong with it.
            KeysUnavailable: there is no key, and none can be had at once; or too many wait for one.
        """
        verifier = self._current() or await self._first()
        try:
            return verifier.check(token)
        except Unauthenticated:
            kid = verifier.unknown_kid(token)
        if kid is None or not await self.keys.finds(kid):
            raise Unauthenticated
        return (self._current() or verifier).check(token)

    async def _first(self) -> JwtVerifier:
        await self.keys.look_again_for_call()
        verifier = self._current()
        if verifier is None:
            raise KeysUnavailable
        return verifier

    def _current(self) -> JwtVerifier | None:
        keys = self.keys.current
        if keys is not self._known:
            self._known = keys
            self._verifier = self._verifier_of(keys) if keys else None
        return self._verifier


def _client(url: str) -> "httpx2.AsyncClient":
    import httpx2  # heavy, and only those who fetch keys pay for it

    return httpx2.AsyncClient(
        follow_redirects=False,  # a redirect could choose the keys
        headers={"accept": "application/json", "accept-encoding": "identity"},
        limits=httpx2.Limits(max_keepalive_connections=0),  # it would be idle for minutes
        timeout=None,  # there is one for the whole fetch
        # A proxy is for the way to others. On this machine it would read what is not encrypted.
        trust_env=url.lower().startswith("https:"),
    )

"""Whether a worker can make turns: it has keys, and the database accepts writes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from parley_server.core.endless import endless
from parley_server.core.errors import StoreUnavailable
from parley_server.core.ports import TokenVerifier
from parley_server.storage.schema import pooling, version
from parley_server.storage.schema.reaching import DatabaseAway, UnsafeDatabase
from parley_server.storage.store import PostgresStore

log = structlog.get_logger("parley.app")

DATABASE_WAIT_S = 60.0
"""How long a start waits for the database."""
READINESS_S = 0.5
"""How often health checks look at the database."""


class Readiness:
    """Checks whether a worker is ready, and reports each change."""

    def __init__(
        self,
        store: PostgresStore,
        verifier: TokenVerifier,
        tell: Callable[[bool], None],
        *,
        has_row_security: bool,
        is_prepared: bool,
        listens: bool,
    ) -> None:
        """Look at nothing yet.

        Args:
            tell: called with each change.
            is_prepared: whether the worker prepares statements.
            listens: whether it waits for notifications.
        """
        self._store = store
        self._verifier = verifier
        self._tell = tell
        self._has_row_security = has_row_security
        self._is_prepared = is_prepared
        self._listens = listens
        self._is_told_ready = True
        self._watching: asyncio.Task[None] | None = None

    async def wait_for_database(self) -> None:
        """Wait for the database, with a bound, and check that it may be used.

        Raises: DatabaseAway, UnsafeDatabase.
        """
        deadline = asyncio.get_running_loop().time() + DATABASE_WAIT_S
        while True:
            try:
                return await asyncio.to_thread(self._check)
            except DatabaseAway as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                log.warning("waiting for the database", why=error.why)
                await asyncio.sleep(1)

    def _check(self) -> None:
        url = self._store.url
        version.check(url, has_row_security=self._has_row_security)
        pooling.check(url, is_prepared=self._is_prepared, listens=self._listens)

    async def warn_of_missing_limits(self) -> None:
        """Warn if the database enforces no limit on statements or on waiting for locks."""
        with suppress(StoreUnavailable):
            for name in await version.without_limit(self._store.ending):
                log.warning(f"no {name}: set it for the role with ALTER ROLE ... SET {name} = ...")

    async def open(self) -> None:
        """Say whether the worker is ready, and whenever that changes from now on."""
        self._say(await self.is_ready())
        self._watching = asyncio.create_task(endless("readiness", self._watch))

    async def close(self) -> None:
        """Say nothing more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    @property
    def says_ready(self) -> bool:
        """Whether it was last said that the worker is ready. A drain changes nothing of that."""
        return self._watching is not None and self._is_told_ready

    async def is_ready(self) -> bool:
        """Whether turns can be made now."""
        try:
            sight = await self._store.look()
            version.check_version(sight.version, sight.oldest_worker)
        except (StoreUnavailable, UnsafeDatabase) as error:
            if isinstance(error, UnsafeDatabase) and self._is_told_ready:
                log.error("the database must not be used", why=str(error))
            return False
        return sight.is_writable and self._verifier.has_keys

    async def _watch(self) -> None:
        """Follow database and keys: two looks that agree change the answer."""
        was_ready = self._is_told_ready
        while True:
            await asyncio.sleep(READINESS_S)
            is_ready = await self.is_ready()
            if is_ready == was_ready != self._is_told_ready:
                log.warning("readiness changed", ready=is_ready)
                self._say(is_ready)
            was_ready = is_ready

    def _say(self, is_ready: bool) -> None:
        self._is_told_ready = is_ready
        self._tell(is_ready)

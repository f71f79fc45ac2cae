"""The composition root: a worker, which is one process's worth of Parley, and its parts.

This file and `prepared`, which starts what a worker needs, are the only ones that name concrete
adapters.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
import uuid_utils.compat

from parley_server.agents.catalog import close_agent, create_agent
from parley_server.auth.jwks import JwksKeys, JwksVerifier
from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.auth.keys import Key, read_keys
from parley_server.config import BadSettings, Settings
from parley_server.core.errors import StoreUnavailable
from parley_server.core.ports import NO_METER, Agent
from parley_server.core.reads import Reads
from parley_server.core.runs import TurnSettings
from parley_server.core.turns import OVERTIME_S, Turns
from parley_server.core.waiting import Bells
from parley_server.core.watches import LONGEST_WATCH_S, Watches
from parley_server.core.window import ANSWER_TOKENS
from parley_server.rpc.admission import Admission
from parley_server.rpc.options import Limits, options
from parley_server.rpc.server import Server
from parley_server.rpc.tls import BadCertificate, Renewing, TlsFiles
from parley_server.storage import schema
from parley_server.storage.database import DatabaseAway, UnsafeDatabase
from parley_server.storage.signals import NoSignals, PostgresSignals
from parley_server.storage.store import PostgresStore

if TYPE_CHECKING:
    from parley_server.metrics import Metrics

log = structlog.get_logger("parley.app")

DATABASE_WAIT_S = 60.0
"""How long a start waits for the database."""
UNKNOWN_CONTEXT_TOKENS = 16_384
"""The context that a model is taken to have of which nothing is known."""
READINESS_S = 0.5
"""How often the database is looked at for the sake of health checks."""


def verifier_for(settings: Settings) -> JwtVerifier | JwksVerifier:
    """Return who checks tokens.

    Raises: BadSettings.
    """

    def with_keys(keys: Sequence[Key]) -> JwtVerifier:
        return JwtVerifier(
            keys,
            settings.auth_issuer or "",
            settings.auth_audience or "",
            settings.auth_tenant_claim,
            require_scopes=settings.auth_require_scopes,
        )

    try:
        if settings.auth_jwks_url is not None:
            return JwksVerifier(JwksKeys(settings.auth_jwks_url), with_keys)
        if settings.auth_keys_file is not None:
            return with_keys(read_keys(settings.auth_keys_file))
        if settings.auth_hs256_secret is not None:
            return with_keys([Key(settings.auth_hs256_secret.get_secret_value().encode())])
        return with_keys([])
    except (ValueError, OSError) as error:
        raise BadSettings(f"PARLEY_AUTH_…: {error}") from None


def agent_for(settings: Settings) -> Agent:
    """Return the configured agent, ready to run.

    Raises: BadSettings.
    """
    local = None
    if settings.local_model_url and settings.local_model_key:
        local = (settings.local_model_url, settings.local_model_key.get_secret_value())
    key = settings.openai_api_key
    try:
        return create_agent(
            settings.agent or "",
            openai_base_url=settings.openai_base_url,
            openai_api_key=key.get_secret_value() if key else None,
            local=local,
        )
    except ValueError as error:
        raise BadSettings(f"PARLEY_AGENT: {error}") from None


def turn_settings(settings: Settings, agent: Agent) -> TurnSettings:
    """Return how turns are run with this agent.

    Raises: BadSettings.
    """
    instructions = settings.instructions
    if settings.instructions_file is not None:
        try:
            instructions = settings.instructions_file.read_text().strip()
        except OSError as error:
            raise BadSettings(f"PARLEY_INSTRUCTIONS_FILE: {error}") from None
    model_tokens = agent.context_tokens or UNKNOWN_CONTEXT_TOKENS
    return TurnSettings(
        lease_s=settings.lease_s,
        chat_timeout_s=settings.chat_timeout_s,
        context_messages=settings.context_messages,
        context_tokens=settings.context_tokens or max(256, model_tokens - ANSWER_TOKENS),
        instructions=instructions,
    )


def metrics_for(settings: Settings) -> "Metrics | None":
    """Return who counts, if anybody is to."""
    if settings.metrics_listen is None:
        return None
    # Here, because it takes a tenth of a second that only those who want metrics are to pay.
    from parley_server.metrics import Metrics

    return Metrics(settings.agent or "", settings.place)


def server_options(settings: Settings, *, is_port_shared: bool) -> list[tuple[str, int]]:
    """Return the options of gRPC's server."""
    limits = Limits(
        max_receive_bytes=settings.grpc_max_receive_bytes,
        max_send_bytes=settings.grpc_max_send_bytes,
        max_metadata_bytes=settings.grpc_max_metadata_bytes,
        max_connections=settings.grpc_max_connections,
        max_streams=settings.grpc_max_streams,
        connection_age_s=settings.grpc_connection_age_s,
        connection_idle_s=settings.grpc_connection_idle_s,
        keepalive_s=settings.grpc_keepalive_s,
        keepalive_timeout_s=settings.grpc_keepalive_timeout_s,
        min_ping_s=settings.grpc_min_ping_s,
    )
    longest_call_s = max(settings.chat_timeout_s + OVERTIME_S, LONGEST_WATCH_S)
    return options(limits, longest_call_s=longest_call_s, is_port_shared=is_port_shared)


def certificate_for(settings: Settings) -> Renewing | None:
    """Return what to speak TLS with; None: plaintext.

    Raises: BadSettings.
    """
    files = TlsFiles.named(
        settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    )
    try:
        return None if files is None else Renewing(files)
    except BadCertificate as error:
        raise BadSettings(str(error)) from None


class Worker:
    """One process's worth of Parley."""

    def __init__(
        self, settings: Settings, *, agent: Agent | None = None, is_port_shared: bool = False
    ) -> None:
        """Put the parts together.

        Args:
            agent: answers instead of the one that the settings name.
        Raises: BadSettings.
        """
        if settings.database_url is None:
            raise BadSettings("PARLEY_DATABASE_URL: must be set for a worker")
        self.settings = settings
        self.agent = agent or agent_for(settings)
        self.store = PostgresStore(
            settings.database_url.get_secret_value(),
            pool_size=settings.db_pool_size,
            lease_s=settings.lease_s,
            is_prepared=settings.db_prepare,
            has_row_security=settings.row_security,
            max_turns_per_minute=settings.max_turns_per_minute,
            max_attempts=settings.max_attempts,
            wait_s=settings.store_wait_s,
            owner_share=settings.owner_share,
        )
        self.signals = (
            PostgresSignals(self.store.url, self.store.ending)
            if settings.notify == "listen"
            else NoSignals()
        )
        self.bells = Bells(self.signals)
        self.metrics = metrics_for(settings)
        self.metrics_port: int | None = None
        self.turns = Turns(
            self.store,
            {"": self.agent, settings.agent or "": self.agent},
            turn_settings(settings, self.agent),
            uuid_utils.compat.uuid7,
            self.bells,
            self.metrics or NO_METER,
        )
        self.watches = Watches(self.store, self.turns.events, self.bells)
        self.verifier = verifier_for(settings)
        self._is_told_ready = True
        self.admission = Admission(
            max_open_chats=settings.max_open_chats,
            max_reads=settings.max_reads,
            max_watches=settings.max_watches,
            max_unsent_bytes=settings.max_unsent_bytes,
            owner_share=settings.owner_share,
            left_behind=lambda: self.turns.left_behind,
        )
        self.server = Server(
            self.turns,
            Reads(self.store, settings.chat_timeout_s),
            self.watches,
            self.verifier,
            self.admission,
            options=server_options(settings, is_port_shared=is_port_shared),
            certificate=certificate_for(settings),
            has_reflection=settings.reflection,
            max_message_bytes=settings.max_message_bytes,
            meter=self.metrics,
        )
        if self.metrics is not None:
            self._add_gauges(self.metrics)

    def _add_gauges(self, metrics: "Metrics") -> None:
        """Say where each gauge is read."""
        metrics.gauge("parley_open_turns", lambda: len(self.turns.runs))
        metrics.gauge("parley_watches", lambda: self.admission.watches.in_use)
        for name, what in self.admission.limited().items():
            metrics.gauge("parley_limit_in_use", partial(attrgetter("in_use"), what), resource=name)
            metrics.gauge("parley_limit", partial(attrgetter("limit"), what), resource=name)
        for name, pool in self.store.pools().items():
            metrics.gauge("parley_database_connections_in_use", pool.in_use, pool=name)
            metrics.gauge("parley_database_requests_waiting", pool.waiting, pool=name)
        if isinstance(self.verifier, JwksVerifier):
            keys = self.verifier.keys
            metrics.gauge(
                "parley_jwks_age_seconds", lambda: math.inf if keys.age_s is None else keys.age_s
            )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve inside the block, and drain at its end.

        Yields: the port.
        Raises: UnsafeDatabase; DatabaseAway; BadSettings: an address cannot be had.
        """
        with ExitStack() as measuring:
            if self.metrics is not None:
                self._measure(self.metrics, measuring)
            async with self._serving() as port:
                yield port

    def _measure(self, metrics: "Metrics", until: ExitStack) -> None:
        until.enter_context(metrics.looking())
        if self.settings.place is None and self.settings.metrics_listen is not None:
            self.metrics_port = until.enter_context(metrics.page(self.settings.metrics_listen))

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[int]:
        await self._database_is_safe()
        await self.store.open()
        if isinstance(self.signals, PostgresSignals):
            self.signals.open(self._heard, self._heard_nothing)
        readiness: asyncio.Task[None] | None = None
        try:
            await self._look_at_limits()
            if isinstance(self.verifier, JwksVerifier):
                await self.verifier.keys.open()
            port = await self._listen()
            await self._tell_readiness(await self._is_ready())
            readiness = asyncio.create_task(self._watch_readiness())
            yield port
        finally:
            if readiness is not None:
                readiness.cancel()
                await asyncio.wait([readiness])
            await self.server.drain(self.settings.drain_s)
            await close_agent(self.agent)
            if isinstance(self.verifier, JwksVerifier):
                await self.verifier.keys.close()
            if isinstance(self.signals, PostgresSignals):
                await self.signals.close()
            await self.store.close()

    def _heard(self, topic: UUID) -> None:
        """Pass a signal of another worker on."""
        self.bells.heard(topic)
        self.turns.runs.heard(topic)

    def _heard_nothing(self) -> None:
        """Let everybody look who may have missed a signal."""
        self.bells.ring_all()
        self.turns.runs.heard_nothing()

    async def _database_is_safe(self) -> None:
        """Wait for the database, with a bound, and check that it may be used."""
        deadline = asyncio.get_running_loop().time() + DATABASE_WAIT_S
        has_row_security = self.settings.row_security
        while True:
            try:
                return await asyncio.to_thread(
                    schema.check, self.store.url, has_row_security=has_row_security
                )
            except DatabaseAway as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                log.warning("waiting for the database", why=error.why)
                await asyncio.sleep(1)

    async def _listen(self) -> int:
        try:
            return await self.server.start(self.settings.listen)
        except RuntimeError:
            raise BadSettings(f"PARLEY_LISTEN: {self.settings.listen} cannot be had") from None

    async def _look_at_limits(self) -> None:
        """Say so if statements may wait for ever."""
        with suppress(StoreUnavailable):
            for name in await schema.without_limit(self.store.ending):
                log.warning(f"no {name}: set it on the role, by ALTER ROLE ... SET {name} = ...")

    async def _watch_readiness(self) -> None:
        """Let health checks follow database and keys: two looks that agree change the answer."""
        was_ready = self._is_told_ready
        while True:
            await asyncio.sleep(READINESS_S)
            is_ready = await self._is_ready()
            if is_ready == was_ready != self._is_told_ready:
                log.warning("readiness changed", ready=is_ready)
                await self._tell_readiness(is_ready)
            was_ready = is_ready

    async def _tell_readiness(self, is_ready: bool) -> None:
        self._is_told_ready = is_ready
        await self.server.set_ready(is_ready)

    async def _is_ready(self) -> bool:
        """Whether turns can be made: the keys are here, and the database would take a write."""
        try:
            sight = await self.store.look()
            schema.check_version(sight.version, sight.oldest_worker)
        except (StoreUnavailable, UnsafeDatabase) as error:
            if isinstance(error, UnsafeDatabase) and self._is_told_ready:
                log.error("the database must not be used", why=str(error))
            return False
        return sight.is_writable and self.verifier.has_keys

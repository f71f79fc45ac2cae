"""A worker: one process's worth of Parley, put together, opened and closed.

This file, `wiring` and `bootstrap`, which starts what a worker needs, are the only ones that name
concrete adapters.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING
from uuid import UUID

import uuid_utils.compat

from parley_server.config import BadSettings, Settings
from parley_server.core.attempts.running import TurnSettings
from parley_server.core.bells import Bells
from parley_server.core.conversations.appending import Appending
from parley_server.core.conversations.changes import Conversations
from parley_server.core.conversations.export import Exports
from parley_server.core.conversations.purging import Purging
from parley_server.core.owners.erasing import Erasing
from parley_server.core.owners.retention import Retention
from parley_server.core.owners.telling import Telling
from parley_server.core.owners.usage import UsageReads
from parley_server.core.ports import NO_METER, Agent
from parley_server.core.reading import Reads
from parley_server.core.streams.feed import Feeds
from parley_server.core.streams.trimming import Trimming
from parley_server.core.streams.watches import Watches
from parley_server.core.turns.accepting import Accepting
from parley_server.core.turns.expiring import Expiring
from parley_server.core.turns.explaining import Explaining
from parley_server.core.turns.machine import Turns
from parley_server.core.turns.rehearsing import Rehearsals
from parley_server.core.turns.resuming import Resuming
from parley_server.core.turns.starting import Starting
from parley_server.process.agents import agents_for
from parley_server.process.readiness import Readiness
from parley_server.process.wiring import (
    certificate_for,
    metrics_for,
    server_options,
    tracer_for,
    verifier_for,
)
from parley_server.rpc.layers.admission import Admission
from parley_server.rpc.server import Server
from parley_server.rpc.use_cases import UseCases
from parley_server.storage.conversations import PostgresConversations, PostgresDeletions
from parley_server.storage.explaining import PostgresExplains
from parley_server.storage.feed import PostgresFeed
from parley_server.storage.histories import PostgresHistories
from parley_server.storage.owners import PostgresErasures, PostgresRetention
from parley_server.storage.queue import PostgresQueue
from parley_server.storage.signals import NoSignals, PostgresSignals
from parley_server.storage.store import PostgresStore
from parley_server.storage.usage import PostgresUsage
from parley_server.storage.waits import PostgresWaits

if TYPE_CHECKING:
    from parley_server.telemetry.metrics import Metrics


CLOSING_S = 1.0
"""How long a drain waits for work in the background, which takes far less to close as a rule. While
the database is away, each look waits for it, and the drain is not to begin after that."""


class Worker:
    """One process's worth of Parley."""

    def __init__(
        self, settings: Settings, *, agent: Agent | None = None, is_port_shared: bool = False
    ) -> None:
        """Put the parts together.

        Args:
            agent: answers instead of those that the settings name.
        Raises: BadSettings.
        """
        if settings.database_url is None:
            raise BadSettings("PARLEY_DATABASE_URL: must be set for a worker")
        self.settings = settings
        self.agents = agents_for(settings, agent)
        roster = self.agents.roster
        self.tracer, self._traces = tracer_for(settings)
        self.store = PostgresStore(
            settings.database_url.get_secret_value(),
            pool_size=settings.db_pool_size,
            lease_s=settings.lease_s,
            is_prepared=settings.db_prepare,
            has_row_security=settings.row_security,
            max_turns_per_minute=settings.max_turns_per_minute,
            max_tokens_per_day=settings.max_tokens_per_day or None,
            budgets=lambda: roster.budgets,
            max_attempts=settings.max_attempts,
            wait_s=settings.store_wait_s,
            owner_share=settings.owner_share,
            has_feed=settings.feed_days > 0,
            tracer=self.tracer,
        )
        self.signals = (
            PostgresSignals(self.store.url, self.store.ending)
            if settings.notify == "listen"
            else NoSignals()
        )
        self.bells = Bells(self.signals)
        self.metrics = metrics_for(settings, roster)
        self.metrics_port: int | None = None
        waits = PostgresWaits(
            self.store,
            lease_s=settings.lease_s,
            max_attempts=settings.max_attempts,
            waiting=timedelta(seconds=settings.waiting_s),
        )
        self.turns = Turns(
            self.store,
            waits,
            roster,
            TurnSettings(settings.lease_s, settings.chat_timeout_s),
            uuid_utils.compat.uuid7,
            self.bells,
            self.metrics or NO_METER,
            self.tracer,
        )
        explains = PostgresExplains(self.store, max_attempts=settings.max_attempts)
        explaining = Explaining(self.store, explains, self.turns.roster)
        self.rehearsals = Rehearsals(
            self.store,
            explains,
            explaining,
            self.turns.roster,
            settings.chat_timeout_s,
            self.metrics or NO_METER,
        )
        self.watches = Watches(self.store, self.turns.events, self.bells)
        self.feed_store = PostgresFeed(self.store.claiming, max_attempts=settings.max_attempts)
        self.feeds = Feeds(self.feed_store, self.bells, self.metrics.fed if self.metrics else None)
        self.trimming = Trimming(self.feed_store, timedelta(days=settings.feed_days))
        conversations = PostgresConversations(self.store.claiming)
        histories = PostgresHistories(self.store.claiming, self.store.feed_of)
        telling = Telling(self.bells, self.turns.attempts.keeping.heard)
        meter = self.metrics or NO_METER
        self.purging = Purging(
            PostgresDeletions(self.store.claiming), partial(meter.removed, "deletion")
        )
        self.erasing = Erasing(
            PostgresErasures(self.store.claiming), telling, partial(meter.removed, "erasure")
        )
        self.retention = Retention(
            PostgresRetention(self.store.claiming),
            telling,
            idle=timedelta(days=settings.retention_idle_days),
            age=timedelta(days=settings.retention_age_days),
            on_deleted=self.purging.wake,
            count=meter.expired,
        )
        self.expiring = Expiring(waits, self.turns.attempts.ending)
        self._upkeep = (
            self.retention,
            self.erasing,
            self.purging,
            self.expiring,
            self.trimming,
        )
        self.verifier = verifier_for(settings)
        self.admission = Admission(
            max_open_chats=settings.max_open_chats,
            max_reads=settings.max_reads,
            max_watches=settings.max_watches,
            max_unsent_bytes=settings.max_unsent_bytes,
            owner_share=settings.owner_share,
            left_behind=lambda: self.turns.left_behind,
        )
        queue = PostgresQueue(
            self.store,
            lease_s=settings.lease_s,
            max_attempts=settings.max_attempts,
            max_queued_turns=settings.max_queued_turns,
        )
        self.starting = Starting(
            queue,
            self.store,
            self.turns,
            self.bells,
            places=settings.max_open_chats,
            calls=lambda: self.admission.open_chats.in_use,
            owner_share=settings.owner_share,
            count=self.metrics.begun if self.metrics is not None else lambda: None,
        )
        self.store.on_queue = self.starting.freed
        core = UseCases(
            turns=self.turns,
            resuming=Resuming(self.store, waits, self.turns, meter),
            accepting=Accepting(
                self.store,
                queue,
                self.turns.attempts.ending,
                self.bells,
                uuid_utils.compat.uuid7,
                settings.chat_timeout_s,
                self.starting.wake,
                self.tracer,
            ),
            reads=Reads(self.store, conversations, settings.chat_timeout_s),
            conversations=Conversations(
                conversations,
                self.bells,
                uuid_utils.compat.uuid7,
                trash=timedelta(days=settings.trash_days),
                on_turn_ended=self.turns.attempts.keeping.heard,
                on_deleted=self.purging.wake,
            ),
            appending=Appending(histories, self.bells, self.turns.waiting, settings.chat_timeout_s),
            exports=Exports(self.store, histories),
            erasing=self.erasing,
            watches=self.watches,
            feeds=self.feeds if settings.feed_days > 0 else None,
            usage=UsageReads(PostgresUsage(self.store.claiming)),
            explaining=explaining,
            rehearsals=self.rehearsals,
        )
        self.server = Server(
            core,
            self.verifier,
            self.admission,
            options=server_options(settings, is_port_shared=is_port_shared),
            certificate=certificate_for(settings),
            has_reflection=settings.reflection,
            max_message_bytes=settings.max_message_bytes,
            meter=self.metrics,
            tracer=self.tracer,
        )
        self.readiness = Readiness(
            self.store,
            self.verifier,
            self.server.set_ready,
            has_row_security=settings.row_security,
            is_prepared=settings.db_prepare,
            listens=settings.notify == "listen",
        )
        if self.metrics is not None:
            self._add_gauges(self.metrics)

    def _add_gauges(self, metrics: "Metrics") -> None:
        """Say where each gauge is read."""
        metrics.gauge("parley_ready", lambda: self.readiness.says_ready)
        metrics.gauge("parley_open_turns", lambda: len(self.turns.attempts))
        metrics.gauge("parley_open_rehearsals", lambda: len(self.rehearsals))
        metrics.gauge("parley_watches", lambda: self.admission.watches.in_use)
        metrics.gauge("parley_started_turns", lambda: self.starting.running)
        metrics.gauge("parley_queue_turns", lambda: self.starting.backlog.started)
        metrics.gauge("parley_queue_oldest_seconds", lambda: self.starting.backlog.oldest_age_s)
        metrics.gauge("parley_waiting_turns", lambda: self.starting.backlog.waiting)
        metrics.gauge("parley_feed_watches", lambda: self.feeds.open)
        for name, what in self.admission.limited().items():
            metrics.gauge("parley_limit_in_use", partial(attrgetter("in_use"), what), resource=name)
            metrics.gauge("parley_limit", partial(attrgetter("limit"), what), resource=name)
        for name, pool in self.store.pools().items():
            metrics.gauge("parley_database_connections_in_use", pool.in_use, pool=name)
            metrics.gauge("parley_database_requests_waiting", pool.waiting, pool=name)
        if self.settings.auth_jwks_url is not None:
            metrics.gauge("parley_jwks_age_seconds", self._jwks_age_s)

    def _jwks_age_s(self) -> float:
        age_s = self.verifier.keys_age_s
        return math.inf if age_s is None else age_s

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve inside the block, and drain at its end.

        Yields: the port.
        Raises: UnsafeDatabase; DatabaseAway; BadSettings: an address cannot be used.
        """
        with ExitStack() as measuring:
            if self.metrics is not None:
                self._measure(self.metrics, measuring)
            async with self._serving() as port:
                yield port

    def _measure(self, metrics: "Metrics", until: ExitStack) -> None:
        until.enter_context(metrics.looking())
        if self.settings.worker_index is None and self.settings.metrics_listen is not None:
            self.metrics_port = until.enter_context(metrics.page(self.settings.metrics_listen))

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[int]:
        await self.readiness.wait_for_database()
        await self.store.open()
        self.signals.open(self._heard, self._missed)
        try:
            await self.readiness.warn_of_missing_limits()
            await self.trimming.adopt()
            await self.verifier.open()
            port = await self._listen()
            await self.readiness.open()
            for upkeep in self._upkeep:
                upkeep.open()
            self.starting.open()
            yield port
        finally:
            await self.readiness.close()
            closing = asyncio.gather(*(each.close() for each in (self.starting, *self._upkeep)))
            await asyncio.wait([closing], timeout=CLOSING_S)
            await self.server.drain(self.settings.drain_s)
            await closing
            await self.agents.close()
            await self.verifier.close()
            await self.signals.close()
            await self.store.close()
            if self._traces is not None:
                await self._traces.close()

    def _heard(self, topic: UUID) -> None:
        """Pass on a signal from another worker."""
        self.bells.heard(topic)
        self.turns.attempts.keeping.heard(topic)
        self.starting.heard(topic)

    def _missed(self) -> None:
        """Wake every waiter: signals may have been lost."""
        self.bells.ring_all()
        self.turns.attempts.keeping.missed()

    async def _listen(self) -> int:
        try:
            return await self.server.start(self.settings.listen)
        except RuntimeError:
            raise BadSettings(f"PARLEY_LISTEN: cannot listen on {self.settings.listen}") from None

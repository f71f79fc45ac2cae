"""The composition root: the only file that names concrete adapters.

prepared   what has to be there before a worker can start: database, keys, local model
Worker     one process's worth of Parley: store, agents, turns, gRPC server
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from uuid import UUID

import psycopg
import structlog
import uuid_utils.compat
from pydantic import SecretStr

from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.local_model import LocalModel
from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.auth.keys import Key, read_keys
from parley_server.config import BadSettings, Settings
from parley_server.core.errors import StoreUnavailable
from parley_server.core.ports import Agent
from parley_server.core.reads import Reads
from parley_server.core.runs import TurnSettings
from parley_server.core.turns import Turns
from parley_server.core.waiting import Bells
from parley_server.core.watches import Watches
from parley_server.core.window import ANSWER_TOKENS
from parley_server.rpc.server import Server
from parley_server.storage import schema
from parley_server.storage.embedded import EmbeddedPostgres
from parley_server.storage.signals import NoSignals, PostgresSignals
from parley_server.storage.store import PostgresStore

log = structlog.get_logger("parley.app")

DEV_ISSUER = "parley-dev"
DATABASE_WAIT_S = 60.0
"""How long a start waits for the database."""
UNKNOWN_CONTEXT_TOKENS = 16_384
"""The context that a model is taken to have of which nothing is known."""
READINESS_S = 1.0
"""How often the database is looked at for the sake of health checks."""

Say = Callable[[str], None]


@contextmanager
def prepared(settings: Settings, say: Say) -> Iterator[Settings]:
    """Start what the settings leave to Parley, and stop it at the end.

    Args:
        say: told in one sentence of everything that takes longer than a second.
    Yields: settings in which the database, the keys and the agent are all named.
    Raises: PostgresNotStarted, BadSettings.
    """
    with ExitStack() as started:
        found: dict[str, object] = {}
        if settings.is_embedded:
            postgres = EmbeddedPostgres(settings.data_dir, say=say)
            started.callback(postgres.stop)
            url = postgres.start()
            schema.migrate(url)
            found["database_url"] = SecretStr(url)
            found.update(_dev_keys(settings))
        agent = settings.agent or "local"
        found["agent"] = agent
        if agent == "local" and settings.local_model_url is None:
            model = LocalModel(say=say)
            started.callback(model.stop)
            found["local_model_url"], key = model.start()
            found["local_model_key"] = SecretStr(key)
        yield settings.model_copy(update=found)


def _dev_keys(settings: Settings) -> dict[str, object]:
    """Return a secret of this data folder's own, made at the first start, unless keys are set."""
    if settings.auth_hs256_secret or settings.auth_keys_file:
        return {}
    return {
        "auth_hs256_secret": SecretStr(dev_secret(settings)),
        "auth_issuer": settings.auth_issuer or DEV_ISSUER,
        "auth_audience": settings.auth_audience or DEV_ISSUER,
    }


def dev_secret(settings: Settings) -> str:
    """Return the embedded server's secret; make it, readable by nobody else, if there is none."""
    path = settings.data_dir / "secret"
    if not path.exists():
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        draft.rename(path)
    return path.read_text()


def verifier_for(settings: Settings) -> JwtVerifier:
    """Return who checks tokens.

    Raises: BadSettings.
    """
    try:
        if settings.auth_keys_file is not None:
            keys = read_keys(settings.auth_keys_file)
        elif settings.auth_hs256_secret is not None:
            keys = [Key(settings.auth_hs256_secret.get_secret_value().encode())]
        else:
            keys = []
        return JwtVerifier(
            keys,
            settings.auth_issuer or "",
            settings.auth_audience or "",
            settings.auth_tenant_claim,
            require_scopes=settings.auth_require_scopes,
        )
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
        )
        self.signals = (
            PostgresSignals(self.store.url, self.store.ending)
            if settings.notify == "listen"
            else NoSignals()
        )
        self.bells = Bells(self.signals)
        self.turns = Turns(
            self.store,
            {"": self.agent, settings.agent or "": self.agent},
            turn_settings(settings, self.agent),
            uuid_utils.compat.uuid7,
            self.bells,
        )
        self.watches = Watches(
            self.store, self.turns.events, self.bells, max_watches=settings.max_watches
        )
        self.server = Server(
            self.turns,
            Reads(self.store),
            self.watches,
            verifier_for(settings),
            is_port_shared=is_port_shared,
            has_reflection=settings.reflection,
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve inside the block, and drain at its end.

        Yields: the port.
        Raises: UnsafeDatabase; RuntimeError: the address cannot be had.
        """
        await self._database_is_safe()
        await self.store.open()
        if isinstance(self.signals, PostgresSignals):
            self.signals.open(self._heard, self._heard_nothing)
        readiness = asyncio.create_task(self._watch_readiness())
        try:
            port = await self.server.start(self.settings.listen)
            await self.server.set_ready(True)
            yield port
        finally:
            readiness.cancel()
            await self.server.drain(self.settings.drain_s)
            await close_agent(self.agent)
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
        url = self.store.url
        deadline = asyncio.get_running_loop().time() + DATABASE_WAIT_S
        while True:
            try:
                return await asyncio.to_thread(schema.check, url)
            except psycopg.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise schema.UnsafeDatabase(
                        f"the database did not answer for {DATABASE_WAIT_S:.0f} s: "
                        "check PARLEY_DATABASE_URL and the database"
                    ) from None
                log.warning("waiting for the database", sqlstate=error.sqlstate)
                await asyncio.sleep(1)

    async def _watch_readiness(self) -> None:
        """Let health checks follow the database: two looks that agree change the answer."""
        was_ready = is_told = True
        while True:
            await asyncio.sleep(READINESS_S)
            is_ready = await self._is_ready()
            if is_ready == was_ready != is_told:
                is_told = is_ready
                log.warning("readiness changed", ready=is_ready)
                await self.server.set_ready(is_ready)
            was_ready = is_ready

    async def _is_ready(self) -> bool:
        looking = asyncio.create_task(self._look_at_schema())
        await asyncio.wait([looking], timeout=READINESS_S * 5)
        return looking.done() and looking.result()

    async def _look_at_schema(self) -> bool:
        try:
            schema.check_version(*(await self.store.schema() or (0, 0)))
        except (StoreUnavailable, schema.UnsafeDatabase):
            return False
        return True

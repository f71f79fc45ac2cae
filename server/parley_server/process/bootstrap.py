"""What has to be there before a worker can start: database, keys, local model.

It is imported before all the rest, so that Postgres and the model, which are processes of their
own, start while this one is still importing.
"""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from parley_server.agents.file.reading import read_agents_file
from parley_server.agents.local_model import LocalModel
from parley_server.config import MIN_SECRET_BYTES, BadSettings, Settings
from parley_server.storage.embedded.postgres import EmbeddedPostgres
from parley_server.storage.schema import version

DEV_ISSUER = "parley-dev"
LOCAL = "local"
"""The model that a worker asks of its parent."""

Say = Callable[[str], None]


@contextmanager
def prepared(
    settings: Settings, say: Say, *, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[Settings]:
    """Start what the settings leave to Parley, and stop it at the end.

    Args:
        say: told in one sentence of everything that takes longer than a second.
        meanwhile: done while the processes start.
    Yields: settings in which the database, the keys and the agent, or the agents file, are named.
    Raises: PostgresNotStarted, BadAgent, BadCertificate.
    """
    check_certificate(settings)
    models = models_of(settings)
    found: dict[str, object] = {}
    if settings.agents_file is None:
        found["agent"] = models[0]
    with ExitStack() as started:
        url = endpoint = None
        with ThreadPoolExecutor() as threads:  # its end waits for the starts
            if settings.is_embedded:
                postgres = EmbeddedPostgres(settings.data_dir, say=say)
                started.callback(postgres.stop)
                url = threads.submit(postgres.start)
            if LOCAL in models and settings.local_model_url is None:
                model = LocalModel(say=say)
                started.callback(model.stop)
                endpoint = threads.submit(model.start)
            meanwhile()
        if url is not None:
            version.migrate(url.result())
            started.enter_context(postgres.kept())
            found["database_url"] = SecretStr(url.result())
            found.update(_dev_keys(settings))
        if endpoint is not None:
            found["local_model_url"], key = endpoint.result()
            found["local_model_key"] = SecretStr(key)
        yield settings.model_copy(update=found)


def models_of(settings: Settings) -> list[str]:
    """Return what the agents of the settings are made of, as PARLEY_AGENT says it.

    Raises: BadAgentsFile.
    """
    if settings.agents_file is None:
        return [settings.agent or LOCAL]
    file = read_agents_file(settings.agents_file, os.environ)
    return [table.model for table in file.definitions.agents.values()]


def check_certificate(settings: Settings) -> None:
    """Refuse a bad certificate before anything starts, and once, however many workers follow."""
    if settings.tls_cert_file is None:
        return
    from parley_server.rpc.tls import TlsFiles  # takes its time, and most starts need it later

    files = TlsFiles.named(
        settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    )
    if files is not None:
        files.read().check()


def _dev_keys(settings: Settings) -> dict[str, object]:
    """Return a secret of this data folder's own, made at the first start, unless keys are set."""
    if settings.has_keys:
        return {}
    return {
        "auth_hs256_secret": SecretStr(dev_secret(settings)),
        "auth_issuer": settings.auth_issuer or DEV_ISSUER,
        "auth_audience": settings.auth_audience or DEV_ISSUER,
    }


def dev_secret(settings: Settings) -> str:
    """Return the embedded server's secret; create it, for its owner only, if there is none.

    Raises: BadSettings: the data folder cannot be used, or the file in it holds no secret.
    """
    path = settings.data_dir / "secret"
    try:
        if not path.exists():
            _make_secret(path)
        secret = path.read_text(errors="replace")
    except OSError as error:
        raise BadSettings(
            f"PARLEY_DATA_DIR: {path} cannot be used: {error.strerror}: name a folder of this user"
        ) from None
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise BadSettings(
            f"PARLEY_DATA_DIR: {path} holds no secret of at least {MIN_SECRET_BYTES} bytes: remove "
            "it, and another one is made"
        )
    return secret


def _make_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Of several that make one at once, the first one's stays: a link replaces nothing.
    draft, name = tempfile.mkstemp(prefix="secret.", dir=path.parent)
    try:
        with open(draft, "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())  # or a power failure could leave an empty one
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)

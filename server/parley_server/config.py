"""Settings: from the environment, typed, checked before anything starts."""

from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_SECRET_BYTES = 32
MAX_PORT = 65_535
REQUEST_ROOM_BYTES = 16 * 1024
"""What gRPC must accept in addition to the longest user message: a request's other fields, and the
excess of a message that is slightly too long, so that the error can name the field."""
NOT_OURS = frozenset(
    {
        "PARLEY_ADDRESS",
        "PARLEY_CA_FILE",
        "PARLEY_CERT_FILE",
        "PARLEY_CI",
        "PARLEY_CONFIG_FILE",
        "PARLEY_FOR_USER",
        "PARLEY_GO_ON_WITH",
        "PARLEY_INPUT_HISTORY",
        "PARLEY_KEY_FILE",
        "PARLEY_PLAIN",
        "PARLEY_PLAINTEXT",
        "PARLEY_PROFILE",
        "PARLEY_TEST_DATABASE_URL",
        "PARLEY_TOKEN",
        "PARLEY_TOKEN_COMMAND",
        "PARLEY_TOKEN_FILE",
    }
)
"""Variables of the client and of the tests, which are not misspelt settings of the server."""


class BadSettings(Exception):
    """The server cannot start. One line per setting: what is wrong and what to set."""


class Settings(BaseSettings):
    """Everything that can be set. An empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix="PARLEY_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    database_url: SecretStr | None = None
    migrate_database_url: SecretStr | None = None
    data_dir: Path = Path(".parley")
    db_pool_size: int = Field(default=10, ge=2, le=1000)
    db_prepare: bool = True
    store_wait_s: float = Field(default=10, ge=1, le=600)
    row_security: bool = False
    notify: Literal["listen", "poll"] = "listen"

    listen: str = "127.0.0.1:50051"
    workers: int = Field(default=1, ge=1, le=256)
    reflection: bool = False
    metrics_listen: str | None = None
    traces: Literal["off", "otlp"] = "off"
    traces_sample: float | None = Field(default=None, ge=0, le=1)
    traces_content: bool = False

    agent: str | None = None
    agents_file: Path | None = None
    instructions: str = ""
    instructions_file: Path | None = None
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    context_messages: int = Field(default=100, ge=1, le=1000)
    context_tokens: int | None = Field(default=None, ge=256)

    auth_hs256_secret: SecretStr | None = None
    auth_keys_file: Path | None = None
    auth_jwks_url: str | None = None
    auth_issuer: str | None = None
    auth_audience: str | None = None
    auth_tenant_claim: str | None = None
    auth_require_scopes: bool = False

    lease_s: float = Field(default=30, ge=1, le=3600)
    chat_timeout_s: float = Field(default=120, ge=1, le=86_400)
    drain_s: float = Field(default=125, ge=0, le=86_400)
    waiting_s: float = Field(default=86_400, ge=1, le=2_592_000)
    max_attempts: int = Field(default=5, ge=1, le=1000)
    max_watches: int = Field(default=2000, ge=0)
    feed_days: float = Field(default=7, ge=0, le=30)
    trash_days: float = Field(default=0, ge=0, le=3650)
    retention_idle_days: float = Field(default=0, ge=0, le=36_500)
    retention_age_days: float = Field(default=0, ge=0, le=36_500)
    max_turns_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    max_tokens_per_day: int = Field(default=0, ge=0, le=10**15)
    max_queued_turns: int = Field(default=10_000, ge=1, le=1_000_000)
    max_open_chats: int = Field(default=2500, ge=1)
    max_reads: int = Field(default=200, ge=1)
    max_message_bytes: int = Field(default=256 * 1024, ge=1024, le=900 * 1024)
    owner_share: float = Field(default=0.8, gt=0, le=1)
    max_unsent_bytes: int = Field(default=16 * 1024 * 1024, ge=4 * 1024 * 1024)

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None

    grpc_max_receive_bytes: int = Field(default=2 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024)
    grpc_max_send_bytes: int = Field(default=4 * 1024 * 1024, ge=4 * 1024 * 1024, le=2**30)
    grpc_max_metadata_bytes: int = Field(default=16 * 1024, ge=12 * 1024, le=1024 * 1024)
    grpc_max_connections: int = Field(default=1_000, ge=1, le=1_000_000)
    grpc_max_streams: int = Field(default=100, ge=1, le=100_000)
    grpc_connection_age_s: float = Field(default=300, ge=1, le=86_400)
    grpc_connection_idle_s: float = Field(default=300, ge=1, le=86_400)
    grpc_keepalive_s: float = Field(default=60, ge=1, le=86_400)
    grpc_keepalive_timeout_s: float = Field(default=20, ge=1, le=86_400)
    grpc_min_ping_s: float = Field(default=20, ge=0, le=86_400)

    log_format: Literal["console", "json"] | None = None

    # Set by a parent for its workers.
    worker_index: int | None = Field(default=None, ge=0)
    local_model_url: str | None = None
    local_model_key: SecretStr | None = None

    def as_environment(self) -> dict[str, str]:
        """Return what a worker with these settings needs besides its parent's environment."""
        names = (
            "database_url",
            "listen",
            "agent",
            "auth_hs256_secret",
            "auth_issuer",
            "auth_audience",
            "local_model_url",
            "local_model_key",
        )
        environment = {}
        for name in names:
            value = getattr(self, name)
            if value is not None:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                environment[f"PARLEY_{name.upper()}"] = text
        return environment

    @property
    def is_embedded(self) -> bool:
        return self.database_url is None

    @property
    def is_unix(self) -> bool:
        return self.listen.startswith("unix:")

    @field_validator("database_url", "migrate_database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(
            ("postgresql://", "postgres://")
        ):
            raise ValueError("must be a URL that begins with postgresql://")
        return url

    @field_validator("auth_hs256_secret")
    @classmethod
    def _is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return secret

    @field_validator("auth_jwks_url")
    @classmethod
    def _is_fetched_safely(cls, url: str | None) -> str | None:
        if url is not None and not _leads_safely(url):
            raise ValueError(
                "must be an https:// URL without a user name or password, because an attacker who "
                "can change the response can act as any user; http:// is allowed only for this "
                "machine: http://127.0.0.1:8080/…"
            )
        return url

    @field_validator("listen")
    @classmethod
    def _is_address(cls, address: str) -> str:
        if not address.startswith("unix:") and not _is_host_and_port(address):
            raise ValueError("must be HOST:PORT")
        return address

    @field_validator("metrics_listen")
    @classmethod
    def _is_tcp_address(cls, address: str | None) -> str | None:
        if address is not None and (address.startswith("unix:") or not _is_host_and_port(address)):
            raise ValueError("must be HOST:PORT, for example 127.0.0.1:9464")
        return address

    def check_serving(self) -> None:
        """Check that the settings fit together, so that a server can start.

        Raises: BadSettings: names everything that is wrong.
        """
        wrong = self._wrong_keys() + self._wrong_certificates()
        if self.instructions and self.instructions_file:
            wrong.append(
                "PARLEY_INSTRUCTIONS and PARLEY_INSTRUCTIONS_FILE are both set: choose one"
            )
        if not self.is_embedded and not self.has_keys:
            wrong.append(
                "with PARLEY_DATABASE_URL, set PARLEY_AUTH_KEYS_FILE, PARLEY_AUTH_JWKS_URL or "
                "PARLEY_AUTH_HS256_SECRET: without keys the server cannot identify callers"
            )
        if self.is_embedded and self.row_security:
            wrong.append(
                "PARLEY_ROW_SECURITY needs a database whose tables belong to a role other than the "
                "server's: set PARLEY_DATABASE_URL and PARLEY_MIGRATE_DATABASE_URL"
            )
        if self.agent is not None and self.agents_file is not None:
            wrong.append("PARLEY_AGENT and PARLEY_AGENTS_FILE are both set: choose one")
        if not self.is_embedded and self.agent is None and self.agents_file is None:
            wrong.append(
                "with PARLEY_DATABASE_URL, set PARLEY_AGENT, for example openai:gpt-5-mini, or "
                "PARLEY_AGENTS_FILE"
            )
        needed_bytes = self.max_message_bytes + REQUEST_ROOM_BYTES
        if self.grpc_max_receive_bytes < needed_bytes:
            wrong.append(
                "PARLEY_GRPC_MAX_RECEIVE_BYTES leaves no room for a message of "
                f"PARLEY_MAX_MESSAGE_BYTES: set it to {needed_bytes} or more, "
                "or PARLEY_MAX_MESSAGE_BYTES to less"
            )
        _refuse_if_any(wrong)

    def check_keys(self) -> None:
        """Check the settings for making and checking tokens.

        Raises: BadSettings: names everything that is wrong.
        """
        _refuse_if_any(self._wrong_keys())

    def check_certificates(self) -> None:
        """Check the settings for TLS.

        Raises: BadSettings: names everything that is wrong.
        """
        _refuse_if_any(self._wrong_certificates())

    def _wrong_certificates(self) -> list[str]:
        wrong = []
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            wrong.append("PARLEY_TLS_CERT_FILE and PARLEY_TLS_KEY_FILE need each other: set both")
        if self.tls_client_ca_file and not self.tls_cert_file:
            wrong.append(
                "PARLEY_TLS_CLIENT_CA_FILE: set PARLEY_TLS_CERT_FILE and PARLEY_TLS_KEY_FILE too"
            )
        return wrong

    @property
    def has_keys(self) -> bool:
        """Whether the settings name keys for checking tokens."""
        return bool(self._key_settings)

    @property
    def _key_settings(self) -> list[str]:
        names = ("auth_hs256_secret", "auth_keys_file", "auth_jwks_url")
        return [f"PARLEY_{name.upper()}" for name in names if getattr(self, name)]

    def _wrong_keys(self) -> list[str]:
        wrong = []
        if len(self._key_settings) > 1:
            wrong.append(f"{' and '.join(self._key_settings)} are set together: choose one")
        if self.has_keys and not (self.auth_issuer and self.auth_audience):
            wrong.append(
                "set PARLEY_AUTH_ISSUER and PARLEY_AUTH_AUDIENCE: the server checks both in every "
                "token"
            )
        return wrong


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    # Beyond that, some system calls would take the rest of a division by 65,536.
    return bool(host) and port.isdecimal() and port.isascii() and int(port) <= MAX_PORT


def _leads_safely(url: str) -> bool:
    """Return whether a response from the URL is safe from being read or changed on the way."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if "@" in parts.netloc or not host or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_if_any(wrong: list[str]) -> None:
    if wrong:
        raise BadSettings("\n".join(wrong))


def misspelt(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names in an environment that look like settings but are not.

    Returns: each with the nearest known name; an empty one: none is near.
    """
    known = {f"PARLEY_{name.upper()}" for name in Settings.model_fields} | NOT_OURS
    return [
        (name, next(iter(get_close_matches(name, known, 1)), ""))
        for name in names
        if name.startswith("PARLEY_") and name not in known
    ]


def load() -> Settings:
    """Read the settings from the environment.

    Raises: BadSettings: names every setting that is wrong, and what would be right.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise BadSettings("\n".join(_line(e["loc"], e["msg"]) for e in error.errors())) from None


def _line(location: tuple[int | str, ...], text: str) -> str:
    text = text.removeprefix("Value error, ")
    if not location:
        return text
    name = str(location[0])
    if not name.isupper():
        name = f"PARLEY_{name.upper()}"
    return f"{name}: {text}"

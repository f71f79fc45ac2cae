"""The server's command: serve, migrate, check, token."""

import re
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NoReturn

import typer

from parley_server import config, logs
from parley_server.config import BadSettings, Settings

app = typer.Typer(
    help="Parley: a stateless gRPC service that owns the conversations with language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_TTL = re.compile(r"(\d+)([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def main() -> None:
    """Run the command; a start that is refused says why in a sentence and exits with 1."""
    try:
        app()
    except ImportError as error:
        _refuse(f"{error.name} is missing: pip install 'parley[server,embedded,local]'")


@app.command()
def serve() -> None:
    """Serve until SIGTERM or Ctrl-C, then let open turns end."""
    settings = _settings()
    from parley_server.app import prepared
    from parley_server.workers import Parent, run_worker

    def start() -> None:
        with prepared(settings, _say) as complete:

            def on_ready(port: int) -> None:
                _say(_welcome(complete, port))

            if complete.workers == 1:
                _run(run_worker(complete, on_ready))
            else:
                _run(Parent(complete).run(on_ready))

    _refusing(start)


@app.command(hidden=True)
def worker() -> None:
    """Serve below a parent, on the port that it shares out."""
    settings = _settings()
    from parley_server.workers import run_child

    _refusing(lambda: _run(run_child(settings)))


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    settings = _settings()
    url = settings.migrate_database_url or settings.database_url
    if url is None:
        _say("Nothing to do: the embedded database is brought up to date at every start.")
        return
    from parley_server.storage import schema

    def start() -> None:
        applied = schema.migrate(url.get_secret_value())
        _say(f"Applied: {', '.join(applied)}." if applied else "The schema is up to date.")

    _refusing(start)


@app.command()
def check(
    address: Annotated[str, typer.Option(help="Default: PARLEY_LISTEN.")] = "",
    timeout_s: Annotated[float, typer.Option(help="How long to wait, in seconds.")] = 3.0,
) -> None:
    """Ask a server for its health. Exit code 0: it serves."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    target = address or _settings().listen
    with grpc.insecure_channel(target) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
        except grpc.RpcError as error:
            _refuse(f"{target} does not answer: {error.code().name}")
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    _say(f"{target}: {name}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(1)


@app.command()
def token(
    user: Annotated[str, typer.Option(help="Whose token: the claim sub.")],
    tenant: Annotated[str, typer.Option(help="The tenant, with PARLEY_AUTH_TENANT_CLAIM.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 15m, 1h, 7d.")] = "1h",
    scope: Annotated[str | None, typer.Option(help="Scopes, separated by spaces.")] = None,
) -> None:
    """Mint a token with the HS256 secret."""
    settings = _settings()
    matched = _TTL.fullmatch(ttl)
    if matched is None:
        _refuse("--ttl must be a number of seconds, or like 90s, 15m, 1h, 7d")
    ttl_s = int(matched[1]) * _UNIT_S[matched[2]]
    from parley_server.app import DEV_ISSUER, dev_secret
    from parley_server.auth.tokens import mint

    def start() -> None:
        if settings.auth_hs256_secret is not None:
            secret = settings.auth_hs256_secret.get_secret_value()
        elif settings.is_embedded and settings.auth_keys_file is None:
            secret = dev_secret(settings)
        else:
            raise BadSettings("PARLEY_AUTH_HS256_SECRET: must be set, tokens are minted with it")
        print(  # noqa: T201 - this is the command's output
            mint(
                secret.encode(),
                user,
                tenant,
                ttl_s,
                settings.auth_issuer or DEV_ISSUER,
                settings.auth_audience or DEV_ISSUER,
                settings.auth_tenant_claim,
                scope,
            )
        )

    _refusing(start)


def _welcome(settings: Settings, port: int) -> str:
    """Say that the server serves, and what to do next."""
    host = settings.listen.rpartition(":")[0]
    lines = [f"Parley serves on {host}:{port} with the agent {settings.agent}."]
    if settings.auth_hs256_secret and not settings.auth_keys_file:
        lines += [
            "",
            "  Talk to it in another terminal:   make chat",
            "  Mint a token for your own client: .venv/bin/parley-server token --user me",
            "  Stop it:                          Ctrl-C",
        ]
    return "\n".join(lines)


def _settings() -> Settings:
    try:
        settings = config.load()
    except BadSettings as error:
        _refuse(str(error))
    logs.set_up(settings.log_format)
    return settings


def _run(serving: Coroutine[Any, Any, None]) -> None:
    import uvloop

    uvloop.run(serving)


def _refusing(start: Callable[[], None]) -> None:
    """Run something, and end with one sentence if it cannot be done like this."""
    from parley_server.storage.embedded import PostgresNotStarted
    from parley_server.storage.schema import UnsafeDatabase

    try:
        start()
    except (BadSettings, PostgresNotStarted, UnsafeDatabase, RuntimeError, ValueError) as error:
        _refuse(str(error))


def _refuse(sentence: str) -> NoReturn:
    typer.echo(f"parley-server: {sentence}", err=True)
    sys.exit(1)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


if __name__ == "__main__":
    main()

"""The server's commands: serve, migrate, check, token."""

import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NoReturn

import structlog
import typer

from parley_server import config
from parley_server.config import BadSettings, Settings
from parley_server.telemetry import logs

app = typer.Typer(
    help="Parley: a stateless gRPC service that owns the conversations with language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
log = structlog.get_logger("parley.commands")

_TTL = re.compile(r"(\d+)([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command()
def serve() -> None:
    """Serve until SIGTERM or Ctrl-C, then let open turns end."""
    settings = _settings()
    for name, known in config.misspelt(os.environ):
        log.warning("unknown setting, ignored", name=name, did_you_mean=known)

    def start() -> None:
        settings.check_serving()
        from parley_server.process.bootstrap import prepared

        with prepared(settings, _say, meanwhile=lambda: _import_worker(settings)) as complete:
            from parley_server.process.serving import run_worker
            from parley_server.process.supervisor import Parent

            def on_ready(port: int) -> None:
                _say(_welcome(settings, complete, port))

            if complete.workers == 1:
                _run(run_worker(complete, on_ready))
            else:
                _run(Parent(complete).run(on_ready))

    _serving(start)


@app.command(hidden=True)
def worker() -> None:
    """Serve below a parent, on the port that it shares out."""
    settings = _settings()

    def start() -> None:
        settings.check_serving()
        from parley_server.process.serving import run_child

        _run(run_child(settings))

    _serving(start)


@app.command()
def migrate(
    drop_row_security: Annotated[
        bool,
        typer.Option(
            "--drop-row-security",
            help="Take the policies of row security away. First stop the workers that need them.",
        ),
    ] = False,
) -> None:
    """Bring the database's schema up to date, and switch row security on if it is set."""
    settings = _settings()
    if drop_row_security and settings.row_security:
        _refuse("--drop-row-security and PARLEY_ROW_SECURITY exclude each other")
    url = settings.migrate_database_url or settings.database_url
    if url is None:
        _say("Nothing to do: the embedded database is brought up to date at every start.")
        return
    from parley_server.storage.schema import row_security, version

    def start() -> None:
        address, is_on = url.get_secret_value(), settings.row_security
        if not is_on and not drop_row_security:
            row_security.check_off(address)  # before anything is changed
        applied = version.migrate(address)
        is_new = row_security.switch(address, is_on=is_on, may_drop=drop_row_security)
        _say(f"Applied: {', '.join(applied)}." if applied else "The schema is up to date.")
        _say(f"Row security {'was switched' if is_new else 'is'} {'on' if is_on else 'off'}.")

    exit_on_error(start)


@app.command()
def check(
    address: Annotated[str, typer.Option(help="Default: PARLEY_LISTEN.")] = "",
    timeout_s: Annotated[float, typer.Option(help="How long to wait, in seconds.")] = 3.0,
    service: Annotated[
        str, typer.Option(help="A health service's name. Default: whether calls may be sent.")
    ] = "",
    liveness: Annotated[
        bool, typer.Option("--liveness", help="Ask whether the process runs, and no more.")
    ] = False,
    data: Annotated[
        bool,
        typer.Option(
            "--data", help="Check the stored data instead: reads every table, changes nothing."
        ),
    ] = False,
) -> None:
    """Ask a server for its health. Exit code 0: it serves."""
    if service and liveness:
        _refuse("--service and --liveness exclude each other")
    if data and (service or liveness or address):
        _refuse("--data reads the database and asks no server: leave the other options out")
    settings = _settings()
    if data:
        exit_on_error(lambda: _check_data(settings))
        return
    target = address or settings.listen
    from parley_server.process.probe import Unanswered, health_of

    def ask() -> None:
        settings.check_certificates()
        try:
            name = health_of(settings, target, "liveness" if liveness else service, timeout_s)
        except Unanswered as error:
            _refuse(f"{target} does not answer: {error}")
        _say(f"{target}: {name}")
        if name != "SERVING":
            raise typer.Exit(1)

    exit_on_error(ask)


@app.command()
def token(
    user: Annotated[str, typer.Option(help="Whose token: the claim sub.")],
    tenant: Annotated[str, typer.Option(help="The tenant, with PARLEY_AUTH_TENANT_CLAIM.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is valid: 90s, 15m, 1h, 7d.")] = "1h",
    scope: Annotated[
        str | None,
        typer.Option(
            help='Scopes: "parley.read parley.write parley.act". The last one, which lets a caller '
            "act for any user, is never there unless it is named. Default: everything else."
        ),
    ] = None,
) -> None:
    """Mint a token with the HS256 secret."""
    settings = _settings()
    matched = _TTL.fullmatch(ttl)
    if matched is None:
        _refuse("--ttl must be a number of seconds, or like 90s, 15m, 1h, 7d")
    ttl_s = int(matched[1]) * _UNIT_S[matched[2]]
    from parley_server.auth.tokens import mint
    from parley_server.process.bootstrap import DEV_ISSUER, dev_secret

    def start() -> None:
        settings.check_keys()
        if settings.auth_hs256_secret is not None:
            secret = settings.auth_hs256_secret.get_secret_value()
        elif settings.is_embedded and not settings.has_keys:
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

    exit_on_error(start)


def _check_data(settings: Settings) -> None:
    """Say whether the stored data is whole, and exit with 1 if it is not."""
    from parley_server.storage.schema import integrity

    url = settings.migrate_database_url or settings.database_url
    if url is not None:
        report = integrity.examine(url.get_secret_value())
    else:
        from parley_server.storage.embedded.postgres import EmbeddedPostgres

        with EmbeddedPostgres(settings.data_dir, say=_say) as postgres:
            report = integrity.examine(postgres.start())
    for problem in report.problems:
        typer.echo(problem)
    _say(
        f"{'PROBLEMS' if report.problems else 'All is whole'}: {report.conversations:,} "
        f"conversations, {report.turns:,} turns, {report.messages:,} messages checked."
    )
    if report.problems:
        raise typer.Exit(1)


def _welcome(asked: Settings, settings: Settings, port: int) -> str:
    """Say that the server serves, and what to do next.

    Args:
        asked: what was set.
        settings: the same, with what was found for what was not.
    """
    host = settings.listen.rpartition(":")[0]
    address = settings.listen if settings.is_unix else f"{host}:{port}"
    over = "" if settings.tls_cert_file is None else " over TLS"
    lines = [f"Parley serves on {address}{over} with the agent {settings.agent}.", ""]
    if settings.auth_keys_file is not None or settings.auth_jwks_url is not None:
        lines += [
            f"  A caller needs a token of the issuer {settings.auth_issuer}",
            f"  for the audience {settings.auth_audience}, with sub and exp.",
        ]
    elif asked.auth_hs256_secret is not None:
        lines += ["  Mint a token, with these settings: parley-server token --user me"]
    else:
        is_usual = address == Settings.model_fields["listen"].default
        chat = "make chat" if is_usual else f"PARLEY_ADDRESS={address} make chat"
        lines += [
            f"  Talk to it in another terminal:   {chat}",
            "  Mint a token for your own client: .venv/bin/parley-server token --user me",
            "  Stop it:                          Ctrl-C",
        ]
    return "\n".join(lines)


def _import_worker(settings: Settings) -> None:
    """Import what a worker of this process consists of: most of the time that a start takes."""
    import parley_server.process.serving

    if settings.workers == 1 and not (settings.agent or "").startswith("echo"):
        import parley_server.agents.pydantic_agent  # noqa: F401 - for the time it takes


def _settings() -> Settings:
    try:
        settings = config.load()
    except BadSettings as error:
        _refuse(str(error))
    logs.set_up(settings.log_format)
    return settings


def _run(serving: Coroutine[Any, Any, None]) -> None:
    """Run to the end. The loop is not closed: that waits for threads, and the process ends here."""
    import uvloop

    uvloop.new_event_loop().run_until_complete(serving)


def _serving(start: Callable[[], None]) -> NoReturn:
    """Run what serves, then end the process whatever its threads do.

    Everything is answered, stored and stopped by then. What is left are threads of tools that
    block, which Python would wait for without end.
    """
    gc.disable()  # until everything is imported: nothing of it is garbage
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the worker has its own
    code: Any = 0
    try:
        exit_on_error(start)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_on_error(start: Callable[[], None]) -> None:
    """Run something, and end with one sentence if it cannot be done like this."""
    from parley_server.storage.schema.reaching import DatabaseAway, UnsafeDatabase

    try:
        start()
    except (BadSettings, DatabaseAway, UnsafeDatabase, RuntimeError, ValueError) as error:
        _refuse(str(error))


def _refuse(sentence: str) -> NoReturn:
    typer.echo(f"parley-server: {sentence}", err=True)
    sys.exit(1)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)

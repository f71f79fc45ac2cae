"""The server's commands: serve, agents, migrate, distribute, check, token."""

import gc
import importlib.metadata
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from pydantic import SecretStr

from parley_server import config
from parley_server.config import BadSettings, Settings
from parley_server.telemetry import logs

app = typer.Typer(
    help="Parley: a stateless gRPC service that owns conversations with language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
log = structlog.get_logger("parley.commands")

_TTL = re.compile(r"(\d+)([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"parley-server {importlib.metadata.version('parley')}")
        raise typer.Exit


@app.callback()
def of_any_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take what stands before a command."""


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
            from parley_server.process.welcome import welcome

            def on_ready(port: int) -> None:
                _say(welcome(settings, complete, port))

            if complete.workers == 1:
                _run(run_worker(complete, on_ready))
            else:
                _run(Parent(complete).run(on_ready))

    if settings.agents_file is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the worker reads the file again
    _serving(start)


@app.command(hidden=True)
def worker() -> None:
    """Serve as the child of a parent process, on the port that the parent shares."""
    settings = _settings()

    def start() -> None:
        settings.check_serving()
        from parley_server.process.serving import run_child

        _run(run_child(settings))

    _serving(start)


@app.command()
def agents(
    file: Annotated[
        Path | None, typer.Argument(help="The agents file. Default: PARLEY_AGENTS_FILE.")
    ] = None,
    ask: Annotated[
        tuple[str, str] | None,
        typer.Option("--try", metavar="NAME MESSAGE", help="Ask one agent, without a database."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the file's JSON schema, for editors.")
    ] = False,
) -> None:
    """Check an agents file, and list its agents. Exit code 1 means that it is wrong."""
    from parley_server.process import agents_command

    if schema:
        print(agents_command.schema())  # noqa: T201 - this is the command's output
        return
    settings = _settings()
    path = file or settings.agents_file
    if path is None:
        _refuse("name a file, parley-server agents agents.toml, or set PARLEY_AGENTS_FILE")
    found = settings.model_copy(update={"agents_file": path})
    if ask is None:
        exit_on_error(lambda: agents_command.show(found, path))
    else:
        exit_on_error(lambda: agents_command.ask(found, path, *ask, say=_say))


@app.command()
def migrate(
    drop_row_security: Annotated[
        bool,
        typer.Option(
            "--drop-row-security",
            help="Remove the row security policies. First stop the workers that need them.",
        ),
    ] = False,
) -> None:
    """Bring the database's schema up to date; with PARLEY_ROW_SECURITY, switch row security on."""
    settings = _settings()
    if drop_row_security and settings.row_security:
        _refuse("--drop-row-security and PARLEY_ROW_SECURITY cannot be used together")
    url, setting = _owners_url(settings)
    if url is None:
        _say("Nothing to do: every start brings the embedded database up to date.")
        return
    from parley_server.storage.schema import row_security, version

    def start() -> None:
        address, is_on = url.get_secret_value(), settings.row_security
        if not is_on and not drop_row_security:
            row_security.check_off(address, setting)  # before anything is changed
        applied = version.migrate(address, setting)
        is_new = row_security.switch(address, is_on=is_on, may_drop=drop_row_security)
        _say(f"Applied: {', '.join(applied)}." if applied else "The schema is up to date.")
        _say(f"Row security {'was switched' if is_new else 'is'} {'on' if is_on else 'off'}.")

    exit_on_error(start)


@app.command()
def distribute(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL, and change nothing.")
    ] = False,
) -> None:
    """Distribute the tables by owner over a Citus cluster. First stop the workers, and migrate."""
    settings = _settings()
    url, setting = _owners_url(settings)
    if url is None:
        _refuse(
            "set PARLEY_MIGRATE_DATABASE_URL to the coordinator of a Citus cluster: the embedded "
            "database has one node"
        )
    from parley_server.storage.schema import distribution

    def start() -> None:
        statements = distribution.distribute(url.get_secret_value(), setting, is_dry=dry_run)
        for statement in statements:
            typer.echo(f"{statement};")
        if not statements:
            _say("The tables are distributed.")
        elif not dry_run:
            _say("The tables were distributed. Set PARLEY_FEED_DAYS=0 on all workers: a cluster")
            _say("has no order of transactions for the feed to follow (docs/scaling.md).")

    exit_on_error(start)


@app.command()
def check(
    address: Annotated[
        str, typer.Option(help="The server, HOST:PORT. Default: PARLEY_LISTEN.")
    ] = "",
    timeout_s: Annotated[
        # gRPC takes a deadline much later than in 31 years for one that is over.
        float, typer.Option(min=0.001, max=1e9, help="How long to wait, in seconds.")
    ] = 3.0,
    service: Annotated[
        str,
        typer.Option(
            help="The health service to ask for. Default: whether the server takes calls."
        ),
    ] = "",
    liveness: Annotated[
        bool, typer.Option("--liveness", help="Ask only whether the process runs.")
    ] = False,
    data: Annotated[
        bool,
        typer.Option(
            "--data", help="Check the stored data instead: read every table, change nothing."
        ),
    ] = False,
) -> None:
    """Ask a server for its health. Exit code 0 means that it serves."""
    if service and liveness:
        _refuse("--service and --liveness cannot be used together")
    if data and (service or liveness or address):
        _refuse("--data reads the database and asks no server: omit the other options")
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
    user: Annotated[str, typer.Option(help="The token's user, its claim sub.")],
    tenant: Annotated[
        str, typer.Option(help="The user's tenant; needs PARLEY_AUTH_TENANT_CLAIM.")
    ] = "",
    ttl: Annotated[str, typer.Option(help="How long the token is valid: 90s, 15m, 1h, 7d.")] = "1h",
    scope: Annotated[
        str | None,
        typer.Option(
            help='The scopes, of "parley.read parley.write parley.act parley.erase '
            'parley.observe". Default: the first two; parley.act lets a caller act for any user, '
            "parley.erase lets it erase one, and parley.observe lets it watch the turns of all."
        ),
    ] = None,
) -> None:
    """Mint a token with the HS256 secret."""
    settings = _settings()
    matched = _TTL.fullmatch(ttl)
    if matched is None:
        _refuse("--ttl must be a number of seconds, or a time such as 90s, 15m, 1h, 7d")
    ttl_s = int(matched[1]) * _UNIT_S[matched[2]]
    from parley_server.auth.tokens import mint
    from parley_server.process.bootstrap import DEV_ISSUER, dev_secret
    from parley_server.rpc.layers.call_record import SCOPES

    if unknown := [name for name in (scope or "").split(" ") if name not in ("", *SCOPES)]:
        _refuse(f"--scope: there is no {', '.join(unknown)}; there are {', '.join(SCOPES)}")

    def start() -> None:
        settings.check_keys()
        if settings.auth_hs256_secret is not None:
            secret = settings.auth_hs256_secret.get_secret_value()
        elif settings.is_embedded and not settings.has_keys:
            secret = dev_secret(settings)
        else:
            raise BadSettings("PARLEY_AUTH_HS256_SECRET: must be set to mint tokens")
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


def _owners_url(settings: Settings) -> tuple[SecretStr | None, str]:
    """Return the URL for what the owner of the tables does, and the name of its setting."""
    if settings.migrate_database_url is not None:
        return settings.migrate_database_url, "PARLEY_MIGRATE_DATABASE_URL"
    return settings.database_url, "PARLEY_DATABASE_URL"


def _check_data(settings: Settings) -> None:
    """Check the stored data, print the problems, and exit with 1 if there are any."""
    from parley_server.storage.schema import integrity

    url, setting = _owners_url(settings)
    if url is not None:
        report = integrity.examine(url.get_secret_value(), setting)
    else:
        from parley_server.storage.embedded.postgres import EmbeddedPostgres

        postgres = EmbeddedPostgres(settings.data_dir, say=_say)
        if not postgres.is_there:
            raise BadSettings(
                f"PARLEY_DATA_DIR: there is no embedded database in {settings.data_dir}: name its "
                "folder, or set PARLEY_DATABASE_URL"
            )
        with postgres:
            report = integrity.examine(postgres.start())
    for problem in report.problems:
        typer.echo(problem)
    _say(
        f"{'PROBLEMS' if report.problems else 'No problems'}: {report.conversations:,} "
        f"conversations, {report.turns:,} turns, {report.messages:,} messages checked."
    )
    if report.problems:
        raise typer.Exit(1)


def _import_worker(settings: Settings) -> None:
    """Import the parts of a worker: this takes most of the time of a start."""
    import parley_server.process.serving
    from parley_server.process.bootstrap import models_of

    is_needed = not all(model.startswith("echo") for model in models_of(settings))
    if settings.workers == 1 and is_needed:
        import parley_server.agents.pydantic_agent  # noqa: F401 - imported early: it is slow


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
    """Serve, then end the process even if threads still run.

    All calls are answered by then and all parts are stopped. Only threads with blocked tools may
    remain, and Python would wait for them without end.
    """
    gc.disable()  # until everything is imported: nothing of it is garbage
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda *_: sys.exit(0))  # until the worker has its own
    code: Any = 0
    try:
        exit_on_error(start)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def exit_on_error(start: Callable[[], None]) -> None:
    """Run `start`; if it fails for a known reason, print the reason and exit with 1."""
    from parley_server.storage.schema.reaching import DatabaseAway, UnsafeDatabase

    try:
        start()
    except typer.Exit:
        raise  # which is a RuntimeError
    except (BadSettings, DatabaseAway, UnsafeDatabase, RuntimeError, ValueError) as error:
        _refuse(str(error))


def _refuse(sentence: str) -> NoReturn:
    typer.echo(f"parley-server: {sentence}", err=True)
    sys.exit(1)


def _say(sentence: str) -> None:
    with suppress(OSError):  # as for lines of the log, a server does not end for a full disk
        typer.echo(sentence, err=True)

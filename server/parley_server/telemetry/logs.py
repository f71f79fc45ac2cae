"""Log lines: one event a line, for people (console) or for programs (JSON)."""

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog

from parley_server.core.failures import raised_at
from parley_server.core.tracing import current_trace

LOUD_LIBRARIES = ("alembic", "anthropic", "grpc", "httpcore2", "httpx2", "openai")
"""Libraries that would log what was said, or every step of theirs: they stand at WARNING."""


_SHOWN = re.compile(r"\n|(?<=^Exception in callback) ")
"""Where a line of asyncio's begins to show what it is of."""

_encode = json.JSONEncoder(default=repr).encode


class _StandardError:
    """Where lines go. Its reader may be gone, or its disk full: then they are lost, and no call is.

    The standard library's handlers do the same by themselves.
    """

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def _json(event: dict[str, Any], **_: Any) -> str:
    return _encode(event)


def set_up(log_format: Literal["console", "json"] | None) -> None:
    """Send Parley's and every library's log lines to stderr.

    Args:
        log_format: None: console on a terminal, else json.
    """
    is_console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    shared: list[Any] = [
        _with_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if is_console
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared,
                structlog.stdlib.ExtraAdder(),
                structlog.stdlib.add_logger_name,
                _without_exception_text,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_shows_no_metadata)
    # What it warns of, the store tells in Parley's own words.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def _shows_no_metadata(record: logging.LogRecord) -> bool:
    """Drop gRPC's line for each value of metadata that is not UTF-8: it shows it, also a token."""
    return not str(record.msg).startswith("Invalid encoding")


def _with_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say which trace the call belongs to that a line is about."""
    trace = current_trace.get()
    if trace is not None:
        event["trace_id"] = trace.id
        if span_id := trace.span_id:
            event["span_id"] = span_id
    return event


def _without_exception_text(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keep an exception's type and drop its text and its frames: they may hold what was said."""
    record = event.get("_record")
    if record is not None and record.exc_info:
        event["error"] = getattr(record.exc_info[0], "__name__", "unknown")
        if record.name == "asyncio":
            # It shows tasks and futures with their exceptions, and callbacks with their arguments.
            event["event"] = _SHOWN.split(event["event"], maxsplit=1)[0]
        event.setdefault("place", raised_at(record.exc_info[1]))
        record.exc_info = None
        record.exc_text = None
    event.pop("exc_info", None)
    return event

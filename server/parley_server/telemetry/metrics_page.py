"""The page of the metrics: an HTTP server in a thread, apart from everything that serves calls."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog

from parley_server.addresses import cannot_listen, resolve
from parley_server.core.failures import raised_at

log = structlog.get_logger("parley.metrics")

PATH = "/metrics"
REQUEST_TIMEOUT_S = 10.0
"""How long one who asks for the page may stay silent."""
STOP_S = 0.1
"""How soon the thread notices that it is to end."""

WsgiApp = Callable[..., Any]


@contextmanager
def page(listen: str, app: WsgiApp) -> Iterator[int]:
    """Serve the page inside the block.

    Args:
        listen: HOST:PORT.
        app: makes the page.
    Yields: the port.
    Raises: BadSettings: the address cannot be used.
    """
    try:
        server = _Server(*resolve(listen))
    except OSError as error:
        raise cannot_listen("PARLEY_METRICS_LISTEN", listen, error) from None
    with server:
        server.set_app(_only_at_path(app))
        serving = threading.Thread(
            target=server.serve_forever, args=(STOP_S,), name="metrics", daemon=True
        )
        serving.start()
        log.info(
            "metrics", address=f"http://{listen.rpartition(':')[0]}:{server.server_port}{PATH}"
        )
        try:
            yield server.server_port
        finally:
            server.shutdown()


def _only_at_path(app: WsgiApp) -> WsgiApp:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == PATH:
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"The metrics are at {PATH}.\n".encode()]

    return answer


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's name
        """Log nothing: a page every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self.address_family = family
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # WSGIServer's own asks a name server for this machine's name
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Log what went wrong, unless the reader has just hung up."""
        error = sys.exception()
        if error is not None and not isinstance(error, TimeoutError | ConnectionError):
            log.error("metrics not served", error=type(error).__name__, place=raised_at(error))

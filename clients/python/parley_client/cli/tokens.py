"""Gets tokens from a file or a command, and a new one when the server refuses one."""

import base64
import binascii
import json
import math
import shlex
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import closing
from threading import Lock
from typing import Any

from parley_client.calls import Call, Response
from parley_client.errors import Unauthenticated
from parley_client.streams import Event, OnRetry, Stream
from parley_client.sync_client import ParleyClient
from parley_client.tokens import TokenFile

_LONGEST_S = 60.0
_BEFORE_EXPIRY_S = 30.0
"""A token that expires sooner than this is not sent: the call has to arrive in time."""


class NoToken(OSError):
    """The command printed no token, or the file has none in it. The text says why."""


class FilledTokenFile(TokenFile):
    """A file that has to have a token in it: without one, the server would refuse the call."""

    def __call__(self) -> str:
        """Return the token. Raises: NoToken. OSError: the file cannot be read."""
        token = super().__call__()
        if not token.strip():
            raise NoToken(f"the token file {self._path} is empty")
        return token


class TokenCommand:
    """A command that prints the token. It runs again when the token has expired or was refused."""

    def __init__(self, command: str, clock: Callable[[], float] = time.time) -> None:
        """Split the command. Raises: ValueError: it is empty, or a quotation in it has no end."""
        self._arguments = shlex.split(command)
        if not self._arguments:
            raise ValueError("the token command is empty")
        self._clock = clock
        self._token = ""
        self._expires_at = 0.0
        self._lock = Lock()

    def __call__(self) -> str:
        """Return the token. Raises: NoToken."""
        with self._lock:
            if not self._token or self._clock() >= self._expires_at - _BEFORE_EXPIRY_S:
                self._token = self._run()
                self._expires_at = _expiry(self._token)
            return self._token

    def forget(self) -> None:
        """Forget the token, which was refused."""
        self._token = ""

    def _run(self) -> str:
        name = self._arguments[0]
        try:
            done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
                self._arguments,
                stdin=subprocess.DEVNULL,  # standard input may be the message
                stdout=subprocess.PIPE,
                timeout=_LONGEST_S,
                check=False,
            )
        except OSError as error:
            raise NoToken(f"the token command cannot run: {error}") from None
        except subprocess.TimeoutExpired:
            text = f"the token command {name} printed nothing within {_LONGEST_S:g} s"
            raise NoToken(text) from None
        if done.returncode:
            raise NoToken(f"the token command {name} ended with {done.returncode}")
        token = done.stdout.decode("utf-8", "replace").strip()
        if not token:
            raise NoToken(f"the token command {name} printed nothing")
        return token


class RenewingClient(ParleyClient):
    """A client that runs its token's command once more when the server refuses the token.

    A call with a refused token has not begun, so that making it again is safe.
    """

    def __init__(self, address: str, *, token: Any, credentials: Any) -> None:
        super().__init__(address, token=token, credentials=credentials)
        self._command = token if isinstance(token, TokenCommand) else None

    def _unary(self, call: Call[Response], closings: int | None = None) -> Response:
        try:
            return super()._unary(call, closings)
        except Unauthenticated:
            if self._command is None:
                raise
        self._command.forget()
        return super()._unary(call, closings)

    def _stream(
        self, stream: Stream[Event], on_retry: OnRetry | None
    ) -> Generator[Event, None, None]:
        is_new = False
        while True:
            try:
                with closing(super()._stream(stream, on_retry)) as events:
                    for event in events:
                        is_new = False  # it was accepted: a watch may need many tokens
                        yield event
                return
            except Unauthenticated:
                if self._command is None or is_new:
                    raise
            self._command.forget()
            is_new = True


def _expiry(token: str) -> float:
    """Return when a token expires, in seconds since 1970; infinity if it does not say."""
    try:
        claims = token.split(".")[1]
        decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return float(decoded["exp"])
    except (LookupError, TypeError, ValueError, binascii.Error):
        return math.inf

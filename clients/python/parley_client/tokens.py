"""Gets a call's bearer token from a string, a function, or a file."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import grpc

from parley_client.errors import DeadlineExceeded, Unavailable

Token = str | Callable[[], str]
"""A token, or a function that returns one and is called before every call."""
AsyncToken = Token | Callable[[], Awaitable[str]]
"""The same; the function may also be asynchronous. A synchronous function must not block."""

Metadata = tuple[tuple[str, str], ...]


class TokenFile:
    """A file that holds a token, such as a mounted secret. It is read again when it changes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def __call__(self) -> str:
        """Return the token. Raises: OSError: the file cannot be read."""
        stat = self._path.stat()
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._token = self._path.read_text(encoding="utf-8")
            self._seen = seen
        return self._token


def metadata_from(token: Token | None) -> Metadata:
    """Return the metadata that carries a token; empty without one.

    Raises: ValueError: the text cannot be a token. TypeError: the function is asynchronous, or the
        token is no text. Any error of the function.
    """
    found = token() if callable(token) else token
    if inspect.iscoroutine(found):
        found.close()
    if inspect.isawaitable(found):
        raise TypeError("an asynchronous token function needs AsyncParleyClient")
    return _bearer(found)


async def metadata_from_async(
    token: AsyncToken | None, time_left_s: float, request_id: str
) -> Metadata:
    """Return the metadata that carries a token; empty without one.

    Args:
        time_left_s: how long an asynchronous function may take, in seconds.
        request_id: the call's, which the error shows.
    Raises: ValueError: the text cannot be a token. TypeError: it is no text. DeadlineExceeded: the
        function took too long. Any error of the function.
    """
    found = token() if callable(token) else token
    if not inspect.isawaitable(found):
        return _bearer(found)
    limit = asyncio.timeout(time_left_s)
    try:
        async with limit:
            return _bearer(await found)
    except TimeoutError:
        if not limit.expired():  # the function's own
            raise
        text = "the token function gave no token in time"
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        raise DeadlineExceeded(text, code=code, request_id=request_id) from None


def tokenless(failure: Exception, request_id: str) -> Unavailable:
    """Return what a token that cannot be got is told as, while a stream waits for it.

    Args:
        failure: what asking for it has raised; the cause.
        request_id: the call's, which the error shows.
    """
    code = grpc.StatusCode.UNAVAILABLE
    error = Unavailable(f"no token: {failure}", code=code, request_id=request_id)
    error.__cause__ = failure
    return error


def naming(user: str) -> Metadata:
    """Return the metadata that names the user that a caller acts for.

    Raises: ValueError: the name cannot be written as UTF-8.
    """
    return (("parley-user", quote(user, safe="")),)


def _bearer(token: str | None) -> Metadata:
    if not (token is None or isinstance(token, str)):
        raise TypeError(f"a token has to be a str, not {type(token).__name__}")
    stripped = (token or "").strip()
    if not stripped:
        return ()
    if not (stripped.isascii() and stripped.isprintable()):
        raise ValueError("the token is not printable ASCII on one line")
    return (("authorization", f"Bearer {stripped}"),)

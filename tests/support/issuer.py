"""An issuer of tokens: real keys, published by real HTTP on loopback.

    async with Issuer().running() as issuer:
        key = a_signing_key("RS256", "2026-01")
        issuer.publish(key)
        Settings(auth_jwks_url=issuer.url, …)
        key.token(issuer="…", audience="…")

`fetches` counts the requests that came in. What is answered can be changed at any time: `publish`,
`reply` with anything, or `answer`, a coroutine function that writes what it likes.
"""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

_TO_JWK: dict[str, Any] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


@dataclass(frozen=True)
class SigningKey:
    algorithm: str
    kid: str | None
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, as it is published."""
        jwk: dict[str, Any] = json.loads(_TO_JWK[self.algorithm](self.private.public_key()))
        return jwk | {"use": "sig"} | ({} if self.kid is None else {"kid": self.kid})

    @property
    def private_jwk(self) -> dict[str, Any]:
        private: dict[str, Any] = json.loads(_TO_JWK[self.algorithm](self.private))
        return self.jwk | private

    def token(self, *, issuer: str, audience: str, header: Any = None, **claims: Any) -> str:
        now = int(time.time())
        good = {"iss": issuer, "aud": audience, "sub": "ada", "iat": now, "exp": now + 7200}
        kid = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(good | claims, self.private, self.algorithm, kid | (header or {}))


def a_signing_key(algorithm: str = "EdDSA", kid: str | None = "first") -> SigningKey:
    match algorithm:
        case "RS256":
            return SigningKey(algorithm, kid, rsa.generate_private_key(65537, 2048))
        case "ES256":
            return SigningKey(algorithm, kid, ec.generate_private_key(ec.SECP256R1()))
        case _:
            return SigningKey(algorithm, kid, ed25519.Ed25519PrivateKey.generate())


class Issuer:
    def __init__(self) -> None:
        self.fetches = 0
        self.requests: list[bytes] = []
        self.answer: Answer = hang_up
        self.url = ""
        self.gate = asyncio.Event()
        """Requests are answered while it is set."""
        self.gate.set()

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Issuer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/keys"
        try:
            yield self
        finally:
            self.gate.set()
            server.close()

    def publish(self, *keys: SigningKey) -> None:
        self.reply({"keys": [key.jwk for key in keys]})

    def reply(self, body: Any, *, status: str = "200 OK", headers: str = "") -> None:
        """Answer every request like this: bytes as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\n{headers}\r\n"

        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(head.encode() + content)
            await writer.drain()

        self.answer = answer

    def go_down(self) -> None:
        self.answer = hang_up

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            self.fetches += 1
            await self.gate.wait()
            await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # whoever asked has had enough, which is what some tests are about
        finally:
            writer.close()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Answer with nothing at all."""


class Clock:
    """A clock that stands still until a test moves it, with those who sleep by it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._moved = asyncio.Event()

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            await self._moved.wait()

    def move(self, seconds: float) -> None:
        self.now_s += seconds
        self._moved.set()
        self._moved = asyncio.Event()

"""A stand-in for an identity provider, to try Parley with, and for nothing else.

    python deploy/trial/issuer.py serve KEY PORT   publishes the public half of KEY, made if need be
    python deploy/trial/issuer.py token KEY USER   prints a token of USER's, good for an hour

Its JWKS is at http://127.0.0.1:PORT/jwks.json.
"""

import hashlib
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER, AUDIENCE, TTL_S = "https://issuer.trial", "parley", 3600


def make_key(path: Path) -> None:
    """Make a private key that only this user can read. One that is there stays."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError:
        pass


def published(path: Path) -> dict[str, str]:
    """Return the public half as it is published. Its kid is its digest: another key has another."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    jwk: dict[str, str] = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    return jwk | {"use": "sig", "kid": hashlib.sha256(jwk["n"].encode()).hexdigest()[:16]}


def token(path: Path, user: str) -> str:
    """Return a token that says who the user is."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + TTL_S}
    return jwt.encode(claims, path.read_bytes(), "RS256", {"kid": published(path)["kid"]})


class Jwks(BaseHTTPRequestHandler):
    """Answers everybody with the key file's public half."""

    key: Path

    def do_GET(self) -> None:
        body = json.dumps({"keys": [published(self.key)]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", key, port]:
            make_key(Path(key))
            Jwks.key = Path(key)
            HTTPServer(("127.0.0.1", int(port)), Jwks).serve_forever()
        case ["token", key, user]:
            print(token(Path(key), user))
        case _:
            sys.exit(__doc__)

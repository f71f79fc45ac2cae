"""The part `edge`: what a turn costs with TLS, an issuer's keys and metrics, and without."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

import jwt
import processes
import trustme
from callers import Job, Result
from cryptography.hazmat.primitives.asymmetric import rsa
from processes import Callers, Databases
from report import Bar, print_table, ratio
from rounds import rounds
from seed import AUDIENCE, ISSUER

KEY_ID = "bench"
IN_FLIGHT = 32


class Issuer:
    """Signs tokens, RS256, and publishes its key."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        self._jwks = json.dumps({"keys": [{**public, "kid": KEY_ID, "use": "sig"}]}).encode()

    @contextmanager
    def publishing(self) -> Iterator[str]:
        """Serve the key inside the block. Yields: the URL."""
        jwks = self._jwks

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(jwks)))
                self.end_headers()
                self.wfile.write(jwks)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/jwks.json"
            finally:
                server.shutdown()
                thread.join()

    def signed(self, conversations: str, folder: Path) -> str:
        """Return a file with the same conversations, and tokens of this issuer's."""
        pairs: list[list[str]] = json.loads(Path(conversations).read_text())
        tokens = {token: self._token(token) for token in {token for token, _ in pairs}}
        path = folder / "signed.json"
        path.write_text(json.dumps([(tokens[token], name) for token, name in pairs]))
        return str(path)

    def _token(self, token: str) -> str:
        user = jwt.decode(token, options={"verify_signature": False})["sub"]
        claims = {"sub": user, "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 86_400}
        return jwt.encode(claims, self._key, "RS256", headers={"kid": KEY_ID})


class Edge:
    def __init__(
        self,
        folder: Path,
        conversations: str,
        say: Callable[[str], None],
        *,
        rounds: int,
        turns: int,
    ) -> None:
        self._folder = folder
        self._conversations = conversations
        self._say = say
        self._rounds = rounds
        self._turns = turns
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        """Have three workers take turns: bare; with all of the edge; with row security as well."""
        issuer = Issuer()
        bare = Job(self._conversations, IN_FLIGHT, self._turns, warm_up=self._turns // 5)
        ca_file, certificate = self._certificate()
        signed = replace(
            bare, conversations=issuer.signed(self._conversations, self._folder), ca_file=ca_file
        )
        found: dict[str, list[Result]] = {}
        with ExitStack() as running:
            walled = running.enter_context(made.walled())
            edge = {
                **certificate,
                "PARLEY_AUTH_HS256_SECRET": "",
                "PARLEY_AUTH_JWKS_URL": running.enter_context(issuer.publishing()),
                "PARLEY_METRICS_LISTEN": "127.0.0.1:0",
            }

            def callers(url: str, changes: Mapping[str, str]) -> Callers:
                server = processes.parley(url, self._folder, changes=changes)
                return Callers(running.enter_context(server), made)

            kinds = {
                "bare": (callers(made.parley_url, {}), bare),
                "TLS, JWKS, metrics": (callers(made.parley_url, edge), signed),
                "and row security": (
                    callers(walled, {**edge, "PARLEY_ROW_SECURITY": "1"}),
                    signed,
                ),
            }
            for name in rounds("edge", list(kinds), self._rounds, self._say):
                one, job = kinds[name]
                result = one.run(job)
                self.failed += result.failed
                found.setdefault(name, []).append(result)
        print_table(
            f"A turn, {IN_FLIGHT} in flight, with what the edge brings",
            ("", "turns/s", "p50 ms", "p99 ms", "CPU server ms", "CPU Postgres ms", "CPU, ratio"),
            [
                (name, *(
                    median(getattr(result, figure) for result in found[name])
                    for figure in
                    ("turns_per_s", "p50_ms", "p99_ms", "server_cpu_ms", "postgres_cpu_ms")
                ), _ratio(found[name], found["bare"]))
                for name in kinds
            ],
        )  # fmt: skip
        name = "TLS, JWKS, metrics"
        self.bars.append(
            Bar(f"server CPU of a turn, with {name} / bare",
                _ratio(found[name], found["bare"]), 1.25)
        )  # fmt: skip

    def _certificate(self) -> tuple[str, dict[str, str]]:
        """Return the file of an authority, and the settings of a server that it vouches for."""
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        paths = {name: self._folder / f"edge-{name}.pem" for name in ("ca", "cert", "key")}
        authority.cert_pem.write_to_path(paths["ca"])
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(paths["cert"], append=number > 0)
        certificate.private_key_pem.write_to_path(paths["key"])
        return str(paths["ca"]), {
            "PARLEY_TLS_CERT_FILE": str(paths["cert"]),
            "PARLEY_TLS_KEY_FILE": str(paths["key"]),
        }


def _ratio(some: list[Result], bare: list[Result]) -> float:
    pairs = zip(some, bare, strict=True)
    return median(ratio(a.server_cpu_ms, b.server_cpu_ms) for a, b in pairs)

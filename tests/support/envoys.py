"""The Envoy of deploy/envoy/envoy.yaml as a process of its own, in front of workers of a test."""

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import grpc
import httpx2 as httpx

from parley.v1 import conversation_service_pb2_grpc

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "envoy" / "envoy.yaml"
BINARY = Path(sys.executable).parent / "envoy"
START_S = 30

Change = tuple[str, str]
"""A text of the configuration and what it becomes. It has to be there."""


def changed(text: str, *changes: Change) -> str:
    for old, new in changes:
        assert old in text, f"envoy.yaml has no {old!r} any more"
        text = text.replace(old, new)
    return text


def with_tls(text: str) -> str:
    """Take the parts about TLS out of their comments."""
    return text.replace("#tls ", "")


def build_descriptors(path: Path) -> None:
    """Build what Envoy transcodes JSON with, as people do."""
    make = ("make", "--silent", "descriptors", f"DESCRIPTORS={path}", f"PYTHON={sys.executable}")
    subprocess.run(make, cwd=ROOT, check=True)


class Envoy:
    """A proxy in front of one or two workers, on ports that the system chose.

    Args:
        ports: the workers'; one alone has both places.
        changes: what this test's configuration has instead of texts of the file's.
    """

    def __init__(
        self, folder: Path, ports: Iterable[int], *changes: Change, text: str = ""
    ) -> None:
        first, *others = ports
        self._folder = folder
        self._text = changed(
            text or CONFIG.read_text(),
            ("port_value: 9901", "port_value: 0"),
            ("port_value: 8080", "port_value: 0"),
            ("port_value: 50051", f"port_value: {first}"),
            ("port_value: 50052", f"port_value: {others[0] if others else first}"),
            ("build/parley.binpb", str(folder / "parley.binpb")),
            *changes,
        )
        self.log = folder / "log"
        """What Envoy says of itself."""
        self.lines: list[str] = []
        """The access log."""
        self.port = 0

    def _start(self) -> None:
        admin_path = self._folder / "admin"
        config_path = self._folder / "envoy.yaml"
        config_path.write_text(self._text)
        build_descriptors(self._folder / "parley.binpb")
        self.process = subprocess.Popen(
            [
                str(BINARY),
                *("-c", str(config_path)),
                *("--admin-address-path", str(admin_path)),
                *("--log-path", str(self.log)),
                *("--base-id-path", str(self._folder / "base-id"), "--use-dynamic-base-id"),
                *("--concurrency", "2", "--file-flush-interval-msec", "50"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.admin = httpx.Client(base_url=f"http://{self._awaited(admin_path)}", timeout=10)
            self._until_ready()
            listener = self.admin.get("/listeners?format=json").json()["listener_statuses"][0]
        except BaseException:
            self.stop()
            raise
        self.port = listener["local_address"]["socket_address"]["port_value"]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def _awaited(self, path: Path) -> str:
        """Return what Envoy writes into a file once it listens."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if path.exists() and path.read_text():
                return path.read_text()
            time.sleep(0.02)
        said = [line for line in self.log.read_text().splitlines() if "[info]" not in line]
        raise AssertionError(f"Envoy did not start: {said}")

    def _until_ready(self) -> None:
        """Wait until Envoy has asked every worker for its health and takes calls."""
        deadline = time.monotonic() + START_S
        while self.admin.get("/ready").status_code != 200:
            assert time.monotonic() < deadline, "Envoy does not get ready"
            time.sleep(0.02)

    def stat(self, name: str) -> int:
        """Return a counter or gauge; 0: nothing was counted yet."""
        found = re.search(
            r": (\d+)$", self.admin.get(f"/stats?filter=^{re.escape(name)}$").text.strip()
        )
        return int(found[1]) if found else 0

    def health_of(self, port: int) -> dict[str, Any]:
        """Return what Envoy holds against a worker: of a healthy one, nothing."""
        clusters = self.admin.get("/clusters?format=json").json()["cluster_statuses"]
        hosts = next(c for c in clusters if c["name"] == "parley")["host_statuses"]
        host = next(h for h in hosts if h["address"]["socket_address"]["port_value"] == port)
        return {name: value for name, value in host["health_status"].items() if value is True}

    async def until_healthy(self, *ports: int) -> None:
        """Wait until each of the workers gets calls."""
        for port in ports:
            async with asyncio.timeout(START_S):
                while self.health_of(port):
                    await asyncio.sleep(0.05)

    async def until_unhealthy(self, port: int) -> dict[str, Any]:
        """Wait until something is held against a worker, and return it."""
        async with asyncio.timeout(START_S):
            while not (found := self.health_of(port)):
                await asyncio.sleep(0.05)
        return found

    async def logged(self, text: str) -> dict[str, Any]:
        """Return the access log's first line with this text, once it is there."""
        async with asyncio.timeout(START_S):
            while not (found := [line for line in self.lines if text in line]):
                await asyncio.sleep(0.05)
        line: dict[str, Any] = json.loads(found[0])
        return line

    def calls_of_workers(self) -> Counter[int]:
        """Return how many calls each worker was sent, by port."""
        clusters = self.admin.get("/clusters?format=json").json()["cluster_statuses"]
        hosts = next(c for c in clusters if c["name"] == "parley")["host_statuses"]
        return Counter(
            {
                host["address"]["socket_address"]["port_value"]: int(stat.get("value", 0))
                for host in hosts
                for stat in host["stats"]
                if stat["name"] == "rq_total"
            }
        )

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(5)

    async def __aenter__(self) -> Self:
        # In a thread: Envoy is ready when the workers have told their health, from this very loop.
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.admin.close()
        self.stop()


class Caller:
    """Plain stubs through a proxy, with gRPC's own retries only where a test wants them."""

    def __init__(
        self,
        address: str,
        service_config: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        options: list[tuple[str, str | int]] = [("grpc.enable_retries", int(bool(service_config)))]
        if service_config:
            options.append(("grpc.service_config", service_config))
        self.channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        self.stub = conversation_service_pb2_grpc.ConversationServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close(None)

"""docs/operations.md is run as a reader would: block after block, in one bash."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml

from support.databases import as_superuser
from support.guides import as_pattern, free_ports

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"
ENVOY = "deploy/envoy/envoy.yaml"
PORTS = ("50051", "50052", "8090", "8443", "9464", "9465", "9901")
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SAID = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
SERIES = re.compile(r"\b(?:grpc_server|parley)_[a-z_]+\b")
PARTS = re.compile(r"_(?:bucket|sum|count)$")

GOES_WRONG: Mapping[str, tuple[str, ...]] = {
    "6. Two workers": (
        'psql -q "$ADMIN_URL" -c "CREATE DATABASE ${DATABASE}_bare OWNER ${DATABASE}_owner";'
        "settings env PARLEY_DATABASE_URL=${SERVER_URL}_bare parley-server serve",
        "settings env PARLEY_DATABASE_URL=${SERVER_URL/_server/_nobody} parley-server serve",
        "settings env PARLEY_DATABASE_URL=${SERVER_URL}_none parley-server serve",
        "PARLEY_DATABASE_URL=${OWNER_URL}_bare parley-server migrate 2> /dev/null;"
        "settings env PARLEY_DATABASE_URL=${SERVER_URL}_bare parley-server serve;"
        'psql -q "$ADMIN_URL" -c "DROP DATABASE ${DATABASE}_bare"',
        "settings env PARLEY_ROW_SECURITY=0 parley-server serve",
        "settings env PARLEY_DATABASE_URL=$OWNER_URL parley-server serve",
        "settings env PARLEY_LISTEN=127.0.0.1:50051 parley-server serve",
        'settings env PARLEY_TLS_KEY_FILE="$TRIAL/front.key" parley-server serve',
        "settings env PARLEY_AUTH_JWKS_URL=http://issuer.example/ parley-server serve",
        "parley-server check --address 127.0.0.1:50051",
    ),
    "8. Calls": (
        "PARLEY_TOKEN=nonsense parley chat hello",
        "env -u PARLEY_CA_FILE parley chat hello --timeout 5",
    ),
}
"""What is done after a section to bring about the messages in its table, in their order."""


@dataclass
class Section:
    title: str
    text: str
    blocks: list[tuple[str, str | None]] = field(default_factory=list)
    """What is pasted, and what comes out if the page says so."""


def sections() -> Iterator[Section]:
    """Return the guided way's sections that have something to paste."""
    _, start, rest = PAGE.read_text().partition("\n# The guided way\n")
    guided, end, _ = rest.partition("\n# To look up\n")
    assert start
    assert end
    for part in re.split(r"^## ", guided, flags=re.MULTILINE)[1:]:
        section = Section(part.partition("\n")[0], part)
        for kind, content in BLOCK.findall(part):
            if kind == "sh":
                section.blocks.append((content, None))
            else:
                pasted, before = section.blocks.pop()
                assert before is None, f"{section.title}: two outputs of one block"
                section.blocks.append((pasted, content))
        yield section


def series_to_watch() -> set[str]:
    """Return what the page and the alerts name, a histogram's parts by the histogram's name."""
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    table = PAGE.read_text().partition("## What to alarm on")[2].partition("```")[0]
    named = SERIES.findall(" ".join([table, *(rule["expr"] for rule in rules)]))
    assert all({"alert", "labels", "annotations"} <= rule.keys() for rule in rules)
    return {PARTS.sub("", name) for name in named}


class Bash:
    """One shell, into which blocks are pasted."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def paste(self, block: str) -> str:
        """Run a block. Returns: what it printed."""
        process, mark = self._process, f"--{secrets.token_hex(8)}--"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{block}\necho {mark}\n")
        process.stdin.flush()
        printed = ""
        for line in process.stdout:
            before, marked, _ = line.partition(mark)
            printed += before
            if marked:
                return printed
        raise AssertionError(f"bash ended: {printed}")

    def close(self) -> None:
        """End it, with what it started and what a test that failed has left running."""
        with ExitStack() as ending:
            ending.callback(self._process.wait, 20)
            self.paste("kill $(jobs -p) 2> /dev/null; wait")
            assert self._process.stdin is not None
            self._process.stdin.close()


class Here:
    """What the page's texts are on this machine: other ports, another database."""

    def __init__(self, folder: Path, postgres_url: str) -> None:
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._port = re.compile(rf"\b({'|'.join(PORTS)})\b")
        self._envoy = folder / "envoy.yaml"
        self._envoy.write_text(self._on_free_ports((ROOT / ENVOY).read_text()))
        admin = as_superuser(postgres_url)
        parts = urlsplit(admin)
        folders = parse_qs(parts.query).get("host")
        self._yours = {
            "ADMIN_URL": admin,
            "POSTGRES": quote(folders[0], safe="") if folders else parts.netloc.split("@")[-1],
            "DATABASE": f"parley_trial_{secrets.token_hex(4)}",
        }

    def _on_free_ports(self, text: str) -> str:
        return self._port.sub(lambda found: self._ports[found[1]], text)

    def text(self, text: str) -> str:
        text = self._on_free_ports(text.replace(ENVOY, str(self._envoy)))
        for name, value in self._yours.items():
            text = re.sub(rf"(?m)^export {name}=.*$", f"export {name}='{value}'", text)
        return text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_guided_way_does_and_says_what_the_page_says(postgres_url: str, tmp_path: Path) -> None:
    """Everything that is printed is compared, every command has to succeed, and every message that
    the page explains has to be one that comes. Seen to fail without ALPN in Envoy's health checks,
    and when SIGTERM went to a shell around the worker."""
    here = Here(tmp_path, postgres_url)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PARLEY_")}
    bash = Bash(inherited | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)})
    try:
        for section in sections():
            for pasted, expected in section.blocks:
                printed = bash.paste(here.text(f"trap 'echo failed: $BASH_COMMAND' ERR\n{pasted}"))
                pattern = as_pattern("…" if expected is None else here.text(expected))
                if "failed:" in printed or not pattern.fullmatch(printed.strip()):
                    logs = bash.paste(here.text('jobs -l; tail -n 5 "$TRIAL"/*.log'))
                    pytest.fail(f"{section.title}:\n{pasted}\nprinted\n{printed}\n{logs}", False)
            if section.title == "9. Metrics":
                page = bash.paste(here.text("curl -fsS http://127.0.0.1:9464/metrics"))
                assert set() == series_to_watch() - set(re.findall(r"(?m)^# TYPE (\w+) ", page))
            messages = SAID.findall(section.text)
            provoked = GOES_WRONG.get(section.title, ())
            assert len(messages) == len(provoked), section.title
            for message, snippet in zip(messages, provoked, strict=True):
                printed = bash.paste(here.text(f"trap - ERR\n{snippet}"))
                assert as_pattern(here.text(message)).search(printed), f"{message}\n{printed}"
    finally:
        bash.close()

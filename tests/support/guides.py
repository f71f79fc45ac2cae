"""Pages that are followed as a newcomer would: block after block, each on its terminal."""

import os
import pty
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.envoys import CONFIG
from support.pages import ROOT
from support.terminals import environment

START_S = 60
END_S = 30
SERVER, PROXY, ADMIN, NOBODY = "50051", "8080", "9901", "50052"
"""The pages' ports: a server's, Envoy's two, and that of a second server, which there is not."""
_BLOCK = re.compile(r"^```(sh|text|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DOWNLOADS = re.compile(r"^go: downloading .*\n?", re.MULTILINE)
"""What Go says the first time on a machine, and no other time."""
_SERVE = "parley-server serve\n"
"""What a block ends with that goes on, and so has a terminal of its own."""
_MAKES = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
"""What `make` tells the programs that it runs: a newcomer's has not been run by another one."""


@dataclass
class Block:
    """Commands, and what they print.

    Attributes:
        is_running: they have a terminal of their own, where the last one goes on.
        printed: None: nothing.
    """

    commands: str
    is_running: bool = False
    printed: str | None = None


def blocks(text: str) -> list[Block]:
    """Return a page's blocks, each with its output."""
    found: list[Block] = []
    for kind, content in _BLOCK.findall(text):
        if kind == "text":
            assert found, f"no block before {content}"
            assert found[-1].printed is None, f"two outputs of one block: {content}"
            found[-1].printed = content
        elif kind == "sh":
            found.append(Block(content, is_running=content.endswith(_SERVE)))
        else:
            lines = content.splitlines()
            assert all(line.startswith("$ ") for line in lines), content
            found.append(Block("\n".join(line[2:] for line in lines), is_running=True))
    return found


def as_pattern(text: str) -> re.Pattern[str]:
    """Return what a text of a page stands for: `…` is anything.

    On a slow machine "just now" is some minutes ago, and the columns of a table are as wide.
    """
    pattern = ".*?".join(map(re.escape, text.strip().split("…")))
    pattern = pattern.replace(r"just\ now", r"(?:just\ now|\d+\ minutes?\ ago)")
    return re.compile(re.sub(r"(?:\\ ){2,}", r"\\ +", pattern), re.DOTALL)


def free_ports(count: int) -> list[str]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


class Terminal:
    """One bash, whose commands write to a terminal."""

    def __init__(self, variables: Mapping[str, str], folder: Path = ROOT) -> None:
        self._fd, theirs = pty.openpty()
        # No cursor, no colours: what is shown is what is read here.
        known = environment(TERM="dumb", **variables)
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env={name: value for name, value in known.items() if name not in _MAKES},
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._printed = b""
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, with what still runs in it, as Ctrl-C and closing the window do."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGINT)
            self._reader.join(END_S)  # until nobody writes to it any more
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(END_S)
            self._reader.join(END_S)
            os.close(self._fd)

    def paste(self, commands: str) -> str:
        """Run commands. Returns: what they printed, without spaces at the ends of lines."""
        mark = f"--{secrets.token_hex(8)}--"
        start = len(self._printed)
        self.type(f"{commands}\necho {mark}")
        with self._came:
            while mark.encode() not in self._printed[start:]:
                assert self._reader.is_alive(), f"bash ended: {self.shown}"
                self._came.wait(1)
        return _tidy(self._printed[start:].partition(mark.encode())[0])

    def type(self, commands: str) -> None:
        """Run commands, and wait for nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{commands}\n".encode())
        self._process.stdin.flush()

    @property
    def shown(self) -> str:
        """All that was printed."""
        return _tidy(self._printed)

    def _read(self) -> None:
        with suppress(OSError):  # nobody has the other side any more
            while read := os.read(self._fd, 65_536):
                with self._came:
                    self._printed += read
                    self._came.notify_all()


def _tidy(printed: bytes) -> str:
    return "\n".join(line.rstrip() for line in printed.decode().splitlines()).strip()


class Here:
    """What the pages' texts are on this machine: other ports, and Envoy's file with them.

    Nothing else of a page is changed, except that Envoys get along with others on the machine.
    """

    def __init__(self, folder: Path, *more_ports: str) -> None:
        names = (SERVER, PROXY, ADMIN, NOBODY, *more_ports)
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._port = re.compile(rf"\b({'|'.join(self._ports)})\b")
        self._config = folder / "envoy.yaml"
        self._config.write_text(self._on_these_ports(CONFIG.read_text()))
        self._log = folder / "envoy.log"
        self.variables = {
            "PARLEY_LISTEN": f"127.0.0.1:{self._ports[SERVER]}",
            "PARLEY_ADDRESS": f"127.0.0.1:{self._ports[SERVER]}",
            "PARLEY_DATA_DIR": str(folder / "data"),
            "PARLEY_AGENT": "echo",
            "TMPDIR": str(folder),
        }

    def text(self, text: str) -> str:
        text = text.replace("build/envoy.log", str(self._log))
        own = f"-c {self._config} --use-dynamic-base-id"
        return self._on_these_ports(text.replace("-c deploy/envoy/envoy.yaml", own))

    def until_served(self, page_port: str, terminal: Terminal) -> None:
        """Wait until something takes connections on a port of the pages'."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", int(self._ports[page_port])), timeout=5),
            ):
                return
            time.sleep(0.05)
        raise AssertionError(f"nothing serves on {page_port}: {terminal.shown}")

    def _on_these_ports(self, text: str) -> str:
        return self._port.sub(lambda found: self._ports[found[1]], text)


def follow(text: str, folder: Path, *, has_agents_file: bool = False) -> list[str]:
    """Follow a page from its start to its end.

    Args:
        text: the page.
        folder: for what it writes.
        has_agents_file: it names its agents itself; without, they are `echo`.

    Every command has to succeed, and everything that is printed is compared. Of what goes on in
    terminals of its own, the first is a server, the second Envoy. A request of curl fails if its
    answer is an error, unless the answer goes into a pipe.

    Returns: what was printed by each of those that went on.
    """
    here = Here(folder)
    if has_agents_file:
        del here.variables["PARLEY_AGENT"]
    ports = iter((SERVER, PROXY))
    running: list[Terminal] = []
    with ExitStack() as stack:
        terminal = stack.enter_context(Terminal(here.variables))
        terminal.paste('curl() { command curl --fail-with-body "$@"; }')
        for block in blocks(text):
            commands = here.text(block.commands)
            if block.is_running:
                running.append(stack.enter_context(Terminal(here.variables)))
                running[-1].type(commands)
                here.until_served(next(ports), running[-1])
                continue
            printed = terminal.paste(f"trap 'echo failed: $BASH_COMMAND' ERR\n{commands}")
            printed = _DOWNLOADS.sub("", printed)
            assert "failed:" not in printed, f"{commands}\nprinted\n{printed}"
            expected = as_pattern(here.text(block.printed or ""))
            assert expected.fullmatch(printed), f"{commands}\nprinted\n{printed}"
    return [one.shown for one in running]

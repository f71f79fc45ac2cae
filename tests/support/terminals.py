"""The command `parley`, run as people and as scripts run it."""

import asyncio
import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from support.emulator import Emulator

PARLEY = (sys.executable, "-c", "from parley_client.cli import main; main()")
CONTROLLED = (
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])",
)
"""Stands before a command that is to be controlled by the terminal on its standard input."""
_PERSONAL = ("PARLEY_", "PAGER", "LESS", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
ROOT = Path(__file__).parents[2]


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what people set, and with these.

    Nobody's profile is used, and nothing is written into anybody's history.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_PERSONAL)}
    paths = (str(ROOT / "protos"), str(ROOT / "clients" / "python"))
    ours = {
        "PYTHONPATH": os.pathsep.join(paths),
        "TERM": "xterm-256color",
        "PARLEY_PROFILE": "none",
        "PARLEY_INPUT_HISTORY": "0",
    }
    return {**kept, **ours, **changes}


async def run(
    *arguments: str, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a script does, without a terminal."""
    return await asyncio.to_thread(
        subprocess.run,
        [*PARLEY, *arguments],
        input=stdin,
        capture_output=True,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


class Terminal:
    """The command on a terminal of its own, as a person sees it. Use it in a thread."""

    def __init__(
        self, *arguments: str, columns: int = 120, rows: int = 40, **variables: str
    ) -> None:
        ours, theirs = pty.openpty()
        self.resize(columns, rows, theirs)
        os.set_blocking(ours, False)
        self._fd = ours
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = ""
        self._emulator = Emulator(columns, rows)
        self._seen = ""
        """What was on the screen up to the last text waited for."""
        self._process = subprocess.Popen(
            [*CONTROLLED, *PARLEY, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(**variables),
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._fd)

    @property
    def screen(self) -> str:
        """What can be seen, scrolled back to the first line."""
        return self._emulator.text

    def resize(self, columns: int, rows: int, fd: int | None = None) -> None:
        """Make the window as large; the command is told, as by a real one."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._fd if fd is None else fd, termios.TIOCSWINSZ, size)

    @property
    def settings(self) -> tuple[bool, bool]:
        """Whether the terminal shows what is typed, and whether programs get it line by line."""
        flags = termios.tcgetattr(self._fd)[3]
        return bool(flags & termios.ECHO), bool(flags & termios.ICANON)

    def kill(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def send(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str, timeout_s: float = 20) -> str:
        """Wait until a text is shown after the last one waited for; return what came with it."""
        deadline = time.monotonic() + timeout_s
        while True:
            screen = self.screen
            # What was seen may have been drawn anew since: then from the character that differs.
            start = len(os.path.commonprefix([self._seen, screen]))  # noqa: RUF071 - as said
            found = screen.find(text, start)
            if found >= 0:
                self._seen = screen[: found + len(text)]
                return self._seen[start:]
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown, but {screen!r}")

    def press(self, key: str, text: str) -> None:
        """Press a key until a text is shown, as a person does.

        Python misses a Ctrl-C that comes just before it waits for the next key of a line.
        """
        for _ in range(9):
            self.send(key)
            with suppress(AssertionError):
                self.wait_for(text, timeout_s=2)
                return
        self.wait_for(text)

    def ended(self, timeout_s: float = 20) -> int:
        """Wait for the command's end; return its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65_536)
        except OSError:  # the other side is closed
            return False
        text = self._decoder.decode(data)
        self.raw += text
        self._emulator.feed(text)
        return bool(data)

"""Files that are locked for as long as a process lives, by the kernel (flock)."""

import fcntl
import os
import time
from typing import IO

NAMED_S = 2.0
"""How long it may take a process that has locked a file to write down which one it is."""


def locked(file: IO[bytes] | IO[str]) -> bool:
    """Lock a file until it is closed. Returns: False if another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def owned(file: IO[str]) -> str | None:
    """Lock a file and write this process's id into it.

    Args:
        file: opened with "a+".
    Returns: None; or, if another process has it, that one's id.
    Guarantees: of several at the same moment one gets it, and the others learn which one: until it
        has written down its id, the file is empty or names an earlier one, which was killed.
    """
    deadline = time.monotonic() + NAMED_S
    while not locked(file):
        file.seek(0)
        owner = file.read()
        if _is_running(owner) or time.monotonic() > deadline:
            return owner or "unknown"
        time.sleep(0.02)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return None


def _is_running(pid: str) -> bool:
    """Whether a text is the id of a process that runs on this machine."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # it runs, and is another user's
    return True

"""A folder in memory, for what makes many files.

Postgres makes some 300 files for each database, and most tests have a database. On a disk that is
most of their time: where the file system is slow at that, a file takes the processor a millisecond.
On a machine without `/dev/shm`, or without room there, the folder is on the disk.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parley_server.storage.embedded import locks

_MEMORY = Path("/dev/shm")
_PREFIX = "parley-tests-"
_NEEDED_BYTES = 2 * 1024**3
"""What must be free: several processes test at once, and each has a cluster of up to 300 MB."""


@contextmanager
def a_folder(on_disk: Path) -> Iterator[Path]:
    """Make a folder in memory for the block; without room there, yield `on_disk`.

    Guarantees: what a killed run left in memory is removed by the next one.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _NEEDED_BYTES:
        yield on_disk
        return
    for left in _MEMORY.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_MEMORY) as name,
        Path(name, "lock").open("w") as lock,
    ):
        locks.locked(lock)
        yield Path(name)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder whose run has ended. Another user's stays."""
    try:
        lock = (folder / "lock").open("r+")
    except OSError:  # being made at this moment, being removed, or another user's
        return
    with lock:
        if locks.locked(lock):
            shutil.rmtree(folder, ignore_errors=True)

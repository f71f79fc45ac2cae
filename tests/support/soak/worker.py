"""`python -m support.soak.worker serve`: a worker that says what it holds, whenever it is asked.

On SIGUSR2 it writes a line of JSON: how many tasks there are, and how many objects the garbage
collector leaves. Otherwise it is the server as it is.
"""

import asyncio
import gc
import json
import signal
import sys
from types import FrameType

from parley_server.__main__ import main


def _tell(_: int, __: FrameType | None) -> None:
    tasks = asyncio.all_tasks()  # the signal is handled between two of them
    gc.collect()
    held = {"event": "held", "tasks": len(tasks), "objects": len(gc.get_objects())}
    sys.stderr.write(json.dumps(held) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, _tell)
    main()

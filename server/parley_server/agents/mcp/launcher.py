"""Starts an MCP server's program so that it does not outlive the worker: `launcher.py PID COMMAND`.

It is started by its path and imports nothing of Parley. On Linux the kernel is told to kill the
program when the worker ends, however it ends; elsewhere the program sees its standard input close.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    worker, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(worker):  # it has ended already
            sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and programs inherit that
    try:
        os.execvp(command[0], command)  # noqa: S606  # the operator's own command, and no shell
    except OSError as error:
        sys.exit(f"it cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()

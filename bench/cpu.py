"""The CPU clocks of processes, as the kernel keeps them."""

import psutil

Clocks = dict[int, float]
"""By process id, in s, user and system."""


def clocks(pid: int, *, with_children: bool = False) -> Clocks:
    """Return the CPU time of a process, or of all that it started as well; of 0, nothing."""
    if not pid:
        return {}
    process = psutil.Process(pid)
    times = {}
    for one in [process, *(process.children(recursive=True) if with_children else ())]:
        try:
            used = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        times[one.pid] = used.user + used.system
    return times


def used_s(before: Clocks, after: Clocks) -> float:
    return sum(used - before.get(pid, 0.0) for pid, used in after.items())

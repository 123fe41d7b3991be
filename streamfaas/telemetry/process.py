"""What the daemon's own process uses, as the kernel has it."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Any

_SELF = Path("/proc/self")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage() -> dict[str, Any]:
    """By the names that Prometheus has for it."""
    # the name of the program, in brackets, may hold spaces
    fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
    user, system, started, pages = (int(fields[at]) for at in (11, 12, 19, 21))
    return {
        "python": platform.python_version(),
        "process_cpu_seconds": (user + system) / _TICKS,
        "process_resident_memory_bytes": pages * _PAGE,
        "process_start_time_seconds": _boot_seconds() + started / _TICKS,
        "process_open_fds": sum(1 for _ in (_SELF / "fd").iterdir()),
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _boot_seconds() -> int:
    with open("/proc/stat", encoding="ascii") as stat:  # noqa: PTH123 - a file of the kernel
        return next(int(line.split()[1]) for line in stat if line.startswith("btime"))

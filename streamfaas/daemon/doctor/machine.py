"""What the kernel gives this process, tried by asking it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

from streamfaas.daemon.doctor import Finding, bad, ok, warn

DESCRIPTORS_AT_LEAST = 1_024
INOTIFY_WATCHES_LOW = 8_192

_libc = ctypes.CDLL(None, use_errno=True)
_TIME_ERROR = 5
_STATUS_IN_NANOSECONDS = 0x2000
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1
_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "ppc64le": 358, "s390x": 348}
_SECCOMP_ACTION_AVAILABLE = 2
_SECCOMP_ERRNO = 0x00050000


class _Timex(ctypes.Structure):
    """The head of what adjtimex(2) fills in; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("error_max", ctypes.c_long),
        ("error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    )


def clock() -> list[Finding]:
    """Whether somebody keeps the machine's clock right, as the kernel was told."""
    asked = _Timex()
    state = _libc.adjtimex(ctypes.byref(asked))
    if state < 0:
        told = f"the kernel does not say ({os.strerror(ctypes.get_errno())})"
        return [warn("clock", f"clock: {told}", "allow adjtimex(2) to this user", "SF3002")]
    if state == _TIME_ERROR:
        remedy = "start one: apt-get install systemd-timesyncd, or chrony"
        return [warn("clock", "clock: nobody keeps it synchronised", remedy, "SF3002")]
    scale = 1e6 if asked.status & _STATUS_IN_NANOSECONDS else 1e3
    off, most = abs(asked.offset) / scale, asked.error_max / 1e3
    return [ok("clock", f"clock synchronised (offset {off:.1f} ms, error {most:.0f} ms at most)")]


_OPEN_ALL = """
import os, sys
found = [0]
try:
    while len(found) < int(sys.argv[1]):
        found.append(os.dup(0))
except OSError as error:
    print(len(found), error.strerror)
else:
    print(len(found))
"""


def descriptors(need: int) -> list[Finding]:
    """As many are opened in a child as the daemon may come to hold."""
    # what a process holds at its start, and a limit is counted from 0
    done = subprocess.run(  # noqa: S603 - this very Python
        [sys.executable, "-I", "-S", "-c", _OPEN_ALL, str(need)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    count, _, reason = done.stdout.strip().partition(" ")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if reason:
        remedy = f"ulimit -n {min(max(need * 2, 65_536), hard)}, or LimitNOFILE= of the service"
        told = f"{int(count):,} of {need:,} descriptors could be opened ({reason.lower()})"
        return [bad("descriptors", told, remedy, "SF3003")]
    return [ok("descriptors", f"descriptors: {need:,} needed, and opened; {soft:,} allowed")]


def inotify(directories: int) -> list[Finding]:
    """A watcher is made, and has a watch; so many directories are to be watched."""
    watcher = _libc.inotify_init1(os.O_CLOEXEC)
    if watcher < 0:
        reason = os.strerror(ctypes.get_errno()).lower()
        remedy = "sysctl -w fs.inotify.max_user_instances=1024"
        return [bad("inotify", f"inotify: no watcher can be had ({reason})", remedy, "SF3004")]
    try:
        if _libc.inotify_add_watch(watcher, b"/", 0x200) < 0:
            reason = os.strerror(ctypes.get_errno()).lower()
            remedy = "sysctl -w fs.inotify.max_user_watches=524288"
            return [bad("inotify", f"inotify: nothing can be watched ({reason})", remedy, "SF3004")]
    finally:
        os.close(watcher)
    limit = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
    told = f"inotify: {directories:,} directories to watch, {limit:,} allowed"
    if limit < directories * 2 or limit < INOTIFY_WATCHES_LOW:
        remedy = f"sysctl -w fs.inotify.max_user_watches={max(directories * 4, 524_288)}"
        return [warn("inotify", told, remedy, "SF3004")]
    return [ok("inotify", told)]


def groups() -> list[Finding]:
    """Whether this process may make control groups below its own. This version of ours does not
    use them: memory holds by process."""
    told, remedy = "memory is bounded by process, not by tree", "Delegate=cpu memory pids io"
    try:
        place = _own_group()
        made = place / f"streamfaas-doctor-{os.getpid()}"
        made.mkdir()
        try:
            has = sorted((made / "cgroup.controllers").read_text().split())
        finally:
            made.rmdir()
    except (OSError, LookupError) as error:
        why = "no cgroup v2 is mounted" if isinstance(error, LookupError) else _reason(error)
        return [warn("cgroups", f"cgroup v2 is not delegated ({why}): {told}", remedy, "SF3005")]
    if not {"memory", "pids"} <= set(has):
        listed = " ".join(has) or "no controller"
        return [warn("cgroups", f"cgroup v2 has {listed} for us: {told}", remedy, "SF3005")]
    return [ok("cgroups", f"cgroup v2 delegated: {' '.join(has)} (not used yet: {told})")]


def filters() -> list[Finding]:
    """Landlock and filters of system calls: one layer more, that this version does not use."""
    version = _libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION)
    )
    number, action = _SECCOMP.get(platform.machine()), ctypes.c_uint(_SECCOMP_ERRNO)
    asked = (ctypes.c_uint(_SECCOMP_ACTION_AVAILABLE), ctypes.c_uint(0), ctypes.byref(action))
    lacks = {
        "Landlock": version <= 0,
        "seccomp filters": number is None or _libc.syscall(number, *asked) != 0,
    }
    if any(lacks.values()):
        told = " and ".join(name for name, missing in lacks.items() if missing)
        remedy = "nothing: workers are isolated by namespaces and mounts"
        return [warn("filters", f"the kernel lacks {told}", remedy, "SF3006")]
    return [ok("filters", f"Landlock ABI {version}, seccomp filters: there (not used yet)")]


def _own_group() -> Path:
    """`LookupError` where there is no version 2."""
    roots = [
        line.split()[1]
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2"
    ]
    below = [
        line.removeprefix("0::")
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.startswith("0::")
    ]
    if not roots or not below:
        raise LookupError
    return Path(roots[0], below[0].lstrip("/"))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

"""Tries, from inside a worker, what a worker must not be able to do."""

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any


def look(event: dict[str, Any], context: object) -> dict[str, Any]:
    """What came of each attempt."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "processes_seen": sum(name.isdigit() for name in os.listdir("/proc")),
        "uid": os.getuid(),
        "host": socket.gethostname(),
        "no_new_privileges": status["NoNewPrivs"],
        "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
        "code": _failure(lambda: open("/var/task/.written", "w").close()),
        "network": _failure(_reach_somebody),
        "tmp_bytes": _fill_tmp(),
        "descriptors": _open_all(),
        "data": _failure(lambda: bytearray(event["data_bytes"])),
        "processes": _fork_all(event["processes_max"]),
    }


def remain(event: dict[str, Any], context: object) -> None:
    """Never answers. Two descendants leave its session, and ignore what can be ignored. All of
    them hold the pipe open, and have written a byte to it."""
    pipe = next(path for path in event["pipes"] if os.path.exists(path))
    life = os.open(pipe, os.O_WRONLY)
    for generation in range(3):
        os.write(life, b".")
        if generation == 2 or os.fork():
            break
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    time.sleep(3600)


def _failure(attempt: Callable[[], object]) -> str:
    """The name of the error, or nothing where there was none."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except MemoryError:
        return "MemoryError"
    return ""


def _reach_somebody() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address for documentation: nobody has it


def _fill_tmp() -> int | None:
    """How much there was room for; None where there was no end of it."""
    size = 0
    with open("/tmp/full", "wb", buffering=0) as file:
        try:
            while size < 64 << 20:
                size += file.write(bytes(65_536))
        except OSError:
            return size
        finally:
            os.unlink("/tmp/full")
    return None


def _open_all() -> int:
    """How many descriptors could be open at the same time, up to 4,096."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        while len(found) < 4_096:
            found.append(os.dup(0))
    for each in found:
        os.close(each)
    return found[-1] + 1


def _fork_all(most: int) -> int:
    """How many processes there could be beside this one; all are gone again."""
    made: list[int] = []
    with contextlib.suppress(OSError):
        while len(made) < most * 2:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            made.append(child)
    for child in made:
        os.kill(child, signal.SIGKILL)
    for child in made:
        os.waitpid(child, 0)
    return len(made)

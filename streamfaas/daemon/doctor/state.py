"""Where the daemon keeps what must survive it: is it ours, and what is the disk good for."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamfaas.config.files import SOCKET_NAME
from streamfaas.daemon.doctor import Finding, bad, ok, warn
from streamfaas.store import look, place

SYNCS = 20
SLOW_SECONDS = 0.02
ROOM_BYTES = 1 << 30
ROOM_BYTES_MIN = 64 << 20

_VOLATILE = {"tmpfs", "ramfs"}
_CHOOSE = "choose another place with `state: {path: …}`"


def disk(folder: Path) -> list[Finding]:
    """Blocks. A file is written and synchronised where the state lies, or will."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    try:
        seconds = _sync_seconds(there)
    except OSError as error:
        told = f"{there} cannot be written to: {(error.strerror or str(error)).lower()}"
        remedy = f"run doctor as the daemon's user, or {_CHOOSE}"
        return [bad("disk", told, remedy, "SF3020")]
    kind, free = _kind(there), shutil.disk_usage(there).free
    told = f"state on {kind}, fsync {seconds * 1000:.1f} ms: {1 / seconds:,.0f} commits a second"
    found = []
    if kind in _VOLATILE:
        told = f"{there} is on {kind}: what is in it does not survive a reboot"
        found.append(warn("disk", told, _CHOOSE, "SF3021"))
    elif seconds > SLOW_SECONDS:
        remedy = f"accepting asynchronous invocations is as slow; {_CHOOSE}"
        found.append(warn("disk", told, remedy, "SF3021"))
    else:
        found.append(ok("disk", told))
    if free < ROOM_BYTES:
        remedy = f"make room, or {_CHOOSE}"
        grave = bad if free < ROOM_BYTES_MIN else warn
        return [*found, grave("room", f"{free >> 20:,} MB free for the state", remedy, "SF3022")]
    return [*found, ok("room", f"{free >> 30:,} GB free for the state")]


def store(folder: Path, view: Mapping[str, Any] | None) -> list[Finding]:
    """Blocks. The daemon that runs is taken at its word; else its lock is held for a moment, and
    its database looked through."""
    if view is not None:
        return [_running(view)]
    path = folder / "streamfaas.db"
    if not folder.exists():
        return [ok("store", f"no state yet: {folder} is made with the first start")]
    place.secure(folder)
    lock = place.lock(path.with_name(f"{path.name}.lock"))
    try:
        damage = look.damage(path) if path.exists() else ""
    finally:
        os.close(lock)
    if damage:
        remedy = "the daemon sets it aside at its next start and begins anew: keep a copy"
        return [bad("store", f"{path} is damaged: {damage}", remedy, "SF3023")]
    return [ok("store", f"{path}: locked, {'sound' if path.exists() else 'not made yet'}")]


def door(folder: Path, view: Mapping[str, Any] | None) -> list[Finding]:
    """Blocks. Another socket, whose name is as long, is bound in the same place."""
    path = folder / SOCKET_NAME
    if view is not None:
        return [ok("socket", f"{path} answers")]
    if not folder.is_dir():
        return [ok("socket", f"commands will be taken at {path}")]
    other = folder / f".doctor-{os.getpid()}".ljust(len(SOCKET_NAME), "_")[: len(SOCKET_NAME)]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.fspath(other))
        other.unlink()
    except OSError as error:
        told = f"no socket can be bound in {folder}: {error.strerror or error}"
        return [bad("socket", told, f"a shorter path, or {_CHOOSE}", "SF3024")]
    return [ok("socket", f"commands are taken at {path}")]


def _running(view: Mapping[str, Any]) -> Finding:
    told = f"a daemon runs (process {view.get('pid')}, {view.get('state')}), and has the database"
    if view.get("state") == "running":
        return ok("daemon", told)
    return warn("daemon", told, "streamfaas status says why", "SF3025")


def _sync_seconds(folder: Path) -> float:
    """The median of some, of as much as a small commit writes."""
    spent = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".streamfaas-doctor-", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(b"\0" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            spent.append(time.perf_counter() - began)
    return max(statistics.median(spent), 1e-6)


def _kind(folder: Path) -> str:
    """Of the file system that the directory is on."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    real = folder.resolve()
    over = [each for each in mounts if Path(each[1]) in (real, *real.parents)]
    return max(over, key=lambda each: len(Path(each[1]).parts), default=["", "", "?"])[2]

"""How well this machine isolates a worker: one is started as any other, and tries to get out."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import orjson

from streamfaas.daemon.doctor import Finding, bad, ok, warn
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.admission import Share
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation, Manner
from streamfaas.flow.outcome import Failure, Fault, Outcome
from streamfaas.flow.record import Instant
from streamfaas.functions import MIB, Function, Isolation, Mount
from streamfaas.runtimes import python
from streamfaas.telemetry.signals import Signal, WorkerStarted
from streamfaas.workers.launcher import Denied, Ended, Launcher, Message, Ready
from streamfaas.workers.logs import PIPE_BYTES
from streamfaas.workers.pool import WorkerPool

TMP_BYTES = 4 * MIB
FILES_MAX = 64
PROCESSES_MAX = 16
DATA_BYTES = 256 * MIB
REMAIN_SECONDS = 0.5
"""The timeout of the call that never answers."""

GONE_SECONDS = 1.0
"""How long after it all processes of its tree may still be there; a few milliseconds are needed."""

_KINDS: Mapping[str, tuple[str, ...]] = {
    "namespaces": ("user", "pid", "filesystem", "ipc", "uts", "network"),
    "root": ("filesystem", "proc", "tmp", "mounts", "code"),
    "privileges": ("capabilities", "privileges"),
    "limits": ("descriptors", "data", "processes", "core"),
}
_TOLD = {
    "namespaces": "namespaces: user, pid, mount, ipc, uts, net",
    "root": "root of its own: pivot_root, mount_setattr, /proc, bounded tmpfs",
    "privileges": "no capabilities, PR_SET_NO_NEW_PRIVS",
    "limits": "limits of descriptors, processes, data, core files",
}
_NAMES = {
    "user": "user namespace",
    "pid": "pid namespace",
    "ipc": "ipc namespace",
    "uts": "uts namespace",
    "network": "net namespace",
    "filesystem": "root of its own",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What functions ask for: whether any refuses to run less isolated, or without a network."""

    enforce: bool = True
    no_network: bool = False


async def controls(wanted: Wanted) -> list[Finding]:
    """The machine is asked for every control, by the launcher of a worker."""
    message = await _launched(_function("handler.look"))
    if not isinstance(message, Ready):
        reason = message.reason if isinstance(message, Denied | Ended) else "it speaks nonsense"
        remedy = message.remedy if isinstance(message, Denied) else ""
        return [bad("isolation", f"a worker cannot be isolated: {reason}", remedy, "SF3010")]
    lacks = {str(each["control"]): each for each in message.missing}
    found = []
    for kind, names in _KINDS.items():
        missing = [lacks.pop(name) for name in names if name in lacks]
        soft = [name for name in names if message.controls.get(name) == "soft"]
        if soft:
            told = f"{kind}: {', '.join(soft)} can be escaped by code that means to"
            found.append(warn(kind, told, "streamfaas explain isolation", "SF3010"))
        found += [_lacking(each, wanted) for each in missing]
        if not missing and not soft:
            found.append(ok(kind, _TOLD[kind]))
    return found


async def worker() -> list[Finding]:
    """A real worker, of a real pool, is called, and tells what it could do."""
    pool, started = _pool(_function("handler.look"))
    event = {"data_bytes": 2 * DATA_BYTES, "processes_max": PROCESSES_MAX}
    try:
        await pool.open()
        outcome = await _call(pool, event)
    finally:
        await pool.close(0)
    if isinstance(outcome, Failure):
        told = f"a worker was called, and failed: {outcome.type}: {outcome.message}"
        return [bad("worker", told, "streamfaas explain isolation", "SF3011")]
    escaped = list(_escapes(orjson.loads(outcome.answer)))
    init, took = started[0].signal.init_seconds, outcome.report.duration_seconds
    told = f"a sandboxed worker started ({init * 1000:.0f} ms) and answered ({took * 1000:.0f} ms)"
    return [ok("worker", told)] + [
        bad("worker", f"from inside a worker: {each}", "streamfaas explain isolation", "SF3011")
        for each in escaped
    ] + ([] if escaped else [ok("limits held", _held())])  # fmt: skip


async def ending() -> list[Finding]:
    """A worker with descendants that left it is ended at its timeout: all of them hold a pipe."""
    with tempfile.TemporaryDirectory(prefix="streamfaas-doctor-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        os.mkfifo(folder / "life")
        (folder / "life").chmod(0o666)  # a worker of root's is another user
        life = os.open(folder / "life", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return await _ended(folder, life)
        finally:
            os.close(life)


async def _ended(folder: Path, life: int) -> list[Finding]:
    mount = Mount(folder, "/mnt/doctor", writable=True)
    pool, started = _pool(_function("handler.remain", REMAIN_SECONDS, mount))
    clock = asyncio.get_running_loop().time
    wrong = f"processes of a worker are still there, {GONE_SECONDS:.0f} s after it was killed"
    try:
        await pool.open()
        outcome = await _call(pool, {"pipes": ["/mnt/doctor/life", str(folder / "life")]})
        processes = await _read_to_end(life)
        if isinstance(outcome, Failure) and outcome.fault is Fault.TIMEOUT and processes == 3:
            late = clock() - started[0].at - REMAIN_SECONDS
            told = f"killed at its timeout by pidfd: all 3 processes gone {late * 1000:.0f} ms late"
            return [ok("killed", told)]
        wrong = f"a worker that never answers: {outcome}"
    except TimeoutError:
        pass  # they are there
    finally:
        await pool.close(0)
    return [bad("killed", wrong, "streamfaas explain isolation", "SF3012")]


async def _read_to_end(life: int) -> int:
    """How many have written, once nobody can any more."""
    count = 0
    with anyio.fail_after(GONE_SECONDS):
        while True:
            try:
                data = os.read(life, 64)
            except BlockingIOError:
                await anyio.wait_readable(life)
                continue
            if not data:
                return count
            count += len(data)


async def _launched(function: Function) -> Message:
    """The first word of a launcher, which is then let go."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[Message] = loop.create_future()
    ended = anyio.Event()

    def tell(_: Launcher, message: Message) -> None:
        if not first.done():
            first.set_result(message)
        if isinstance(message, Ended):
            ended.set()

    launcher = Launcher(loop, python.command(function), bytearray(PIPE_BYTES), tell)
    try:
        return await first
    finally:
        launcher.close()
        with anyio.CancelScope(shield=True):
            await ended.wait()  # bounded by the launcher's own patience


def _lacking(each: Mapping[str, str], wanted: Wanted) -> Finding:
    control = each["control"]
    told = f"no {_NAMES.get(control, control)}: {each['reason']}"
    matters = wanted.enforce if control != "network" else wanted.no_network
    return (bad if matters else warn)(control, told, each["remedy"], "SF3010")


def _escapes(seen: Mapping[str, Any]) -> Iterator[str]:
    """What was possible, and should not have been."""
    if seen["processes_seen"] > 2:
        yield f"it sees {seen['processes_seen']} processes"
    if seen["no_new_privileges"] != "1" or seen["capabilities"]:
        yield "it may gain privileges"
    if seen["code"] != "EROFS":
        yield "it can write to its own code" if not seen["code"] else f"its code: {seen['code']}"
    if seen["network"] != "ENETUNREACH":
        yield "it has a network, and none was asked for"
    if seen["tmp_bytes"] is None or seen["tmp_bytes"] > TMP_BYTES:
        yield "its /tmp has no end"
    if seen["descriptors"] != FILES_MAX:
        yield f"it has {seen['descriptors']} descriptors open, of {FILES_MAX}"
    if seen["data"] != "MemoryError":
        yield "it may allocate more than its limit"
    if seen["processes"] >= PROCESSES_MAX:
        yield f"it has {seen['processes']} children, of {PROCESSES_MAX - 1}"


def _held() -> str:
    return (
        f"enforced: {TMP_BYTES // MIB} MB of /tmp, {DATA_BYTES // MIB} MB of data, {FILES_MAX} "
        f"descriptors, {PROCESSES_MAX} processes, code read-only, no network"
    )


def _function(handler: str, timeout_seconds: float = 10.0, *mounts: Mount) -> Function:
    return Function(
        name="doctor",
        code=Path(__file__).parent / "probe",
        handler=handler,
        timeout_seconds=timeout_seconds,
        mounts=mounts,
        isolation=Isolation(
            enforce=False,
            network="none",
            tmp_bytes=TMP_BYTES,
            files_max=FILES_MAX,
            processes_max=PROCESSES_MAX,
            data_bytes=DATA_BYTES,
        ),
        share=Share(maximum=1, memory_bytes=128 * MIB),
        platform_logs=False,
    )


@dataclass(frozen=True, slots=True)
class _Started:
    signal: WorkerStarted
    at: float


def _pool(function: Function) -> tuple[WorkerPool, Sequence[_Started]]:
    """With room for one worker, whose start it tells."""
    started: list[_Started] = []
    loop = asyncio.get_running_loop()

    def emit(signal: Signal) -> None:
        if isinstance(signal, WorkerStarted):
            started.append(_Started(signal, loop.time()))

    pool = WorkerPool(
        [function],
        concurrency=1,
        memory_bytes=function.share.memory_bytes,
        emit=emit,
        clock=lambda: Instant(loop.time()),
        logs_wanted=lambda _: False,
    )
    return pool, started


async def _call(pool: WorkerPool, event: object) -> Outcome:
    made = Event(Encoding.JSON, (orjson.dumps(event),))
    return await pool.call(Invocation(RequestIds()(), "doctor", made, Manner.SYNC))

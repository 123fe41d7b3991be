"""Whether each function of a configuration starts: isolated as it asks, its handler imported."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import anyio

from streamfaas.config.spec import Config
from streamfaas.daemon.build import function_of
from streamfaas.daemon.doctor import Finding, bad, ok, warn
from streamfaas.flow.errors import CannotIsolate
from streamfaas.flow.record import Instant
from streamfaas.functions import Function
from streamfaas.telemetry.signals import Emit, Signal, WorkerEnded, WorkerStarted
from streamfaas.workers.pool import WorkerPool

AT_ONCE = 4
SECONDS = 45.0
"""How long one may take: its launcher, and its import."""


async def functions(config: Config) -> list[Finding]:
    """Each is started once, a few at a time."""
    slots = anyio.Semaphore(AT_ONCE)
    found: dict[str, Sequence[Finding]] = {}

    async def one(function: Function) -> None:
        async with slots:
            found[function.name] = await _started(function)

    async with anyio.create_task_group() as tasks:
        for name in config.functions:
            tasks.start_soon(one, function_of(config, name))
    return [finding for name in config.functions for finding in found[name]]


async def _started(function: Function) -> Sequence[Finding]:
    first: asyncio.Future[WorkerStarted | WorkerEnded] = asyncio.get_running_loop().create_future()
    name = function.name

    def emit(signal: Signal) -> None:
        if isinstance(signal, WorkerStarted | WorkerEnded) and not first.done():
            first.set_result(signal)

    pool = _pool_of(function, emit)
    try:
        with anyio.fail_after(SECONDS):
            await pool.open()
            seen = await first
        view = pool.view()[name]
    except CannotIsolate as error:
        return [bad(name, str(error), error.remedy or "streamfaas explain isolation", "SF3010")]
    except TimeoutError:
        told = f"{name} has not started within {SECONDS:.0f} s"
        return [bad(name, told, "look at what its module does when imported", "SF3047")]
    finally:
        await pool.close(0)
    if isinstance(seen, WorkerEnded):
        told = f"{name} does not start: {view['last_error']}"
        return [bad(name, told, f"streamfaas invoke {name} -e event.json, and mend it", "SF3047")]
    told = f"{name} starts: {function.handler}, init {seen.init_seconds * 1000:.0f} ms"
    if view["missing"]:
        lacks = f"{name} is isolated without {', '.join(view['missing'])}"
        return [ok(name, told), warn(name, lacks, "streamfaas explain isolation", "SF3010")]
    return [ok(name, f"{told}, isolation {view['isolation']}")]


def _pool_of(function: Function, emit: Emit) -> WorkerPool:
    """With one worker, that is started at once."""
    loop = asyncio.get_running_loop()
    alone = replace(function, share=replace(function.share, maximum=1, reserved=0, warm=1))
    return WorkerPool(
        [alone],
        concurrency=1,
        memory_bytes=function.share.memory_bytes,
        emit=emit,
        clock=lambda: Instant(loop.time()),
        logs_wanted=lambda _: False,
    )

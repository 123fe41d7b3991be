"""One invocation without a daemon: a worker is started for it, and is gone after."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import uvloop

from streamfaas.engine.requests import RequestIds
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation, Manner
from streamfaas.flow.outcome import Outcome
from streamfaas.flow.record import Instant
from streamfaas.functions import Function
from streamfaas.telemetry.signals import Emit
from streamfaas.workers.pool import WorkerPool


def invoke(function: Function, event: bytes, emit: Emit) -> tuple[str, Outcome]:
    """Runs the function once in an isolated worker of its own: the request id and the outcome.
    `CannotIsolate` where the machine cannot give what the function asks for."""
    return uvloop.run(_invoke(function, event, emit))


async def _invoke(function: Function, event: bytes, emit: Emit) -> tuple[str, Outcome]:
    loop = asyncio.get_running_loop()
    alone = replace(function, share=replace(function.share, warm=0, reserved=0))
    pool = WorkerPool(
        [alone],
        concurrency=1,
        memory_bytes=function.share.memory_bytes,  # no room for a spare, which would be of no use
        emit=emit,
        clock=lambda: Instant(loop.time()),
    )
    try:
        await pool.open()
        request = Invocation(
            RequestIds()(), function.name, Event(Encoding.JSON, (event,)), Manner.SYNC
        )
        return request.id, await pool.call(request)
    finally:
        await pool.close(grace_seconds=1.0)

"""Notifications that a store writes to a log: a Kafka topic, read as any of its triggers is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CorruptBatch, Unreachable
from streamfaas.flow.ledger import Ledger
from streamfaas.flow.record import Lane, Run
from streamfaas.sources import Arrived, Closing, Opened, Source
from streamfaas.sources.objects.feed import Means
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.telemetry.signals import Emit, Signal, SourceChanged

Work = Callable[[], Coroutine[Any, Any, None]]


class LogFeed:
    """A feed from whatever source a log has: a position is settled once the inbox has the records
    up to it. Records without a value are nothing.

    Delivery: at least once. Errors and permissions needed: those of the source.
    """

    def __init__(self, name: str, make: Callable[[Emit], Source], means: Means) -> None:
        self.name = name
        self.trouble: str | None = None
        self._changed = means.changed
        self._make = make
        self._source: Source | None = None
        self._work: list[tuple[Work, str]] = []
        self._ledgers: dict[Lane, Ledger] = {}

    async def open(self) -> None:
        self.trouble, self._work, self._ledgers = None, [], {}
        self._source = self._make(self._heard)
        await self._source.open(lambda work, name: self._work.append((work, name)))

    async def run(self, inbox: Inbox) -> None:
        assert self._source is not None
        async with anyio.create_task_group() as tasks:
            for work, name in self._work:
                tasks.start_soon(work, name=name)
            while True:
                match await self._source.next(self._ledgers):
                    case Opened(lane):
                        self._ledgers[lane] = self._source.ledger(lane)
                        self._stand(self.trouble or "")
                    case Arrived(run):
                        await self._take(run, self._source, inbox)
                    case Closing(lane):  # nothing is in hand between two arrivals
                        del self._ledgers[lane]
                        await self._source.closed(lane)

    async def close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.close()

    async def _take(self, run: Run, source: Source, inbox: Inbox) -> None:
        batch = Batch((run,))
        try:
            records = source.records(batch)
        except CorruptBatch as damage:
            raise Unreachable(f"{run.lane.name}: {damage}") from damage
        ledger = self._ledgers[run.lane]
        ledger.take(run)
        await inbox.deliver(record.value for record in records if record.value)
        settlement = ledger.finish(batch)
        if settlement is not None:
            await source.settle(settlement)

    def _heard(self, signal: Signal) -> None:
        """Of its own standing: what else it tells is about lanes that are none of the trigger's."""
        if isinstance(signal, SourceChanged) and signal.state in {"running", "degraded"}:
            self._stand(signal.reason if signal.state == "degraded" else "")

    def _stand(self, trouble: str) -> None:
        self.trouble = trouble
        self._changed()

"""Those who look at batches that were run; while there is none, nothing is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Record
from streamfaas.sources import Source
from streamfaas.telemetry.signals import InvocationEnded

Look: TypeAlias = Callable[[InvocationEnded, Source, Batch], None]


class Witnesses:
    """The one witness of all lanes, for the many that come and go."""

    def __init__(self) -> None:
        self._looks: list[Look] = []
        self._misses: list[Callable[[Record], None]] = []

    def __bool__(self) -> bool:
        return bool(self._looks)

    def saw(self, ended: InvocationEnded, source: Source, batch: Batch) -> None:
        for look in self._looks:
            look(ended, source, batch)

    def filtered(self, record: Record) -> None:
        for miss in self._misses:
            miss(record)

    def add(self, look: Look, miss: Callable[[Record], None] | None = None) -> None:
        """`miss` is told of records that filters leave out."""
        self._looks.append(look)
        self._misses += [] if miss is None else [miss]

    def remove(self, look: Look, miss: Callable[[Record], None] | None = None) -> None:
        self._looks.remove(look)
        if miss is not None:
            self._misses.remove(miss)

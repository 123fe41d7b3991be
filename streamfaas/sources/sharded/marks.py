"""Marks of what is read: written down on a timer, and never past what is unfinished."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import anyio

from streamfaas.flow.errors import StoreError, Unreachable
from streamfaas.flow.record import Lane
from streamfaas.sources.sharded.reading import Reading
from streamfaas.store.shards import Mark


class Marks(Protocol):
    """Where the marks of one trigger live. Errors are `StoreError`s and `WorldError`s."""

    async def load(self) -> dict[str, Mark]:
        """By shard."""

    async def put(self, marks: Iterable[Mark]) -> None:
        """Durable when this returns."""

    async def forget(self, shards: Collection[str]) -> None: ...


class Keeper:
    """Keeps the marks of readings where they live. Errors are `WorldError`s."""

    def __init__(self, marks: Marks, readings: Mapping[Lane, Reading]) -> None:
        self._marks = marks
        self._readings = readings
        self._dirty = asyncio.Event()

    async def load(self) -> dict[str, Mark]:
        with _told():
            return await self._marks.load()

    async def put(self, *marks: Mark) -> None:
        if marks:
            with _told():
                await self._marks.put(marks)

    async def forget(self, shards: Collection[str]) -> None:
        if shards:
            with _told():
                await self._marks.forget(shards)

    def changed(self) -> None:
        """Some mark has moved."""
        self._dirty.set()

    async def keep(self, commit_seconds: float) -> None:
        """Writes what has changed, so often."""
        while True:
            await self._dirty.wait()
            await anyio.sleep(commit_seconds)
            await self.write()

    async def write(self) -> None:
        """Writes what has changed."""
        self._dirty.clear()
        dirty = [each for each in self._readings.values() if each.mark != each.durable]
        marks = [each.mark for each in dirty]
        try:
            await self.put(*marks)
        except BaseException:
            self._dirty.set()
            raise
        for reading, mark in zip(dirty, marks, strict=True):
            reading.durable = mark


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise Unreachable(f"{error}; {error.remedy}".rstrip("; ")) from error

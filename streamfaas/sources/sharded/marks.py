"""Marks of what is read: written down on a timer, and never past what is unfinished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeAlias

import anyio

from streamfaas.flow.errors import StoreError, Unreachable
from streamfaas.flow.record import Lane
from streamfaas.sources.sharded.reading import Reading
from streamfaas.store.shards import Mark

WRITES_MAX = 8
WRITES_SECONDS = 0.1
"""How often the last mark of a shard that is given away is tried to be written, and how much longer
the pause is each time."""


class Marks(Protocol):
    """Where the marks of one trigger live. Errors are `StoreError`s and `WorldError`s."""

    async def load(self) -> dict[str, Mark]:
        """By shard."""

    async def put(self, marks: Iterable[Mark]) -> None:
        """Durable when this returns."""

    async def forget(self, shards: Collection[str]) -> None: ...


class Standing(NamedTuple):
    """How far a shard is finished with, as of one moment: by its mark, and in the words of others
    (None where there is nothing new to say in those)."""

    reading: Reading
    mark: Mark
    checkpoint: tuple[str, int] | None


Share: TypeAlias = Callable[[Sequence[Standing]], Awaitable[Sequence[Standing]]]
"""Makes it durable for others before it is here; which of them it could."""


class Keeper:
    """Keeps the marks of readings where they live. Errors are `WorldError`s."""

    def __init__(self, marks: Marks, readings: Mapping[Lane, Reading]) -> None:
        self.share: Share | None = None
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
        dirty = [each for each in self._readings.values() if each.dirty]
        standing: Sequence[Standing] = [Standing(e, e.mark, e.checkpoint) for e in dirty]
        try:
            if self.share is not None:
                standing = await self.share(standing)
            await self.put(*[each.mark for each in standing])
        except BaseException:
            self._dirty.set()
            raise
        for each in standing:
            each.reading.durable = each.mark
        if any(each.dirty for each in dirty):
            self._dirty.set()

    async def write_last(
        self, readings: Collection[Reading], is_ours: Callable[[Reading], bool]
    ) -> None:
        """The last marks, before others read on from them: once more where nobody has heard that
        they stand, while they are surely ours."""
        for times in range(1, WRITES_MAX + 1):
            await self.write()
            if not any(each.dirty and is_ours(each) for each in readings):
                return
            await anyio.sleep(times * WRITES_SECONDS)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise Unreachable(error.line) from error

"""Backings of the sources, for the conformance suite: each holds nothing yet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from streamfaas.flow.record import Instant, Lane
from streamfaas.sources import Source
from streamfaas.sources.directory import Directory, DirectoryOptions
from streamfaas.sources.memory import Memory, MemoryOptions, Stream
from streamfaas.store import Store
from streamfaas.testing.conformance import Subject


def loop_clock() -> Instant:
    return Instant(asyncio.get_running_loop().time())


def silent(signal: object) -> None:
    """Nobody listens."""


@asynccontextmanager
async def memory(kind: type[Memory] = Memory) -> AsyncIterator[Subject]:
    stream = Stream()
    numbers = itertools.count()
    options = MemoryOptions("orders", partitions=3, records=0)

    def make() -> Memory:
        return kind("shop/orders", options, clock=loop_clock, emit=silent, stream=stream)

    writer = make()

    async def produce(count: int) -> None:
        for number in itertools.islice(numbers, count):
            lane = Lane("shop/orders", f"orders-{number % 3}")
            writer.put(lane, b"value %d" % number, b"key %d" % (number % 7))
        for source in made:
            source.wake()

    async def revoke(source: Source) -> None:
        assert isinstance(source, Memory)
        source.revoke(source.lanes[1])

    made: list[Memory] = []

    def remembered() -> Memory:
        made.append(make())
        return made[-1]

    yield Subject(remembered, produce, revoke=revoke)


@asynccontextmanager
async def directory(folder: Path, kind: type[Directory] = Directory) -> AsyncIterator[Subject]:
    """Files that are moved in, and so are whole at once. Some have the same name in turn."""
    inbox = folder / "inbox"
    inbox.mkdir()
    store = await Store.open(folder / "state" / "streamfaas.db")
    numbers = itertools.count()
    options = DirectoryOptions(
        inbox, "inbox", interval_seconds=0.05, settle_seconds=0.0, parallel=8
    )

    async def produce(count: int) -> None:
        for number in itertools.islice(numbers, count):
            part = folder / "part"
            part.write_bytes(b"%d" % number)
            place = inbox / f"sub-{number % 3}" / f"file {number}"
            place.parent.mkdir(exist_ok=True)
            part.rename(place)

    def maker(path: Path) -> Callable[[], Directory]:
        chosen = replace(options, path=path)
        return lambda: kind("thumbs/inbox", chosen, store=store, clock=loop_clock, emit=silent)

    try:
        yield Subject(maker(inbox), produce, unreachable=maker(folder / "nowhere"), queue=True)
    finally:
        await store.close()

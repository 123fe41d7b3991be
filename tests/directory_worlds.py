"""A directory, a store and an inventory between them, for tests that choose every moment."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from streamfaas.flow.record import Instant
from streamfaas.sources.directory.inventory import Inventory, Rules
from streamfaas.store import Store
from streamfaas.store.objects import Objects
from streamfaas.store.rows import Pending
from streamfaas.testing.clock import ManualClock

LONG_AGO_NS = 1_600_000_000_000_000_000


@dataclass
class World:
    """`look` is a sweep; `events` are those that it and all before have written down."""

    folder: Path
    store: Store
    settle_seconds: float = 1.0
    existing: bool = True
    wanted: object = staticmethod(lambda name, key: True)
    clock: ManualClock = field(default_factory=ManualClock)
    wall: float = field(default_factory=time.time)
    stamp: int = LONG_AGO_NS
    recorded: int = 0
    name: str = "thumbs/inbox"
    inventory: Inventory | None = None

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    async def restart_as_new(self, name: str) -> None:
        """Another trigger over the same directory, born now."""
        self.name = name
        await self.restart()

    async def restart(self) -> None:
        rules = Rules(self.inbox, self.settle_seconds, self.existing, self.wanted)

        def recorded(count: int) -> None:
            self.recorded += count

        self.inventory = Inventory(
            rules,
            Objects(self.store, self.name),
            clock=self.clock,
            wall_clock=lambda: self.wall,
            recorded=recorded,
        )
        await self.inventory.open()

    async def look(self):
        return await self.inventory.sweep()

    def advance(self, seconds: float) -> Instant:
        self.wall += seconds
        return self.clock.advance(seconds)

    async def events(self) -> list[Pending]:
        return await self.inventory._objects.pending(0, 1_000_000)

    async def told(self) -> list[tuple[str, bytes]]:
        """Names (`Created`, `Removed`) and keys, in order."""
        return [
            (e.name.partition(":")[0].removeprefix("Object"), e.key) for e in await self.events()
        ]

    def put(self, key: str | bytes, content: bytes = b"x", *, mtime_ns: int | None = None) -> None:
        """Moves a whole file in. Its modification time is old, and nobody else's."""
        self.stamp += 1
        part, path = self.folder / "part", self.inbox / os.fsdecode(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        stamp = self.stamp if mtime_ns is None else mtime_ns
        os.utime(part, ns=(stamp, stamp))
        part.rename(path)

    def remove(self, key: str) -> None:
        (self.inbox / key).unlink()


@asynccontextmanager
async def world(folder: Path | None = None, **options) -> AsyncIterator[World]:
    """Begun, and looked at by nobody yet."""
    own = Path(tempfile.mkdtemp()) if folder is None else folder
    store = await Store.open(own / "state" / "streamfaas.db")
    try:
        made = World(own, store, **options)
        made.inbox.mkdir(exist_ok=True)
        await made.restart()
        yield made
    finally:
        await store.close()
        if folder is None:
            shutil.rmtree(own)


def run(main) -> None:
    """To its end, in a loop of its own."""
    asyncio.run(main())

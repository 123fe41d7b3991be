"""Which shards of a stream are read: those whose parents are finished with, each from its mark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from streamfaas.flow.errors import Gone
from streamfaas.flow.shards import readable
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.sources.sharded.handed import EPOCH, epoch
from streamfaas.sources.sharded.marks import Keeper
from streamfaas.sources.sharded.reading import FIRST, SINCE, start_of
from streamfaas.sources.sharded.retention import known_ms, limit_ms, may_be_trimmed, passed, told_of
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Described, Shard, Start, Stream, Trimmed

MISSING_MAX = 20
"""Looks in a row that did not show a shard which is finished with, before it is forgotten: a list
may leave one out for a while, and it must not be read again then."""


class Roster:
    """`start` says where the shards begin that are there when the trigger is born, `timestamps`
    whether reading can begin at a time, `warn` takes what an operator should know. Errors are
    `WorldError`s."""

    def __init__(
        self,
        stream: Stream,
        keeper: Keeper,
        start: str | float,
        *,
        timestamps: bool,
        time: ServiceClock,
        warn: Callable[[str], None],
    ) -> None:
        self.described = Described("", "", 0.0, None)
        """The life of the stream that is read."""
        self.gone: set[str] = set()
        self.doubted: set[str] = set()
        """Shards of which nothing is left to be read: their lanes open and end, for whoever has to
        do something at their end."""
        self.fresh: dict[str, str] = {}
        """Iterators of shards that are read from now on."""
        self._stream = stream
        self._keeper = keeper
        self._start = start
        self._timestamps = timestamps
        self._time = time
        self._warn = warn
        self._base = 0  # where positions begin in this life
        self._known: dict[str, Shard] = {}
        self._marks: dict[str, Mark] = {}  # of shards whose turn has not come
        self._ended: set[str] = set()
        self._missing: Counter[str] = Counter()

    async def remembered(self) -> list[Mark]:
        """For the first time: marks of the shards that are read now. Where nothing is remembered,
        all that are there begin where the trigger begins."""
        marks = await self._keeper.load()
        unfinished = {mark.stream for mark in marks.values() if not mark.ended}
        described = await self._stream.describe(unfinished)
        return await self._live(self._time.set(described), marks)

    async def look(self, reading: Collection[str]) -> list[Mark]:
        """Asks for the shards: marks of those whose turn has come beside the ones being read."""
        # a list that leaves one out for a while must not begin its children before their time
        kept = {name: self._known[name] for name in reading if name in self._known}
        self._known = kept | {shard.id: shard for shard in await self._stream.shards()}
        await self._prune()
        return await self._due(reading)

    async def listed(self) -> dict[str, Shard]:
        """The shards that are known, asked for once more."""
        self._known |= {shard.id: shard for shard in await self._stream.shards()}
        return dict(self._known)

    def standing(self, reading: Mapping[str, Mark]) -> dict[str, Mark]:
        """Where each shard stands. `reading`: the marks of those that are read."""
        marks = {name: self._mark(name) for name in self._known}
        marks |= {name: marks[name]._replace(ended=True) for name in self._ended & marks.keys()}
        return {**marks, **self._marks, **reading}

    def move(self, marks: Mapping[str, Mark], fresh: Mapping[str, str]) -> None:
        """Shards that are not read now stand there, durably; `fresh`: iterators of theirs."""
        ended = {name for name, mark in marks.items() if mark.ended}
        self._ended = self._ended - marks.keys() | ended
        kept = {**self._marks, **marks}
        self._marks = {name: mark for name, mark in kept.items() if name not in ended}
        for name in marks:
            self.fresh.pop(name, None)
        self.fresh |= fresh

    def ready(self, shard: str) -> list[Mark]:
        """Its mark, if its turn has come."""
        due = shard in self._marks and shard in self._readable(())
        return [self._marks.pop(shard)] if due else []

    async def followed(self) -> list[Mark] | None:
        """Where nothing of this life can be read any more: marks of the one that follows, or
        None."""
        described = self._time.set(await self._stream.describe())
        if described.life == self.described.life:
            self.described = described
            return None
        return await self._live(described, await self._keeper.load())

    def is_closed(self, shard: str) -> bool:
        """Whether nothing is added to it any more, as far as is known."""
        known = self._known.get(shard)
        return known is not None and known.closed

    def end(self, shard: str) -> None:
        """All of it is finished with."""
        self._ended.add(shard)

    def tell_gone(self, shard: str) -> None:
        self._warn(f"{shard} is past the stream's retention; what was not read is lost")

    def tell_passed(self, shard: str) -> None:
        self._warn(passed(shard))

    def tell_trimmed(self, shard: str) -> None:
        self._warn(f"records of {shard} were lost to the stream's retention before they were read")

    async def _live(self, described: Described, marks: Mapping[str, Mark]) -> list[Mark]:
        """The first look at a life of the stream. What is known of another is told, and goes."""
        self.described = described
        self._known = {shard.id: shard for shard in await self._stream.shards()}
        mine = {name: mark for name, mark in marks.items() if mark.stream == described.life}
        others = {name: mark for name, mark in marks.items() if name not in mine}
        self._base = epoch(mine.values()) if mine or not others else epoch(others.values(), 1)
        before = [mark for mark in others.values() if mark.stream.startswith(described.of)]
        if mine:
            kept = self._perhaps_leapt(await self._still_there(mine))
        else:
            kept = await self._born("trim_horizon" if before else self._start)
            await self._keeper.put(*kept.values())
        if others:
            self._tell_others(before)
            await self._keeper.forget(others.keys() - kept.keys())
        self._ended = {name for name, mark in kept.items() if mark.ended}
        self._marks = {name: mark for name, mark in kept.items() if not mark.ended}
        return await self._due(())

    def _tell_others(self, before: Collection[Mark]) -> None:
        name, remade = self._stream.name, self._stream.remade
        if not before:
            self._warn(f"it reads {name} now; how far it had read another stream is forgotten")
            return
        lost = "" if all(mark.ended for mark in before) else "; what was not read before is lost"
        self._warn(f"{name} {remade}; it is read from its beginning{lost}")

    async def _due(self, reading: Collection[str]) -> list[Mark]:
        due = self._readable(reading)
        new = {name: self._mark(name) for name in due if name not in self._marks}
        await self._keeper.put(*new.values())
        self._marks |= new
        return [self._marks.pop(name) for name in due]

    def _readable(self, reading: Collection[str]) -> list[str]:
        parents = {name: shard.parents for name, shard in self._known.items()}
        return [name for name in readable(parents, self._ended) if name not in reading]

    async def _prune(self) -> None:
        unlisted = self._ended - self._known.keys()
        self._missing = Counter({name: self._missing[name] + 1 for name in unlisted})
        forgotten = {name for name, looks in self._missing.items() if looks >= MISSING_MAX}
        await self._keeper.forget(forgotten)
        self._ended -= forgotten

    # -- marks of a life

    def _perhaps_leapt(self, marks: Mapping[str, Mark]) -> dict[str, Mark]:
        limit = limit_ms(self.described, self._time.now())
        # marks of an older make say no time where nothing was read: they are as old as the others
        newest = max(map(known_ms, marks.values()), default=0)
        ended = [name for name, mark in marks.items() if mark.ended]
        if ended and 0 < newest < limit:
            self._warn(
                f"nothing was read for about as long as the stream keeps records; what followed "
                f"{', '.join(ended)} may have been lost"
            )
        old = {
            shard
            for shard, mark in marks.items()
            if shard not in self.gone and may_be_trimmed(mark, limit, newest)
        }
        self.doubted = {shard for shard in old if marks[shard].sequence}
        leaps = old - self.doubted
        return {name: self._leapt(mark) if name in leaps else mark for name, mark in marks.items()}

    def _leapt(self, mark: Mark) -> Mark:
        self._warn(told_of(mark))
        return mark._replace(position=mark.position + EPOCH)

    async def _still_there(self, marks: dict[str, Mark]) -> dict[str, Mark]:
        """Finds out which shards cannot be read, of those that the list leaves out."""
        self.gone.clear()
        unlisted = [mark for name, mark in marks.items() if name not in self._known]
        for mark in unlisted:
            if mark.ended:
                continue
            try:
                await self._stream.iterator(mark.shard, start_of(mark))
            except (Gone, Trimmed):
                self.gone.add(mark.shard)
                self.tell_gone(mark.shard)
            self._known[mark.shard] = Shard(mark.shard, closed=mark.shard in self.gone)
        return dict(marks)

    async def _born(self, start: str | float) -> dict[str, Mark]:
        if start == "latest" and not self._timestamps:
            return await self._from_now_on()
        if start == "trim_horizon":
            return {name: self._mark(name) for name in self._known}
        if start == "latest":  # by the service's clock: the next life begins there as well
            start = self._time.now()
        at_ms = int(float(start) * 1000)
        return {name: self._mark(name, SINCE, at_ms) for name in self._known}

    async def _from_now_on(self) -> dict[str, Mark]:
        """Shards are read from their ends, by iterators that are made now. To another process those
        mean nothing: until a record has been read, its mark says by the service's clock what is
        older. That clock is read last, so that nothing which came after is."""
        for shard in self._known.values():
            if not shard.closed:
                self.fresh[shard.id] = await self._stream.iterator(shard.id, Start("LATEST"))
        self.described = self._time.set(await self._stream.describe((self.described.life,)))
        at_ms = self._time.now_ms()
        return {
            name: self._mark(name, FIRST, at_ms)._replace(ended=shard.closed)
            for name, shard in self._known.items()
        }

    def _mark(self, shard: str, kind: str = FIRST, at_ms: int = 0) -> Mark:
        life, seen_ms = self.described.life, self._time.now_ms()
        return Mark(shard, life, self._base, kind, "", 0, at_ms, ended=False, seen_ms=seen_ms)

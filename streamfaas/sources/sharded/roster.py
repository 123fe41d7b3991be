"""Which shards of a stream are read: those whose parents are finished with, each from its mark."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from streamfaas.flow.shards import readable
from streamfaas.sources.sharded.marks import Keeper
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Described, Shard, Stream

RETENTION_MARGIN_SECONDS = 3600.0
EPOCH = 1 << 32
"""What positions leap by where records may have been lost: what was written down about records of
an earlier life must not be taken to be about others."""


class Roster:
    """`start` says where the shards begin that are there when the trigger is born, `warn` takes
    what an operator should know. Errors are `WorldError`s."""

    def __init__(
        self,
        stream: Stream,
        keeper: Keeper,
        start: str | float,
        *,
        wall_clock: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._keeper = keeper
        self._start = start
        self._wall_clock = wall_clock
        self._warn = warn
        self._life = ""  # of the stream
        self._known: dict[str, Shard] = {}
        self._ended: set[str] = set()

    async def remembered(self, described: Described) -> list[Mark]:
        """For the first time: marks of the shards that are read now. Where nothing is remembered,
        all that are there begin where the trigger begins."""
        self._life = described.life
        marks = await self._of_this_life(await self._keeper.load(), described)
        self._known = {shard.id: shard for shard in await self._stream.shards()}
        born = not marks
        marks = await self._still_there(marks)
        if born:
            marks = {name: self._beginning(name, described) for name in self._known}
            await self._keeper.put(*marks.values())
        self._ended = {name for name, mark in marks.items() if mark.ended}
        return await self._due(marks, ())

    async def look(self, reading: Collection[str]) -> list[Mark]:
        """Asks for the shards: marks of those whose turn has come beside the ones being read."""
        # a list that leaves one out for a while must not begin its children before their time
        kept = {name: self._known[name] for name in reading if name in self._known}
        self._known = kept | {shard.id: shard for shard in await self._stream.shards()}
        return await self._due({}, reading)

    def is_closed(self, shard: str) -> bool:
        """Whether nothing is added to it any more, as far as is known."""
        known = self._known.get(shard)
        return known is not None and known.closed

    def has_ended(self, shard: str) -> bool:
        return shard in self._ended

    def end(self, shard: str) -> None:
        """All of it is finished with."""
        self._ended.add(shard)

    def tell_gone(self, shard: str) -> None:
        self._warn(f"{shard} is past the stream's retention; what was not read is lost")

    async def _due(self, marks: Mapping[str, Mark], reading: Collection[str]) -> list[Mark]:
        parents = {name: shard.parents for name, shard in self._known.items()}
        due = [name for name in readable(parents, self._ended) if name not in reading]
        new = {name: self._mark(name, "TRIM_HORIZON") for name in due if name not in marks}
        await self._keeper.put(*new.values())
        return [new.get(name) or marks[name] for name in due]

    async def _of_this_life(
        self, marks: Mapping[str, Mark], described: Described
    ) -> dict[str, Mark]:
        """Those of another are told of, and forgotten."""
        of_others = [shard for shard, mark in marks.items() if mark.stream != self._life]
        if of_others:
            await self._keeper.forget(of_others)
            name = self._stream.name
            self._warn(f"{name} was deleted and made again; it is read from its beginning")
            self._start = "trim_horizon"
        limit = self._wall_clock() - described.retention_seconds + RETENTION_MARGIN_SECONDS
        return {
            shard: self._leapt(mark) if _may_be_trimmed(mark, limit) else mark
            for shard, mark in marks.items()
            if mark.stream == self._life
        }

    def _leapt(self, mark: Mark) -> Mark:
        self._warn(
            f"{mark.shard} was last read near the end of the stream's retention; "
            "records after that may have been lost to it"
        )
        return mark._replace(position=mark.position + EPOCH)

    async def _still_there(self, marks: Mapping[str, Mark]) -> dict[str, Mark]:
        """Marks of shards that the stream knows; those of others are forgotten."""
        gone = [mark for name, mark in marks.items() if name not in self._known]
        for mark in gone:
            if not mark.ended:
                self.tell_gone(mark.shard)
        await self._keeper.forget([mark.shard for mark in gone])
        return {name: mark for name, mark in marks.items() if name in self._known}

    def _beginning(self, shard: str, described: Described) -> Mark:
        start = self._start
        if start == "trim_horizon":
            return self._mark(shard, "TRIM_HORIZON")
        if start == "latest":  # by the service's clock: the next life begins there as well
            start = described.now if described.now is not None else self._wall_clock()
        return self._mark(shard, "AT_TIMESTAMP", at_ms=int(float(start) * 1000))

    def _mark(self, shard: str, kind: str, at_ms: int = 0) -> Mark:
        return Mark(shard, self._life, 0, kind, "", 0, at_ms, ended=False)


def _may_be_trimmed(mark: Mark, limit: float) -> bool:
    return bool(mark.sequence) and not mark.ended and mark.at_ms / 1000 < limit

"""Where the shards of a stream are read on from, once somebody sends them elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import anyio

from streamfaas.flow.errors import Gone, Refused, Unreachable, WorldError
from streamfaas.flow.record import Lane
from streamfaas.flow.shards import descendants
from streamfaas.sources import Place, Spot, Stretch
from streamfaas.sources.sharded import spots
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.sources.sharded.handed import epoch
from streamfaas.sources.sharded.lanes import Lanes
from streamfaas.sources.sharded.marks import Keeper
from streamfaas.sources.sharded.rereading import Rereader
from streamfaas.sources.sharded.roster import Roster
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Shard, Start, Stream

CHANGED = "the stream has other shards by now: all stand where they stood, try again"


class Seeker:
    """A shard that is sent back takes along what came out of it: those shards begin anew when all
    of it is finished with once more, so that the records of a key come in order again. One that is
    sent to its end is passed over, and they begin. Errors are `WorldError`s."""

    def __init__(
        self,
        stream: Stream,
        keeper: Keeper,
        roster: Roster,
        rereader: Rereader,
        lanes: Lanes,
        *,
        timestamps: bool,
        time: ServiceClock,
    ) -> None:
        self._stream = stream
        self._keeper = keeper
        self._roster = roster
        self._rereader = rereader
        self._lanes = lanes
        self._timestamps = timestamps
        self._time = time

    def standing(self) -> dict[Lane, Spot]:
        """Where each shard is read on."""
        return self._of({name: spots.told(mark) for name, mark in self._standing().items()})

    def is_past(self, lane: Lane, spot: Spot) -> bool:
        """Whether a lane stands there, or further on."""
        mark = self._standing().get(lane.name)
        return mark is not None and spots.is_past(mark, str(spot))

    async def places(self, lanes: Collection[Lane], to: Place) -> dict[Lane, Spot]:
        """What a place stands for in lanes, and in those that they take along."""
        shards, standing = [lane.name for lane in lanes], self._standing()
        listed = await self._roster.listed()
        if to == "latest":
            found = {
                name: spots.END if name in listed and listed[name].closed else spots.LATEST
                for name in shards
            }
            ended = {name for name, mark in standing.items() if mark.ended}
            return self._of({n: spot for n, spot in found.items() if n not in ended} or found)
        spot = spots.EARLIEST if to == "earliest" else spots.time_text(int(to))
        return self._of(dict.fromkeys((*shards, *_coming_along(listed, shards)), spot))

    async def at(self, lanes: Collection[Lane], position: int) -> dict[Lane, Spot]:
        """The same of a sequence number."""
        if len(lanes) != 1:
            raise Refused(
                "a position is the sequence number of a record in one shard: name that by "
                "--partition, or give a time"
            )
        (lane,) = lanes
        for mark in self._standing().values():
            self._rereader.note_digits(mark.sequence)
        listed = await self._roster.listed()
        read = await self._rereader.reread(lane, Stretch(position, position), 1)
        if not read.records:
            raise Gone(f"{lane.name} has no record {position}")
        along = dict.fromkeys(_coming_along(listed, [lane.name]), spots.EARLIEST)
        return self._of({lane.name: self._rereader.text(position), **along})

    async def seek(self, sought: Mapping[Lane, Spot]) -> None:
        """Durably. The lanes are held back, and opened `anew`."""
        new, fresh = await self._marks({lane.name: str(spot) for lane, spot in sought.items()})
        await self._keeper.write()  # nothing that was settled before may come after this
        if self._lanes.over or self._lanes.failure is not None:
            # another has read where they stand
            raise Unreachable(
                f"{self._lanes.source} is being connected anew: all stand where they stood, "
                "try again"
            )
        for lane in sought:
            self._lanes.part_with(lane)
            self._lanes.sought[lane] = new[lane.name]
        with anyio.CancelScope(shield=True):  # no matter who waits: it is known how it ended
            try:
                await self._keeper.put(*new.values())
            except WorldError as error:  # but where the store does not say: all is made anew
                self._lanes.fail(error)
                raise
        self._roster.move(new, fresh)

    def anew(self, lane: Lane) -> list[Mark]:
        """What a lane that the engine has let go of begins at, if its turn has come: where it was
        sent to; where nothing has come of that, where it stood."""
        old = self._lanes.part_with(lane)
        if old is not None:
            self._roster.move({lane.name: old.mark}, {})
        return self._roster.ready(lane.name)

    def kept_back(self, marks: Iterable[Mark]) -> list[Mark]:
        """Without those of shards that somebody has begun to send elsewhere meanwhile."""
        found = {self._lanes.of(mark.shard): mark for mark in marks}
        if held := found.keys() & self._lanes.sought.keys():
            self._roster.move({lane.name: found[lane] for lane in held}, {})
        return [mark for lane, mark in found.items() if lane not in held]

    def _of(self, found: Mapping[str, str]) -> dict[Lane, Spot]:
        return {self._lanes.of(name): spot for name, spot in found.items()}

    def _standing(self) -> dict[str, Mark]:
        readings = self._lanes.readings.values()
        return self._roster.standing({each.name: each.mark for each in readings})

    async def _marks(self, sought: Mapping[str, str]) -> tuple[dict[str, Mark], dict[str, str]]:
        """The marks that stand there, and iterators for those that begin at their ends. Positions
        leap: what was written down about records must not be taken to be about others."""
        standing, life = self._standing(), self._roster.described.life
        if self._time.set(await self._stream.describe((life,))).life != life:
            raise Unreachable(CHANGED)
        listed = await self._roster.listed()
        self._check(standing, sought, listed)
        position = epoch([*(await self._keeper.load()).values(), *standing.values()], 1)
        fresh = {
            name: await self._stream.iterator(name, Start("LATEST"))
            for name, spot in sought.items()
            if spot == spots.LATEST and not listed[name].closed
        }
        # to another process those mean nothing: it begins by the clock, which is read after them
        now_ms = self._time.now_ms()
        blank = Mark("", life, position, "", "", 0, 0, ended=False, seen_ms=now_ms)
        marks = dict[str, Mark]()
        for name, spot in sought.items():
            if spot == spots.told(standing[name]):
                marks[name] = standing[name]
            else:
                at_the_end = spots.time_text(now_ms) if name in fresh else spots.END
                marks[name] = self._mark(name, at_the_end if spot == spots.LATEST else spot, blank)
        return marks, fresh

    def _mark(self, shard: str, spot: str, blank: Mark) -> Mark:
        try:
            mark = spots.marked(spot, blank, timestamps=self._timestamps)
        except ValueError as error:
            raise Refused(f"{shard} has no place {spot}") from error
        return mark._replace(shard=shard)

    def _check(
        self, standing: Mapping[str, Mark], sought: Mapping[str, str], listed: Mapping[str, Shard]
    ) -> None:
        gone = sought.keys() - (standing.keys() & listed.keys())
        going = [name for name, spot in sought.items() if spot not in {spots.END, spots.LATEST}]
        if gone or not sought.keys() >= set(_coming_along(listed, going)):
            raise Unreachable(CHANGED)
        for name, spot in sought.items():
            if spot == spots.END and not listed[name].closed:
                raise Refused(f"{name} has no end yet: seek to {spots.LATEST}")


def _coming_along(listed: Mapping[str, Shard], shards: Collection[str]) -> list[str]:
    parents = {name: shard.parents for name, shard in listed.items()}
    return descendants(parents, shards)

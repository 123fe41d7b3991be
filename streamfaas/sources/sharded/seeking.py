"""Where the shards of a stream are read on from, once somebody sends them elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from streamfaas.flow.errors import Gone, Refused, Unreachable
from streamfaas.flow.record import Lane
from streamfaas.flow.shards import descendants
from streamfaas.sources import Place, Stretch
from streamfaas.sources.sharded import spots
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.sources.sharded.handed import EPOCH_BITS
from streamfaas.sources.sharded.marks import Keeper
from streamfaas.sources.sharded.rereading import Rereader
from streamfaas.sources.sharded.roster import Roster
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Shard, Start, Stream

CHANGED = "the stream has other shards by now: nothing has changed, try again"


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
        *,
        timestamps: bool,
        time: ServiceClock,
    ) -> None:
        self._stream = stream
        self._keeper = keeper
        self._roster = roster
        self._rereader = rereader
        self._timestamps = timestamps
        self._time = time

    async def places(
        self, standing: Mapping[str, Mark], shards: Collection[str], to: Place
    ) -> dict[str, str]:
        """What a place stands for in shards, and in those that they take along."""
        listed = await self._roster.listed()
        if to == "latest":
            found = {
                name: spots.END if name in listed and listed[name].closed else spots.LATEST
                for name in shards
            }
            ended = {name for name, mark in standing.items() if mark.ended}
            return {n: spot for n, spot in found.items() if n not in ended} or found
        spot = spots.EARLIEST if to == "earliest" else spots.time_text(int(to))
        return dict.fromkeys((*shards, *_coming_along(listed, shards)), spot)

    async def at(
        self, standing: Mapping[str, Mark], shards: Collection[str], position: int
    ) -> dict[str, str]:
        """The same of a sequence number."""
        if len(shards) != 1:
            raise Refused(
                "a position is a sequence number of one shard: name that by --partition, "
                "or give a time"
            )
        (name,) = shards
        for mark in standing.values():
            self._rereader.note_digits(mark.sequence)
        listed = await self._roster.listed()
        read = await self._rereader.reread(Lane("", name), Stretch(position, position), 1)
        if not read.records:
            raise Gone(f"{name} has no record {position}")
        spot = self._rereader.text(position)
        return {name: spot, **dict.fromkeys(_coming_along(listed, shards), spots.EARLIEST)}

    async def marks(
        self, standing: Mapping[str, Mark], sought: Mapping[str, str]
    ) -> tuple[dict[str, Mark], dict[str, str]]:
        """The marks that stand there, and iterators for those that begin at their ends. Positions
        leap: what was written down about records must not be taken to be about others."""
        life = self._roster.described.life
        if self._time.set(await self._stream.describe((life,))).life != life:
            raise Unreachable(CHANGED)
        listed = await self._roster.listed()
        self._check(standing, sought, listed)
        position = await self._epoch(standing)
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
                continue
            words = spot
            if spot == spots.LATEST:
                words = spots.time_text(now_ms) if name in fresh else spots.END
            try:
                mark = spots.marked(words, blank, timestamps=self._timestamps)
            except ValueError as error:
                raise Refused(f"{name} has no place {spot}") from error
            marks[name] = mark._replace(shard=name)
        return marks, fresh

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

    async def _epoch(self, standing: Mapping[str, Mark]) -> int:
        marks = [*(await self._keeper.load()).values(), *standing.values()]
        return (max(mark.position >> EPOCH_BITS for mark in marks) + 1) << EPOCH_BITS


def _coming_along(listed: Mapping[str, Shard], shards: Collection[str]) -> list[str]:
    parents = {name: shard.parents for name, shard in listed.items()}
    return descendants(parents, shards)

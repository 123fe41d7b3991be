"""Which shards of a stream are read here, where several daemons share it by a table of leases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import anyio

from streamfaas.flow.errors import Busy, Mistaken, Unreachable
from streamfaas.flow.leases import (
    AT_TIMESTAMP,
    LATEST,
    SHARD_END,
    Lease,
    Terms,
    Watch,
    done_with,
    of_another,
    to_be_made,
)
from streamfaas.flow.record import Instant
from streamfaas.sources import Spawn
from streamfaas.sources.sharded import handed
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.sources.sharded.holding import GiveUp, Holds
from streamfaas.sources.sharded.marks import Keeper, Standing
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.sources.sharded.reading import AFTER
from streamfaas.sources.sharded.retention import limit_ms, may_be_trimmed, passed, told_of
from streamfaas.store.shards import Mark
from streamfaas.wire.lease_table import LeaseTable, Lost
from streamfaas.wire.shards import Described, Shard, Stream

MISSING_MAX = 20
"""Looks in a row at the list of shards that did not show one, before it counts as forgotten."""


class LeasedRoster:
    """Takes leases, keeps them, and lets go of them. See `Roster`, whose place it takes.

    Delivery: whoever has lost a lease writes no checkpoint any more; what it had in hand, another
    has as well. A daemon that stops, or gives a lease to another that has fewer, finishes what is
    in hand before. One that dies is followed within `failover_seconds` and two looks at the table.

    A table that does not answer costs the leases, and thereby the lanes, before others may take
    them. Errors are `WorldError`s.
    """

    def __init__(
        self,
        stream: Stream,
        keeper: Keeper,
        options: LogOptions,
        *,
        timestamps: bool,
        time: ServiceClock,
        warn: Callable[[str], None],
        give_up: GiveUp,
        make_table: Callable[..., LeaseTable],
        jitter: Callable[[], float],
    ) -> None:
        assert options.leases is not None
        self.described = Described("", "", 0.0, None)
        self.gone: frozenset[str] = frozenset()  # nobody has a lease of such a shard
        self.doubted: frozenset[str] = frozenset()  # their positions leap when they are taken
        self.fresh: dict[str, str] = {}
        self.worker = options.leases.worker
        self._terms = Terms(options.leases.failover_seconds)
        self._jitter = jitter
        self._table = make_table(
            options.leases.access, options.leases.table, call_seconds=self._terms.renew_seconds
        )
        self._stream = stream
        self._keeper = keeper
        self._options = options
        self._timestamps = timestamps
        self._time = time
        self._warn = warn
        self._spawn: Spawn | None = None
        self._watch = Watch(self.worker, self._terms)
        self._strangers = Watch(self.worker, self._terms)  # rows of other lives of the stream
        self._holds = Holds(self._table, self._terms, give_up=give_up, warn=warn)
        self._marks: dict[str, Mark] = {}
        self._base = 0
        self._known: dict[str, Shard] = {}
        self._missing: Counter[str] = Counter()
        self._orphans: dict[str, Instant] = {}
        self._list_at = self._answered_at = self._look_at = self._clock()

    # -- life

    async def open(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._keeper.share = self._share
        await self._table.open()
        await self._table.ensure()

    async def let_go(self) -> None:
        """Of all leases: others take them at once."""
        for shard in self._holds:
            await self._release(shard)

    async def close(self) -> None:
        await self._table.close()

    async def remembered(self) -> list[Mark]:
        """For the first time: marks of the shards that are read now."""
        self._marks = await self._keeper.load()
        newest = max((mark.position for mark in self._marks.values()), default=0)
        self._base = newest >> handed.EPOCH_BITS << handed.EPOCH_BITS
        rows = await self._table.scan()
        self._answered_at = self._clock()
        lives = {row.stream for row in rows if row.stream and not row.ended}
        self.described = self._time.set(await self._stream.describe(lives))
        await self._list()
        self._must_be_ours(rows, self._known)
        if all(self._is_strange(row) for row in rows) and rows:
            name, remade = self._stream.name, self._stream.remade
            self._warn(f"{name} {remade}; it is read from its beginning")
        if not rows and any(mark.stream == self.described.life for mark in self._marks.values()):
            self._warn(
                f"{self._table.name} has no leases, or not any more: shards are read on from where "
                "this daemon has read them to, others from their beginning"
            )
        return await self._turn(rows, ())

    async def look(self, reading: Collection[str]) -> list[Mark]:
        """Looks at the table: marks of the shards whose leases were taken. Where it does not
        answer for long, all is made anew."""
        try:
            if self._clock() >= self._list_at:
                await self._list()
            rows = await self._table.scan()
            self._answered_at = self._clock()
            return await self._turn(rows, reading)
        except (Busy, Unreachable):
            if self._clock() >= self._answered_at + self._terms.failover_seconds:
                raise
            self._look_at = Instant(self._clock() + self._terms.scan_seconds / 2)
            return []

    async def followed(self) -> list[Mark] | None:
        """Where nothing of this life of the stream can be read any more, by anybody: marks of the
        one that follows, or None."""
        if not all(lease.ended for lease in self._watch.leases.values()):
            return None
        described = self._time.set(await self._stream.describe())
        changed = described.life != self.described.life
        self.described = described
        if not changed:
            return None
        self._known = {}
        await self._list()
        return await self.look(())

    # -- what is known

    @property
    def pause_seconds(self) -> float:
        """Until the next look."""
        return max(0.05, self._look_at - self._clock())

    @property
    def lease_seconds(self) -> float:
        """For so long all that we have is surely ours."""
        return self._holds.sure_seconds

    def is_ours(self, shard: str) -> bool:
        """Whether that is sure, now."""
        return self._holds.sure(shard)

    def elsewhere(self) -> dict[str, str]:
        """Shards that others read, and who."""
        leases = sorted(self._watch.leases.items())
        mine = self._holds
        return {k: v.owner for k, v in leases if v.owner and not v.ended and k not in mine}

    def details(self) -> Mapping[str, object]:
        return {"leases": self._table.name, "worker": self.worker, "elsewhere": self.elsewhere()}

    def is_closed(self, shard: str) -> bool:
        known = self._known.get(shard)
        return known is not None and known.closed

    def end(self, shard: str) -> None:
        """The table says so, once the mark is written down. What came out of it is looked for."""
        self._list_at = self._clock()

    def tell_gone(self, shard: str) -> None:
        self._warn(f"{shard} is past the stream's retention; what was not read is lost")

    def tell_passed(self, shard: str) -> None:
        self._warn(passed(shard))

    def tell_trimmed(self, shard: str) -> None:
        self._warn(f"records of {shard} were lost to the stream's retention before they were read")

    async def closed(self, shard: str, mark: Mark) -> None:
        """Nothing of a shard is in hand any more: its lease is for others. `mark`: how far it was
        read, as was written down."""
        self._marks[shard] = mark
        await self._release(shard)

    async def _release(self, shard: str) -> None:
        if await self._holds.release(shard):
            self._watch.gave(shard, self._clock())

    # -- the table, by looking

    async def _list(self) -> None:
        listed = {shard.id: shard for shard in await self._stream.shards()}
        missing = self._known.keys() - listed.keys()
        self._missing = Counter({name: self._missing[name] + 1 for name in missing})
        kept = {n: self._known[n] for n, looks in self._missing.items() if looks < MISSING_MAX}
        self._known = kept | listed
        self._list_at = Instant(self._clock() + self._options.look_seconds)

    async def _turn(self, rows: Iterable[Lease], reading: Collection[str]) -> list[Mark]:
        self._saw(rows)
        await self._forget_strangers()
        if await self._make_rows():
            self._saw(await self._table.scan())
        if self._watch.leases.keys() - self._known.keys():
            await self._list()  # others know of shards that are newer than our list of them
        for lease in done_with(self._watch.leases, self._parents()):
            await self._attempt(self._table.remove(lease))
        readable, now = self._watch.may_be_read(self._parents()), self._clock()
        plan = self._watch.plan(readable, {*self._holds, *reading}, now, self._jitter())
        self._look_at = plan.look_at
        await self._take(plan.take)
        if plan.ask is not None and await self._attempt(self._table.want(plan.ask, self.worker)):
            self._watch.asked(plan.ask.key, self._clock())
        return [self._marks[shard] for shard in self._holds if shard not in reading]

    def _saw(self, rows: Iterable[Lease]) -> None:
        rows, now = list(rows), self._clock()
        if several := next((row.key for row in rows if ":" in row.key), None):
            raise Mistaken(
                f"{self._table.name} has leases of several streams ({several}): "
                "such a table of the Kinesis Client Library cannot be gone on with"
            )
        self._must_be_ours(rows)
        self._watch.saw([row for row in rows if not self._is_strange(row)], now)
        self._strangers.saw([row for row in rows if self._is_strange(row)], now)

    def _must_be_ours(self, rows: Collection[Lease], known: Collection[str] = ()) -> None:
        """Nothing of another stream's is taken, reset or removed."""
        if other := of_another(rows, self.described.of, known):
            raise Mistaken(
                f"the table {self._table.name} has the leases of another stream ({other}), and is "
                "left as it is: give `leases` of this trigger a table of its own, or delete that "
                "one, if nobody reads that stream any more"
            )

    def _is_strange(self, row: Lease) -> bool:
        return bool(row.stream) and row.stream != self.described.life

    async def _forget_strangers(self) -> None:
        """Rows of another life of the stream, once nobody has them any more."""
        for row in self._strangers.leases.values():
            if row.ended or self._strangers.free(row, self._clock()):
                await self._attempt(self._table.remove(row))

    async def _make_rows(self) -> bool:
        """For shards that have none. One that came out of no shard with a row waits a while:
        perhaps another daemon is just making rows."""
        due = to_be_made(self._watch.leases, self._parents())
        since_ms, now = self._birth_ms(), self._clock()
        # of a table that was lost, those rows first of which somebody knows how far they were read
        ours = {name for name, mark in self._marks.items() if mark.stream == self.described.life}
        first = {name for name in ours if self._has_read(name)}
        if since_ms is not None:
            first = first or ours or set(self._known)
        orphans = {name for name, of_kin in due if not of_kin}
        self._orphans = {name: self._orphans.get(name, now) for name in orphans}
        made, waiting = False, set[str]()
        for name, of_kin in due:
            ripe = (
                of_kin or name in first or now >= self._orphans[name] + self._terms.failover_seconds
            )
            # a row without that of a parent would say that the parent is finished with
            if ripe and waiting.isdisjoint(self._known[name].parents):
                made |= await self._attempt(self._table.make(self._row(name, since_ms)))
            else:
                waiting.add(name)
        return made

    def _has_read(self, name: str) -> bool:
        """Whether we know how far a shard was read: where we were the last to read it."""
        mark = self._marks.get(name)
        return (
            mark is not None
            and mark.stream == self.described.life
            and bool(mark.sequence or mark.ended)
        )

    def _birth_ms(self) -> int | None:
        """When the table was, or is now, begun to be filled: until all rows are there, nobody has
        had a lease of it. None where that is over, or was done by whoever was alone before."""
        rows = self._watch.leases.values()
        if not rows:
            return self._time.now_ms()
        if any(row.counter or (row.begun and not row.ended) for row in rows):
            return None
        return min((row.since_ms for row in rows if row.since_ms is not None), default=None)

    def _row(self, name: str, birth_ms: int | None) -> Lease:
        shard = self._known[name]
        lease = Lease(
            name,
            parents=frozenset(shard.parents),
            hashes=shard.hashes,
            stream=self.described.life,
        )
        if self._has_read(name):
            return handed.remembered(lease, self._marks[name])
        if birth_ms is None or self._strangers.leases:
            return lease
        if any(mark.stream == lease.stream for mark in self._marks.values()):
            mark = self._marks.get(name)
            return lease if mark is None else handed.remembered(lease, mark)
        if self._options.start == "latest" and shard.closed and not self._timestamps:
            return replace(lease, checkpoint=SHARD_END, since_ms=birth_ms)
        return handed.begun_at(lease, self._options.start, birth_ms)

    async def _take(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            asked_at = self._clock()
            try:
                taken = await self._table.take(self._dated(lease), self.worker)
            except Lost:
                continue
            mark = handed.resumed(
                taken, self._marks.get(taken.key), base=self._base, timestamps=self._timestamps
            )
            if may_be_trimmed(mark, limit_ms(self.described, self._time.now())):
                self._warn(told_of(mark))
                mark = mark._replace(position=mark.position + handed.EPOCH)
            if not mark.seen_ms:
                mark = mark._replace(seen_ms=self._time.now_ms())
            self._marks[taken.key] = mark
            if mark.sequence and not taken.begun and mark.kind == AFTER:
                self._warn(
                    f"the lease of {taken.key} had no checkpoint any more: it is read on "
                    "from where this daemon has read it to"
                )
            await self._keeper.put(mark)
            assert self._spawn is not None
            self._holds.keep(taken, asked_at, self._spawn)

    def _dated(self, lease: Lease) -> Lease:
        """Of this life of the stream, and with the time that it begins at: the library writes down
        none."""
        lease = replace(lease, stream=self.described.life)
        if lease.checkpoint not in {LATEST, AT_TIMESTAMP} or lease.since_ms is not None:
            return lease
        start = self._options.start
        if lease.checkpoint == LATEST:
            return replace(lease, since_ms=self._time.now_ms())
        return replace(lease, since_ms=int(start * 1000) if isinstance(start, float) else None)

    async def _attempt(self, write: Awaitable[object]) -> bool:
        """Whether nobody was quicker."""
        try:
            await write
        except Lost:
            return False
        return True

    def _parents(self) -> dict[str, tuple[str, ...]]:
        return {name: shard.parents for name, shard in self._known.items()}

    def _clock(self) -> Instant:
        return Instant(anyio.current_time())

    # -- leases that are ours

    async def _share(self, standings: Sequence[Standing]) -> list[Standing]:
        """Writes checkpoints of those leases that are ours."""
        return [each for each in standings if await self._checkpoint(each)]

    async def _checkpoint(self, standing: Standing) -> bool:
        shard = standing.mark.shard
        if shard not in self._holds or standing.checkpoint is None:
            return shard in self._holds
        sequence, sub = standing.checkpoint
        found = {n for n, each in self._known.items() if shard in each.parents}
        children = frozenset(found if standing.mark.ended else ())
        return await self._holds.checkpoint(shard, sequence, sub, children=children)

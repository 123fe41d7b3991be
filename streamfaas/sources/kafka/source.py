"""Kafka as a source: partitions are lanes, and a commit is a checkpoint."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import anyio
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CannotSend, CorruptBatch, Gone, Refused, Unreachable, WorldError
from streamfaas.flow.event import Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Instant, Lane, Record, Run, run_of
from streamfaas.flow.verdict import Judge, judge_log
from streamfaas.sources import (
    Arrival,
    Arrived,
    Closing,
    LaneView,
    Opened,
    Place,
    Reread,
    Sender,
    SourceView,
    Spawn,
    Stretch,
)
from streamfaas.sources.kafka.beginnings import begins_late, birth_note
from streamfaas.sources.kafka.fetch import Partition
from streamfaas.sources.kafka.member import Member, Seat, SeatLostError
from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.sources.kafka.shape import event, place_of, records, shape
from streamfaas.sources.kafka.watch import Watch
from streamfaas.telemetry.signals import Emit, SourceChanged
from streamfaas.wire.kafka import (
    FetchedTokens,
    connection,
    in_the_clear,
    quiet,
    reach,
    translated,
)
from streamfaas.wire.kafka_event import (
    kafka_batch_info,
    kafka_face,
    kafka_locate,
)

COMMIT_SECONDS = 5.0
"""How long one commit may take, and how long the last one is tried for."""

BEGIN_SECONDS_MAX = 20.0
"""How long the offsets of new partitions may take to be read; no heartbeat is sent meanwhile."""

ASK_SECONDS = 10.0
"""How long it may take to ask where a log begins or ends, or what offset a time has."""

MEASURE_SECONDS = 5.0
"""How old the end of a log may be, as far as it is known, before it is asked for."""

LOST_SECONDS = 2.0
"""How long a seat that is lost already waits for what is in flight to be cut off."""

LOSSES_MAX = 3
"""So many seats lost in short order are not the doing of a broker."""

NO_SEAT = Seat(-1, "")

Told = Callable[[Iterable[TopicPartition]], Awaitable[None]]


class Kafka:
    """Reads one consumer group's share of some topics.

    Delivery: at least once, in order within a partition. Offsets are committed on a timer, before
    a partition is given away, and at the end; never past what is unfinished, and never under a
    seat in the group that is not ours any more.

    Errors: `Unreachable` where no broker answers or nothing moves any more, `Refused` where they
    do not let us in. A lane is blocked, and nothing is skipped, where the log has lost what
    follows, where a batch is damaged in the log, or is too large to be fetched.

    Permissions needed: Read on the group; Read and Describe on the topics.
    """

    kind: ClassVar[str] = "kafka"
    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LISTED

    def __init__(
        self, name: str, options: KafkaOptions, *, clock: Callable[[], float], emit: Emit
    ) -> None:
        self.name = name
        self.judge: Judge = judge_log
        self._options = options
        self._servers = ",".join(options.brokers)
        self._clock = clock
        self._emit = emit
        self._member: Member | None = None
        self._seat = NO_SEAT
        self._partitions: dict[Lane, Partition] = {}
        self._told: deque[Opened | Closing] = deque()
        self._leaving: set[Lane] = set()  # told to close, and not closed yet
        self._held: set[Lane] = set()  # ours again, while an earlier life of them is leaving
        self._stirred = asyncio.Event()
        self._left = asyncio.Event()
        self._committing = anyio.Lock()
        self._revoking = False
        self._closing = False
        self._failure: Exception | None = None
        self._watch: Watch | None = None
        self._late = 0
        self._lost_at: deque[float] = deque(maxlen=LOSSES_MAX)

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return LogLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return shape(batch, self._servers)

    def event(self, batch: Batch) -> bytes:
        return event(batch, self._servers)

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return records(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        place = place_of(record.lane)
        return kafka_face(place.topic, place.partition, record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        return kafka_locate(batch, identifier)

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        try:
            known = records(batch)
        except CorruptBatch:
            known = ()
        return kafka_batch_info(batch, self._servers, known)

    # -- life

    async def open(self, spawn: Spawn) -> None:
        options = self._options
        quiet()
        if in_the_clear(options.tls, options.sasl):
            warning = "warning: credentials are sent in the clear; set tls on the connection"
            self._emit(SourceChanged(self.name, "connecting", warning))
        seconds = options.open_seconds
        try:
            with anyio.fail_after(seconds):
                asked = connection(options.tls, options.sasl, self._clock)
                await reach(options.brokers, asked, min(10.0, seconds / len(options.brokers)))
                member = self._member = Member(options, asked, self._clock, self._stirred.set)
                watch = self._watch = Watch(self.name, options, member, self._clock, self._emit)
                await member.open(_Listener(self._assigned, self._revoked))
        except TimeoutError as error:
            raise Unreachable(f"no answer from {self._servers} in {seconds:.0f} s") from error
        except KafkaError as error:
            raise translated(error, self._servers) from error
        spawn(lambda: self._look_again(member, watch), "watch")
        spawn(lambda: self._measure(member), "lag")
        tokens = asked.get("sasl_oauth_token_provider")
        if isinstance(tokens, FetchedTokens):
            spawn(tokens.keep_fresh, "token")

    async def close(self) -> None:
        self._closing = True
        self._left.set()
        member, error = self._member, None
        if member is None:
            return
        with anyio.move_on_after(COMMIT_SECONDS) as deadline:
            while self._revoking:
                self._left.clear()
                await self._left.wait()
            error = await self._last_commit()
        if deadline.cancelled_caught:
            error = Unreachable("the last offsets were not committed in time; they will be redone")
        await member.close()
        if error is not None:
            raise error

    # -- reading

    async def next(self, ready: Collection[Lane]) -> Arrival:
        if self._member is not None:
            self._member.fetcher.ready = ready
        while True:
            self._stirred.clear()
            if self._failure is not None:
                raise self._failure
            if self._told:
                arrival = self._told.popleft()
                if isinstance(arrival, Opened):
                    self._partitions[arrival.lane].opened = True
                return arrival
            if (run := self._next_run(ready)) is not None:
                return Arrived(run)
            await self._stirred.wait()

    @property
    def lease_seconds(self) -> float:
        """A rebalance may have begun, and gives us no more than this."""
        return 0.9 * self._options.drain_seconds

    def wake(self) -> None:
        self._stirred.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        partition = self._partitions.get(lane)
        if partition is not None and partition.opened and self._member is not None:
            self._member.fetcher.seek(partition, position)
            self._stirred.set()

    def _next_run(self, ready: Collection[Lane]) -> Run | None:
        if self._member is None or self._revoking:
            return None
        fetcher = self._member.fetcher
        while True:
            waiting = (one for one in fetcher.waiting() if one.opened and one.lane in ready)
            if (partition := next(waiting, None)) is None:
                return None
            first = partition.expected
            if (found := fetcher.take(partition)) is not None:
                partition.moved_at = self._clock()
                return run_of(partition.lane, first, found.next_position - 1, found.batches)

    # -- reading once more, beside all this

    @property
    def counted(self) -> bool:
        return True

    async def stretches(
        self, lane_names: Collection[str], wanted: Stretch
    ) -> Mapping[Lane, Stretch]:
        from streamfaas.sources.kafka import reread

        known = {lane.name: lane for lane in self._everything()}
        if unknown := sorted(set(lane_names) - known.keys()):
            raise Gone(f"there is no partition {', '.join(unknown)}; {_some(sorted(known))}")
        lanes = tuple(known[name] for name in sorted(lane_names) or sorted(known))
        return await reread.stretches(self._options, lanes, wanted, clock=self._clock)

    async def reread(self, lane: Lane, wanted: Stretch, records_max: int) -> Reread:
        from streamfaas.sources.kafka import reread

        assert wanted.first is not None
        assert wanted.last is not None
        first = wanted.first if wanted.after is None else wanted.after + 1
        last, clock = wanted.last, self._clock
        return await reread.reread(self._options, lane, first, last, records_max, clock=clock)

    @property
    def known_by(self) -> None:
        return None

    @asynccontextmanager
    async def sender(self, topic: str) -> AsyncIterator[Sender]:
        from streamfaas.sources.kafka import send

        if self._member is None:
            raise Unreachable(f"{self._servers}: not connected")
        topics = sorted(self._options.topics or self._member.topics)  # as asked, known or not
        if topic and topic not in topics:
            raise CannotSend(f"the trigger does not read {topic}; {_some(topics)}")
        if not topic and len(topics) != 1:
            raise CannotSend(f"which topic? {_some(topics)}; name one by --topic")
        chosen = topic or topics[0]
        count = self._member.partitions(chosen)
        async with send.sender(self._options, self.name, chosen, count, self._clock) as made:
            yield made

    def _everything(self) -> list[Lane]:
        """All partitions of the topics, whoever has them."""
        if self._member is None:
            raise Unreachable(f"{self._servers}: not connected")
        member = self._member
        return [
            Lane(self.name, f"{topic}-{partition}")
            for topic in sorted(member.topics)
            for partition in range(member.partitions(topic))
        ]

    # -- tumbling windows

    @property
    def arn(self) -> str:
        return ""

    def life(self, lane: Lane) -> str:
        """Always the same: a topic that is made anew has none of its group's offsets any more."""
        return ""

    def seen_empty(self, lane: Lane) -> Instant | None:
        one, member = self._partitions.get(lane), self._member
        if one is None or member is None or one.end is None:
            return None
        unread = one.expected < one.end or member.fetcher.replied(one)
        return None if unread else Instant(one.heard_at)

    # -- reading on from elsewhere

    def standing(self) -> Mapping[Lane, int]:
        return {lane: one.settled for lane, one in self._partitions.items()}

    def elsewhere(self) -> tuple[str, ...]:
        return tuple(lane.name for lane in self._everything() if lane not in self._partitions)

    async def places(self, lanes: Collection[Lane], to: Place) -> Mapping[Lane, int]:
        if self._member is None:
            raise Unreachable(f"{self._servers}: not connected")
        at = {lane: place_of(lane) for lane in lanes}
        try:
            with anyio.fail_after(2 * ASK_SECONDS):  # a time is asked for in two steps
                found = await self._member.starts(list(at.values()), to, ASK_SECONDS)
        except (KafkaError, TimeoutError) as error:
            raise translated(error, self._servers) from error
        return {lane: found[place] for lane, place in at.items()}

    async def seek(self, positions: Mapping[Lane, int]) -> None:
        member, seat = self._member, self._seat
        known = {lane: self._partitions.get(lane) for lane in positions}
        chosen = {lane: one for lane, one in known.items() if one is not None}
        if member is None or self._closing or self._revoking or len(chosen) < len(known):
            raise Unreachable("partitions are being given away: nothing has changed, try again")
        self._told = deque(one for one in self._told if one.lane not in chosen)
        for lane, one in chosen.items():
            one.opened = False
            self._leaving.add(lane)
            self._held.add(lane)
        try:
            await self._stand(member, seat, chosen, positions)
        finally:
            for lane, one in chosen.items():
                if self._partitions.get(lane) is one:
                    member.fetcher.seek(one, one.settled)

    async def _stand(
        self,
        member: Member,
        seat: Seat,
        chosen: Mapping[Lane, Partition],
        positions: Mapping[Lane, int],
    ) -> None:
        """Commits the positions, and nothing else meanwhile: what was settled before must not come
        after them."""
        offsets = {
            one.place: OffsetAndMetadata(positions[lane], one.note) for lane, one in chosen.items()
        }
        try:
            with anyio.fail_after(COMMIT_SECONDS):
                async with self._committing:
                    for one in chosen.values():  # until the answer is here it may be either
                        one.committed = -1
                    done = await member.commit(offsets, seat, patient=True)
                    for lane, one in chosen.items():
                        if one.place in done:
                            one.settled = one.committed = positions[lane]
        except SeatLostError as error:
            lost = f"group {self._options.group} has given its partitions anew: try again"
            raise Unreachable(lost) from error
        except (KafkaError, TimeoutError) as error:
            raise translated(error, self._servers, known=True) from error
        if gone := sorted(lane.name for lane, one in chosen.items() if one.place not in done):
            raise Gone(f"there is no partition {', '.join(gone)} any more")

    # -- settling

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Checkpoint)
        partition = self._partitions.get(settlement.lane)
        if partition is None or not partition.opened:
            self._late += 1  # somebody else has the partition now, and may have run it again
        else:
            partition.settled = max(partition.settled, settlement.position + 1)

    def durable(self, lane: Lane) -> int | None:
        partition = self._partitions.get(lane)
        return None if partition is None else partition.committed - 1

    async def closed(self, lane: Lane) -> None:
        self._leaving.discard(lane)
        self._left.set()
        if lane in self._held:
            self._held.discard(lane)
            self._told.append(Opened(lane))
            self._stirred.set()

    async def _commit(self, *, patient: bool) -> None:
        assert self._member is not None
        async with self._committing:
            partitions = self._partitions.values()
            risen = {one.place: one for one in partitions if one.settled > one.committed}
            if risen:
                offsets = {
                    place: OffsetAndMetadata(one.settled, one.note) for place, one in risen.items()
                }
                await self._member.commit(offsets, self._seat, patient=patient)
                for place, given in offsets.items():
                    risen[place].committed = max(risen[place].committed, given.offset)

    async def _last_commit(self) -> WorldError | None:
        """What stood in its way. That the seat is lost is no error: somebody else begins where
        the last commit was."""
        try:
            await self._commit(patient=True)
        except SeatLostError:
            return None
        except KafkaError as error:
            return translated(error, self._servers, known=True)
        return None

    # -- membership: called by the client, which sends no heartbeat while partitions are assigned,
    # goes on with them while partitions are revoked, and takes no exception from either

    async def _assigned(self, places: Iterable[TopicPartition]) -> None:
        seconds = min(BEGIN_SECONDS_MAX, self._options.session_timeout_seconds / 2)
        try:
            with anyio.fail_after(seconds):
                await self._begin(frozenset(places), seconds)
        except SeatLostError:
            return  # the client asks for another already
        except TimeoutError:
            late = f"{self._servers}: the offsets of the group were not had in {seconds:.0f} s"
            self._fail(Unreachable(late))
        except KafkaError as error:
            self._fail(translated(error, self._servers, known=True))
        except Exception as bug:  # noqa: BLE001 - the client would swallow it; the reader must not
            self._fail(bug)

    async def _begin(self, places: frozenset[TopicPartition], seconds: float) -> None:
        assert self._member is not None
        assert self._watch is not None
        member, seat = self._member, self._member.seat
        offsets = await member.offsets(sorted(places)) if places else {}
        if missing := sorted(places - offsets.keys()):
            offsets |= await self._first_offsets(missing, seat, seconds)
        if member.assigned != places or member.seat != seat:
            return  # gone on meanwhile: it will be told anew
        self._seat, now = seat, self._clock()
        for place in sorted(places):
            lane = Lane(self.name, f"{place.topic}-{place.partition}")
            at, note = offsets[place].offset, offsets[place].metadata
            partition = Partition(place, lane, at, at, at, note, heard_at=now, moved_at=now)
            self._partitions[lane] = partition
            member.fetcher.watch(partition)
            if lane in self._leaving:
                self._held.add(lane)
            else:
                self._told.append(Opened(lane))
        self._watch.begun()
        self._stirred.set()

    async def _first_offsets(
        self, missing: list[TopicPartition], seat: Seat, seconds: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Where partitions begin that the group has no offset for, committed before a record is
        read: `latest` must not move on if we end before the first one is finished with."""
        assert self._member is not None
        member, options = self._member, self._options
        notes = {place: one.metadata for place, one in (await member.offsets(None)).items()}
        topics, by_pattern = member.topics, options.pattern is not None
        late = [one for one in missing if begins_late(one, notes, topics, by_pattern=by_pattern)]
        starts = await member.starts(late, "earliest", seconds)
        others = [one for one in missing if one not in late]
        starts |= await member.starts(others, options.start, seconds)
        begun = {
            place: OffsetAndMetadata(at, birth_note(member.partitions(place.topic), topics))
            for place, at in starts.items()
        }
        await member.commit(begun, seat, patient=True)
        return begun

    async def _revoked(self, _places: Iterable[TopicPartition]) -> None:
        try:
            await self._give_away()
        except Exception as bug:  # noqa: BLE001 - the client would swallow it; the reader must not
            self._fail(bug)

    async def _give_away(self) -> None:
        assert self._member is not None
        options, lost = self._options, self._member.seat != self._seat
        seconds = LOST_SECONDS if lost else options.drain_seconds
        self._revoking = True
        self._told = deque(one for one in self._told if isinstance(one, Closing))
        self._held.clear()
        going = {lane for lane, one in self._partitions.items() if one.opened}
        for lane in going:
            self._leaving.add(lane)
            self._told.append(Closing(lane, 0.0 if lost else 0.9 * seconds))
        self._stirred.set()
        with anyio.move_on_after(seconds):
            while going & self._leaving and not self._closing:
                self._left.clear()
                await self._left.wait()
        if not lost:
            with anyio.move_on_after(min(COMMIT_SECONDS, 0.1 * options.rebalance_timeout_seconds)):
                await self._last_commit()
        self._partitions.clear()
        self._member.fetcher.forget()
        self._seat, self._revoking = NO_SEAT, False
        self._left.set()
        if lost:
            self._count_loss(self._clock())

    def _count_loss(self, now: float) -> None:
        """Two static members of one name put each other out for ever."""
        name, seats = self._options.instance_id, self._lost_at
        seats.append(now)
        within = LOSSES_MAX * 5 * self._options.heartbeat_seconds
        if name and len(seats) == LOSSES_MAX and now - seats[0] < within:
            told = f"another member of group {self._options.group} has the instance name {name}"
            self._fail(Refused(f"{told}; each needs one of its own"))

    # -- watching

    def _fail(self, error: Exception) -> None:
        """The reader is told, and the source made anew."""
        self._failure = self._failure or error
        self._stirred.set()

    async def _look_again(self, member: Member, watch: Watch) -> None:
        """Runs for ever: commits on time, and sees whether all goes well."""
        while True:
            await anyio.sleep(self._options.commit_seconds)
            if self._closing or self._failure is not None:
                return
            try:
                member.check()
                await self._commit_in_time(watch)
                await watch.explain_losses()
                member.fetcher.revive(self._clock())
                partitions = self._partitions.values()
                watch.look(partitions, revoking=self._revoking, seated=self._seat.taken)
            except WorldError as error:
                self._fail(error)
            except KafkaError as error:
                self._fail(translated(error, self._servers, known=True))

    async def _measure(self, member: Member) -> None:
        """Runs for ever: asks where the log ends of partitions that are not fetched from, because
        they are paused, blocked or slow. Who does not answer is told of by others."""
        while not self._closing:
            await anyio.sleep(MEASURE_SECONDS)
            since = self._clock() - MEASURE_SECONDS
            stale = [one for one in self._partitions.values() if one.heard_at < since]
            with suppress(KafkaError, TimeoutError), anyio.fail_after(2 * ASK_SECONDS):
                places = [one.place for one in stale]
                ends = await member.starts(places, "latest", ASK_SECONDS)
                for one in stale:
                    one.end = max(one.end or 0, ends.get(one.place, 0))

    async def _commit_in_time(self, watch: Watch) -> None:
        if self._revoking or not self._seat.taken:
            return
        try:
            with anyio.fail_after(COMMIT_SECONDS):
                await self._commit(patient=False)
        except SeatLostError:
            return  # the partitions are about to be revoked
        except (KafkaError, TimeoutError) as error:
            where = f"the coordinator of group {self._options.group}"
            told = translated(error, where, known=True)
            if isinstance(told, Refused):
                raise told from error
            watch.committed(told)
        else:
            watch.committed(None)

    def view(self) -> SourceView:
        """Positions are offsets as Kafka's own tools show them: of the next record."""
        member = self._member
        details: dict[str, Any] = {"group": self._options.group, "late_settlements": self._late}
        if member is not None:
            details["brokers"] = member.addresses()
            details["generation"] = self._seat.generation
            details["member"] = self._seat.member
        return SourceView(
            state="connecting" if self._watch is None else self._watch.state,
            reason="" if self._watch is None else self._watch.reason,
            lanes={
                lane: LaneView(
                    one.settled,
                    None if one.end is None else max(0, one.end - one.settled),
                    one.trouble,
                )
                for lane, one in self._partitions.items()
            },
            blocked={lane: one.blocked for lane, one in self._partitions.items() if one.blocked},
            details=details,
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the client asks for this class
    def __init__(self, assigned: Told, revoked: Told) -> None:
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._assigned(assigned)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._revoked(revoked)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"there are {', '.join(names[:5])}{more}" if names else "there is none"

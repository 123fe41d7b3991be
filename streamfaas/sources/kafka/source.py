"""Kafka as a source: partitions are lanes, and a commit is a checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import anyio
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
    LaneView,
    Place,
    Reread,
    Sender,
    SourceView,
    Spawn,
    Stretch,
)
from streamfaas.sources.kafka.assignment import Assignment
from streamfaas.sources.kafka.beginnings import life_of
from streamfaas.sources.kafka.fetch import Partition
from streamfaas.sources.kafka.member import COMMIT_SECONDS, Member, Seat, SeatLostError
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
from streamfaas.wire.kafka_event import kafka_batch_info, kafka_face, kafka_locate

ASK_SECONDS = 10.0
"""How long it may take to ask where a log begins or ends, or what offset a time has."""

MEASURE_SECONDS = 5.0
"""How old the end of a log may be, as far as it is known, before it is asked for."""


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
        self._watch: Watch | None = None
        self._partitions: dict[Lane, Partition] = {}
        self._stirred = asyncio.Event()
        self._assignment = Assignment(
            name,
            options,
            self._partitions,
            clock=clock,
            commit=self._last_commit,
            fail=self._fail,
            changed=self._stirred.set,
        )
        self._committing = anyio.Lock()
        self._closing = False
        self._failure: Exception | None = None
        self._late = 0

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
                await member.open(self._assignment.listener(member, watch.begun))
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
        self._assignment.end()
        member, error = self._member, None
        if member is None:
            return
        with anyio.move_on_after(COMMIT_SECONDS) as deadline:
            await self._assignment.wait_given_away()
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
            if (told := self._assignment.told()) is not None:
                return told
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
        if self._member is None or self._assignment.revoking:
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

        member = self._connected()
        topics = sorted(self._options.topics or member.topics)  # as asked, known or not
        if topic and topic not in topics:
            raise CannotSend(f"the trigger does not read {topic}; {_some(topics)}")
        if not topic and len(topics) != 1:
            raise CannotSend(f"which topic? {_some(topics)}; name one by --topic")
        chosen = topic or topics[0]
        count = member.partitions(chosen)
        async with send.sender(self._options, self.name, chosen, count, self._clock) as made:
            yield made

    def _everything(self) -> list[Lane]:
        """All partitions of the topics, whoever has them."""
        member = self._connected()
        return [
            Lane(self.name, f"{topic}-{partition}")
            for topic in sorted(member.topics)
            for partition in range(member.partitions(topic))
        ]

    def _connected(self) -> Member:
        if self._member is None:
            raise Unreachable(f"{self._servers}: not connected")
        return self._member

    # -- tumbling windows

    @property
    def arn(self) -> str:
        return ""

    def life(self, lane: Lane) -> str:
        one = self._partitions.get(lane)
        return "" if one is None else life_of(one.note)

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
        member, at = self._connected(), {lane: place_of(lane) for lane in lanes}
        try:
            with anyio.fail_after(2 * ASK_SECONDS):  # a time is asked for in two steps
                found = await member.starts(list(at.values()), to, ASK_SECONDS)
        except (KafkaError, TimeoutError) as error:
            raise translated(error, self._servers) from error
        return {lane: found[place] for lane, place in at.items()}

    async def seek(self, positions: Mapping[Lane, int]) -> None:
        member, seat = self._member, self._assignment.seat
        known = {lane: self._partitions.get(lane) for lane in positions}
        chosen = {lane: one for lane, one in known.items() if one is not None}
        going = self._closing or self._assignment.revoking
        if member is None or going or len(chosen) < len(known):
            raise Unreachable("partitions are being given away: nothing has changed, try again")
        self._assignment.reopen(chosen)
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
        self._assignment.closed(lane)

    async def _commit(self, *, patient: bool) -> None:
        assert self._member is not None
        async with self._committing:
            partitions = self._partitions.values()
            risen = {one.place: one for one in partitions if one.settled > one.committed}
            if risen:
                offsets = {
                    place: OffsetAndMetadata(one.settled, one.note) for place, one in risen.items()
                }
                await self._member.commit(offsets, self._assignment.seat, patient=patient)
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
                held = self._assignment
                watch.look(partitions, revoking=held.revoking, seated=held.seat.taken)
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
        if self._assignment.revoking or not self._assignment.seat.taken:
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
            details["generation"] = self._assignment.seat.generation
            details["member"] = self._assignment.seat.member
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


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"there are {', '.join(names[:5])}{more}" if names else "there is none"

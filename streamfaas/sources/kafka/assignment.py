"""The partitions that a group has given us, as lanes: from their offsets until they are given away.

The client calls in: it sends no heartbeat while partitions are assigned, goes on with them while
partitions are revoked, and takes no exception from either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from streamfaas.flow.errors import Refused, Unreachable
from streamfaas.flow.record import Lane
from streamfaas.sources import Closing, Opened
from streamfaas.sources.kafka.beginnings import first_offsets
from streamfaas.sources.kafka.fetch import Partition
from streamfaas.sources.kafka.member import COMMIT_SECONDS, Member, Seat, SeatLostError
from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.wire.kafka import translated

BEGIN_SECONDS_MAX = 20.0
"""How long the offsets of new partitions may take to be read; no heartbeat is sent meanwhile."""

LOST_SECONDS = 2.0
"""How long a seat that is lost already waits for what is in flight to be cut off."""

LOSSES_MAX = 3
"""So many seats lost in short order are not the doing of a broker."""

NO_SEAT = Seat(-1, "")


class Assignment:
    """Keeps `partitions`: those that are ours, and under which `seat`.

    A partition's lane opens at the offset that the group has for it. Before partitions are given
    away their lanes are closed, and what is settled of them is committed. One that is ours again
    while its lane is still closing is held back until that has closed.
    """

    def __init__(
        self,
        name: str,
        options: KafkaOptions,
        partitions: dict[Lane, Partition],
        *,
        clock: Callable[[], float],
        commit: Callable[[], Awaitable[object]],
        fail: Callable[[Exception], None],
        changed: Callable[[], None],
    ) -> None:
        """`commit` is for what is settled, for the last time under a seat; `changed` is called
        when there is something to be told."""
        self.partitions = partitions
        self.seat = NO_SEAT
        self.revoking = False
        self._name = name
        self._options = options
        self._servers = ",".join(options.brokers)
        self._clock = clock
        self._commit = commit
        self._fail = fail
        self._changed = changed
        self._told: deque[Opened | Closing] = deque()
        self._leaving: set[Lane] = set()  # told to close, and not closed yet
        self._held: set[Lane] = set()  # ours again, while an earlier life of them is leaving
        self._left = asyncio.Event()
        self._ending = False
        self._lost_at: deque[float] = deque(maxlen=LOSSES_MAX)

    # -- for the source

    def listener(self, member: Member, begun: Callable[[], None]) -> ConsumerRebalanceListener:
        """What the client calls; `begun` is called each time that it has given us a seat."""
        return _Listener(self, member, begun)

    def told(self) -> Opened | Closing | None:
        """What has become of a lane, in order."""
        if not self._told:
            return None
        arrival = self._told.popleft()
        if isinstance(arrival, Opened):
            self.partitions[arrival.lane].opened = True
        return arrival

    def closed(self, lane: Lane) -> None:
        """All that will be settled of the lane has been."""
        self._leaving.discard(lane)
        self._left.set()
        if lane in self._held:
            self._held.discard(lane)
            self._told.append(Opened(lane))
            self._changed()

    def reopen(self, chosen: Mapping[Lane, Partition]) -> None:
        """Lanes that are closed by others open again, as soon as they have closed."""
        self._told = deque(one for one in self._told if one.lane not in chosen)
        for lane, one in chosen.items():
            one.opened = False
            self._leaving.add(lane)
            self._held.add(lane)

    def end(self) -> None:
        """No lane is waited for any more."""
        self._ending = True
        self._left.set()

    async def wait_given_away(self) -> None:
        while self.revoking:
            self._left.clear()
            await self._left.wait()

    # -- for the client

    async def assigned(
        self, member: Member, places: frozenset[TopicPartition], begun: Callable[[], None]
    ) -> None:
        seconds = min(BEGIN_SECONDS_MAX, self._options.session_timeout_seconds / 2)
        try:
            with anyio.fail_after(seconds):
                if await self._begin(member, places, seconds):
                    begun()
                    self._changed()
        except SeatLostError:
            return  # the client asks for another already
        except TimeoutError:
            late = f"{self._servers}: the offsets of the group were not had in {seconds:.0f} s"
            self._fail(Unreachable(late))
        except KafkaError as error:
            self._fail(translated(error, self._servers, known=True))
        except Exception as bug:  # noqa: BLE001 - the client would swallow it; the reader must not
            self._fail(bug)

    async def _begin(
        self, member: Member, places: frozenset[TopicPartition], seconds: float
    ) -> bool:
        seat = member.seat
        offsets = await member.offsets(sorted(places)) if places else {}
        if missing := sorted(places - offsets.keys()):
            offsets |= await first_offsets(missing, member, self._options, seat, seconds)
        if member.assigned != places or member.seat != seat:
            return False  # gone on meanwhile: it will be told anew
        self.seat, now = seat, self._clock()
        for place in sorted(places):
            lane = Lane(self._name, f"{place.topic}-{place.partition}")
            at, note = offsets[place].offset, offsets[place].metadata
            partition = Partition(place, lane, at, at, at, note, heard_at=now, moved_at=now)
            self.partitions[lane] = partition
            member.fetcher.watch(partition)
            if lane in self._leaving:
                self._held.add(lane)
            else:
                self._told.append(Opened(lane))
        return True

    async def revoked(self, member: Member) -> None:
        try:
            await self._give_away(member)
        except Exception as bug:  # noqa: BLE001 - the client would swallow it; the reader must not
            self._fail(bug)

    async def _give_away(self, member: Member) -> None:
        options, lost = self._options, member.seat != self.seat
        seconds = LOST_SECONDS if lost else options.drain_seconds
        self.revoking = True
        going = self._close_lanes(0.0 if lost else 0.9 * seconds)
        with anyio.move_on_after(seconds):
            while going & self._leaving and not self._ending:
                self._left.clear()
                await self._left.wait()
        if not lost:
            with anyio.move_on_after(min(COMMIT_SECONDS, 0.1 * options.rebalance_timeout_seconds)):
                await self._commit()
        self.partitions.clear()
        member.fetcher.forget()
        self.seat, self.revoking = NO_SEAT, False
        self._left.set()
        if lost:
            self._count_loss(self._clock())

    def _close_lanes(self, grace_seconds: float) -> set[Lane]:
        """Those that were opened; others never will be."""
        self._told = deque(one for one in self._told if isinstance(one, Closing))
        self._held.clear()
        going = {lane for lane, one in self.partitions.items() if one.opened}
        self._leaving |= going
        self._told.extend(Closing(lane, grace_seconds) for lane in going)
        self._changed()
        return going

    def _count_loss(self, now: float) -> None:
        """Two static members of one name put each other out for ever."""
        name, seats = self._options.instance_id, self._lost_at
        seats.append(now)
        within = LOSSES_MAX * 5 * self._options.heartbeat_seconds
        if name and len(seats) == LOSSES_MAX and now - seats[0] < within:
            told = f"another member of group {self._options.group} has the instance name {name}"
            self._fail(Refused(f"{told}; each needs one of its own"))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the client asks for this class
    def __init__(self, assignment: Assignment, member: Member, begun: Callable[[], None]) -> None:
        self._assignment = assignment
        self._member = member
        self._begun = begun

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._assignment.assigned(self._member, frozenset(assigned), self._begun)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._assignment.revoked(self._member)

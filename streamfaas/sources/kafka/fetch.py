"""Fetch replies as they come: aiokafka's fetcher, made to hand over whole batches unopened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition, errors
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher
from aiokafka.errors import KafkaError

from streamfaas.flow.record import Lane
from streamfaas.sources.kafka.records import Scan, scan

FETCH_BYTES_MAX = 128 * 1024 * 1024
"""The largest batch that is ever asked for."""

REPLY_FETCHES = 16
"""How many partitions' worth of bytes one reply may hold."""

FRESH_SECONDS = 0.1
"""How long a node waits for what it has answered to be taken, so that the next request can be for
all of its partitions together."""

HURRIED_MS = 20
HURRIED_SECONDS = 1.0
"""While a reply of this age waits to be taken, no broker is asked to wait for longer than that."""

REST_SECONDS = 0.1
"""How long a partition rests after it was answered with an error."""


@dataclass(slots=True, eq=False)
class Partition:
    """A partition that is ours. `expected` is the offset that is handed over next, `settled` the
    one that may be committed, `committed` the one that has been, `note` the text kept with it.

    `end` is one past the last offset that may be read, `heard_at` when a broker last answered for
    it, `moved_at` when it was last seen to have no reason to be stuck.
    """

    place: TopicPartition
    lane: Lane
    expected: int
    settled: int
    committed: int
    note: str
    heard_at: float
    moved_at: float
    opened: bool = False
    end: int | None = None
    damaged_at: int = -1
    blocked: str = ""
    trouble: str = ""


class Reply:
    """What a broker answered for one partition, waiting to be taken."""

    __slots__ = ("assignment", "came_at", "partition", "position", "scan", "waits_for")

    def __init__(
        self, assignment: Any, partition: Partition, found: Scan, came_at: float, waits_for: Waits
    ) -> None:
        self.assignment = assignment
        self.partition = partition
        self.position = partition.expected
        self.scan = found
        self.came_at = came_at
        self.waits_for = waits_for

    def calculate_backoff(self) -> float:
        """Asked by the library: for how long the node gets no request, so that its next one can be
        for this partition as well."""
        return self.waits_for(self)


Waits = Callable[[Reply], float]


class Stop:
    """Stands where a reply would: nothing is asked for the partition until `until`, or for good.
    `lost` where it stands outside of what the log still holds."""

    __slots__ = ("lost", "until")

    def __init__(self, until: float | None = None, *, lost: bool = False) -> None:
        self.until = until
        self.lost = lost

    def calculate_backoff(self) -> float:
        """Asked by the library: the node's other partitions go on."""
        return 0.0


class RawFetcher(Fetcher):  # type: ignore[misc] # the library is untyped
    """Does all that the library's fetcher does up to a reply, and nothing of what follows: bytes
    are not decoded, no position moves but by `take` and `seek`, and no record is stepped over.

    An answer that cannot be used stops its own partition and no other: `Stop` lies in its place.
    """

    def __init__(
        self,
        client: Any,
        subscriptions: Any,
        clock: Callable[[], float],
        on_arrival: Callable[[], None],
        **options: Any,
    ) -> None:
        self._clock = clock
        self._on_arrival = on_arrival
        self._partitions: dict[TopicPartition, Partition] = {}
        self._enlarged_for: TopicPartition | None = None
        self._fetch_bytes: int = options["max_partition_fetch_bytes"]
        self._wait_ms: int = options["fetch_max_wait_ms"]
        self.ready: Collection[Lane] = ()
        """Lanes that take what comes."""
        self.troubles: dict[int, tuple[float, KafkaError]] = {}
        """Nodes that do not answer: since when, and why."""
        super().__init__(
            client, subscriptions, check_crcs=False, auto_offset_reset="none", **options
        )
        self._fetch_max_bytes = REPLY_FETCHES * self._fetch_bytes

    # -- for the source

    def watch(self, partition: Partition) -> None:
        """The partition is ours, and is read from its expected offset on."""
        self._partitions[partition.place] = partition
        self._subscriptions.seek(partition.place, partition.expected)

    def forget(self) -> None:
        self._partitions.clear()
        self.troubles.clear()

    def waiting(self) -> Iterator[Partition]:
        """Partitions with a reply to be taken, the longest waiting first."""
        for place, found in self._records.items():
            if type(found) is Reply and place in self._partitions:
                yield self._partitions[place]

    def replied(self, partition: Partition) -> bool:
        """Whether a reply waits to be taken."""
        return type(self._records.get(partition.place)) is Reply

    def lost(self) -> list[Partition]:
        """Partitions whose expected offset the log does not hold."""
        return [
            self._partitions[place]
            for place, found in self._records.items()
            if type(found) is Stop and found.lost and place in self._partitions
        ]

    def take(self, partition: Partition) -> Scan | None:
        """The reply that waits, if it is still what follows."""
        reply = self._records.pop(partition.place, None)
        self._notify(self._wait_consume_future)
        if type(reply) is not Reply or not reply.assignment.active:
            return None
        state = reply.assignment.state_value(partition.place)
        if reply.position != partition.expected or state.position != reply.position:
            return None
        partition.expected = reply.scan.next_position
        state.consumed_to(reply.scan.next_position)
        return reply.scan

    def seek(self, partition: Partition, position: int) -> None:
        """Reads on from a position, and drops what has come of the partition."""
        partition.expected, partition.blocked, partition.damaged_at = position, "", -1
        subscription = self._subscriptions.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is not None and assignment.active and partition.place in assignment.tps:
            self.seek_to(partition.place, position)

    def revive(self, now: float) -> None:
        """Lets partitions go on that have rested."""
        rested = [
            place
            for place, found in self._records.items()
            if type(found) is Stop and found.until is not None and found.until <= now
        ]
        for place in rested:
            del self._records[place]
        if rested:
            self._notify(self._wait_consume_future)

    # -- for the library

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        try:
            try:
                response = await self._client.send(node_id, request)
            except KafkaError as error:
                self.troubles.setdefault(node_id, (self._clock(), error))
                await asyncio.sleep(self._retry_backoff)
                return False
        except asyncio.CancelledError:  # as the library has it: nobody waits for this answer
            return False
        self.troubles.pop(node_id, None)
        if assignment.active:
            self._take_in(assignment, request, response)
        return False

    def _get_actions_per_node(self, assignment: Any) -> Any:
        # a lane whose reply has not been taken yet is about to want more, and its node can be
        # asked for that only once it has answered what it is asked for now
        recent = self._clock() - HURRIED_SECONDS
        hurried = any(type(one) is Reply and one.came_at > recent for one in self._records.values())
        self._fetch_max_wait_ms = min(HURRIED_MS, self._wait_ms) if hurried else self._wait_ms
        return super()._get_actions_per_node(assignment)

    async def _update_fetch_positions(
        self, assignment: Any, node_id: int, tps: list[TopicPartition]
    ) -> bool:
        """Only the source says where a partition begins; until it has, there is nothing to do."""
        begun = [assignment.state_value(place).wait_for_position() for place in tps]
        try:
            await asyncio.wait(
                [*begun, assignment.unassign_future], return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            pass
        finally:
            for position in begun:
                position.cancel()
        return False

    def _take_in(self, assignment: Any, request: Any, response: Any) -> None:
        asked = {
            TopicPartition(topic, number): offset
            for topic, parts in request.topics
            for number, offset, _ in parts
        }
        for topic, parts in response.topics:
            for number, code, highwater, *rest in parts:
                place = TopicPartition(topic, number)
                partition, state = self._partitions.get(place), assignment.state_value(place)
                if partition is None or state is None or place in self._records:
                    continue
                position = asked.get(place)
                if not state.has_valid_position or state.position != position:
                    continue  # the source has gone elsewhere meanwhile
                kind = errors.for_code(code)
                if kind is errors.NoError:
                    self._take_one(assignment, partition, highwater, response.API_VERSION, rest)
                else:
                    self._answered_with(partition, kind)
        self._on_arrival()

    def _take_one(
        self, assignment: Any, partition: Partition, highwater: int, version: int, rest: list[Any]
    ) -> None:
        # after the highwater mark: last stable offset (from version 4), log start (5), aborted
        # transactions (4), preferred replica (11), and always last the batches
        stable = rest[0] if version >= 4 else -1
        aborted = rest[2] if version >= 11 else rest[-2] if version >= 4 else None
        committed_only = self._isolation_level == READ_COMMITTED
        partition.heard_at, partition.trouble = self._clock(), ""
        partition.end = stable if committed_only and stable >= 0 else highwater
        found = scan(
            rest[-1] or b"",
            partition.expected,
            partition.lane.name,
            (aborted or ()) if committed_only else None,
        )
        if found.next_position > partition.expected:
            self._records[partition.place] = Reply(
                assignment, partition, found, self._clock(), self._patience
            )
            self._enlarged(partition.place, None)
        elif found.needed_bytes:
            self._enlarge(partition, found.needed_bytes)
        elif found.damage:
            self._damaged(partition, found.damage)

    def _patience(self, reply: Reply) -> float:
        if reply.partition.lane not in self.ready:
            return 0.0  # the lane takes nothing now: others are not to wait for it
        return max(0.0, reply.came_at + FRESH_SECONDS - self._clock())

    def _answered_with(self, partition: Partition, kind: type[KafkaError]) -> None:
        partition.trouble = kind.__name__
        if kind is errors.OffsetOutOfRangeError:
            self._records[partition.place] = Stop(lost=True)
            return
        if kind is not errors.TopicAuthorizationFailedError:
            # the leader has moved, as a rule; where it has not, asking again does no harm
            self._client.force_metadata_update()
        self._records[partition.place] = Stop(self._clock() + REST_SECONDS)

    def _damaged(self, partition: Partition, damage: str) -> None:
        """Once it may have been the transfer; twice it is the log."""
        if partition.damaged_at != partition.expected:
            partition.damaged_at = partition.expected
            self._records[partition.place] = Stop(self._clock() + REST_SECONDS)
            return
        partition.blocked = f"damaged in the log itself: {damage}"
        self._records[partition.place] = Stop()

    def _enlarge(self, partition: Partition, needed_bytes: int) -> None:
        """Asks for more, since a broker gave only a part of a batch; it is never stepped over."""
        size = max(needed_bytes, 2 * self._max_partition_fetch_bytes)
        if self._enlarged_for != partition.place:
            size = needed_bytes
        if size > FETCH_BYTES_MAX:
            partition.blocked = (
                f"the batch at offset {partition.expected} has {needed_bytes:,} bytes, and is not "
                f"given whole by fetches of up to {FETCH_BYTES_MAX:,}"
            )
            self._records[partition.place] = Stop()
            self._enlarged(partition.place, None)
        else:
            self._enlarged(partition.place, size)

    def _enlarged(self, place: TopicPartition, size: int | None) -> None:
        """Sets the size of fetches for the sake of a partition; None: it is content again."""
        if size is None and self._enlarged_for != place:
            return
        self._enlarged_for = None if size is None else place
        self._max_partition_fetch_bytes = size or self._fetch_bytes
        self._fetch_max_bytes = max(REPLY_FETCHES * self._fetch_bytes, size or 0)

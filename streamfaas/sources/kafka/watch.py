"""How a Kafka source stands: what troubles it, what blocks a lane, and when nothing moves."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

import anyio
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streamfaas.flow.errors import Refused, Unreachable, WorldError
from streamfaas.sources.kafka.fetch import Partition
from streamfaas.sources.kafka.member import Member
from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.telemetry.signals import Emit, SourceChanged
from streamfaas.wire.kafka import translated

PATIENCE_SECONDS = 1.0
"""A trouble that passes sooner is not told."""

WAITING_SECONDS = 3.0
"""A group that has not assigned anything for so long is told of."""

EXPLAIN_SECONDS = 2.0
"""How long the ends of a log may take to be asked for."""


class Watch:
    """Looks at a member and its partitions again and again, and says it once when they change.

    `state` and `reason` are the worst that can be said at the moment. A source that stands still
    though there is something to read ends with `Unreachable`: it is to be made anew.
    """

    def __init__(
        self,
        name: str,
        options: KafkaOptions,
        member: Member,
        clock: Callable[[], float],
        emit: Emit,
    ) -> None:
        self.state, self.reason = "connecting", _waiting(options)
        self._name = name
        self._options = options
        self._servers = ",".join(options.brokers)
        self._member = member
        self._clock = clock
        self._emit = emit
        self._seated_at = clock()
        self._waited = False
        self._uncommitted: tuple[float, str] | None = None  # since when, and why

    def look(self, partitions: Collection[Partition], *, revoking: bool, seated: bool) -> None:
        """`seated`: we have a seat that records may be committed under. While partitions are being
        given away nothing has to move."""
        now = self._clock()
        denied = TopicAuthorizationFailedError.__name__
        forbidden = [one.place.topic for one in partitions if one.trouble == denied]
        forbidden += filter(self._member.forbidden, self._options.topics)
        if forbidden:
            raise Refused(f"{self._servers}: no permission for topic {forbidden[0]}")
        for partition in partitions:
            self._look_at(partition, now, revoking=revoking)
        if (seated and self._member.seated) or revoking:
            self._seated_at = now
        unseated = now - self._seated_at
        if unseated > self._options.rebalance_timeout_seconds + self._options.stall_seconds:
            self._stalled(f"group {self._options.group} has not settled for {unseated:.0f} s")
        if worst := self._worst(partitions, now):
            self._tell("degraded", worst)
        elif seated:
            self._tell("running", "")
        elif self.state == "connecting" and unseated > WAITING_SECONDS and not self._waited:
            self._waited = True
            self._emit(SourceChanged(self._name, self.state, self.reason))

    def begun(self) -> None:
        """The group has given us a seat."""
        if self.state == "connecting":
            self._tell("running", "")

    def committed(self, trouble: WorldError | None) -> None:
        """How the last attempt at a commit went."""
        if trouble is None:
            self._uncommitted = None
        else:
            since = self._clock() if self._uncommitted is None else self._uncommitted[0]
            self._uncommitted = (since, f"nothing can be committed: {trouble}")

    async def explain_losses(self) -> None:
        """Says exactly what a partition has lost, and how to go on without it."""
        for partition in self._member.fetcher.lost():
            if partition.blocked:
                continue
            # where nobody answers it is asked again; that nobody does is told by others
            with anyio.move_on_after(EXPLAIN_SECONDS), suppress(KafkaError):
                places = [partition.place]
                firsts = await self._member.starts(places, "earliest", EXPLAIN_SECONDS)
                ends = await self._member.starts(places, "latest", EXPLAIN_SECONDS)
                first, end = firsts[partition.place], ends[partition.place]
                if first <= partition.expected <= end:  # a leader that did not know better yet
                    self._member.fetcher.seek(partition, partition.expected)
                else:
                    partition.blocked = self._loss(partition, first, end)

    def _loss(self, partition: Partition, first: int, end: int) -> str:
        at = partition.expected
        if at < first:
            told = f"the records at {at}..{first - 1} are gone: the log now begins at {first}"
        else:
            told = (
                f"the group stands at {at}, but the log ends at {end}: it may have been made anew"
            )
        remedy = f"streamfaas seek {self._name} --to {first} --partition {partition.lane.name}"
        return f"{told}. To go on without them: {remedy}"

    def _look_at(self, partition: Partition, now: float, *, revoking: bool) -> None:
        if partition.end is not None and partition.end <= partition.expected:
            partition.moved_at = max(partition.moved_at, partition.heard_at)
        fetcher = self._member.fetcher
        waits_for_us = (
            revoking
            or bool(partition.blocked)
            or not partition.opened
            or partition.lane not in fetcher.ready
            or fetcher.replied(partition)
        )
        if waits_for_us:
            partition.moved_at = now
        if now - partition.moved_at > self._options.stall_seconds:
            for_seconds = f"for {now - partition.moved_at:.0f} s"
            if now - partition.heard_at > self._options.stall_seconds:
                self._stalled(f"no broker has answered for {partition.lane.name} {for_seconds}")
            lag = (partition.end or partition.expected) - partition.expected
            self._stalled(f"{partition.lane.name} has not moved {for_seconds}, {lag} behind")

    def _stalled(self, reason: str) -> None:
        self._emit(SourceChanged(self._name, "rebuilt", f"stalled: {reason}"))
        raise Unreachable(f"stalled: {reason}")

    def _worst(self, partitions: Collection[Partition], now: float) -> str:
        member = self._member
        leaders = {member.leader(one.place) for one in partitions}
        for node, (since, error) in member.fetcher.troubles.items():
            if node in leaders and now - since > PATIENCE_SECONDS:
                return str(translated(error, member.address(node), known=True))
        if self._uncommitted is not None and now - self._uncommitted[0] > PATIENCE_SECONDS:
            return self._uncommitted[1]
        for topic in self._options.topics:
            if not member.partitions(topic) and member.seated:
                return f"there is no topic {topic}"
        for partition in partitions:
            if partition.blocked:
                return f"{partition.lane.name} is blocked: {partition.blocked}"
        return ""

    def _tell(self, state: str, reason: str) -> None:
        before, self.state, self.reason = (self.state, self.reason), state, reason
        if before != (state, reason):
            self._emit(SourceChanged(self._name, state, reason))


def _waiting(options: KafkaOptions) -> str:
    """Why nothing is assigned yet, and what would help."""
    text = f"waiting for group {options.group} to assign partitions"
    if options.instance_id is None:
        seconds = f"{options.session_timeout_seconds:g} s"
        text += f"; after a crash it waits up to {seconds} for the one before (`instance` helps)"
    return text

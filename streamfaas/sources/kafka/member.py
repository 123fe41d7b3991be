"""One member of a consumer group: its connections, its seat, and the offsets it commits."""
# ruff: noqa: SLF001 - the library has no other door to its parts; `_check_library` watches it

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import aiokafka
import anyio
from aiokafka import TopicPartition, errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from streamfaas.flow.errors import Refused
from streamfaas.sources.kafka.fetch import RawFetcher
from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.wire.kafka import Client

COMMIT_SECONDS = 5.0
"""How long one commit may take, and how long the last one is tried for."""

RETRY_SECONDS = 0.1
STOP_SECONDS = 2.0
"""How long each part of the client may take to end by itself."""

NEVER_MS = (1 << 31) - 1

Offsets = Mapping[TopicPartition, OffsetAndMetadata]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seat:
    """Who we are in the group. A commit carries the seat that its records were read under: a
    broker refuses those of a seat that has been given away."""

    generation: int
    member: str

    @property
    def taken(self) -> bool:
        return self.generation > 0 and bool(self.member)


class SeatLostError(Exception):
    """The group has gone on without us: nothing of this seat may be committed any more."""


class Coordinator(GroupCoordinator):  # type: ignore[misc] # the library is untyped
    """Remembers answers that the library has no name for."""

    refused_with = 0

    async def _send_req(self, request: Any) -> Any:
        response = await super()._send_req(request)
        code = getattr(response, "error_code", 0)
        if code in _NAMELESS:
            self.refused_with = code
        return response


class Member:
    """What the library calls a consumer, put together from the same parts: with a fetcher of ours,
    commits that carry their own seat, and offsets that are not taken for absent while a
    coordinator is still loading them."""

    def __init__(
        self,
        options: KafkaOptions,
        connection: dict[str, Any],
        clock: Callable[[], float],
        on_arrival: Callable[[], None],
    ) -> None:
        _check_library()
        self._options = options
        self._client = Client(
            bootstrap_servers=list(options.brokers),
            client_id=options.client_id,
            metadata_max_age_ms=_ms(options.metadata_seconds),
            request_timeout_ms=_ms(options.request_timeout_seconds),
            retry_backoff_ms=_ms(RETRY_SECONDS),
            connections_max_idle_ms=None,
            **connection,
        )
        self._subscription = SubscriptionState()
        # there is no poll: a member that has no partitions, or waits for slow functions, is
        # alive as long as its heartbeats are
        self._polling = self._subscription.fetch_context()
        self._polling.__enter__()
        self.fetcher = RawFetcher(
            self._client,
            self._subscription,
            clock,
            on_arrival,
            fetch_max_wait_ms=_ms(options.fetch_wait_seconds),
            max_partition_fetch_bytes=options.fetch_bytes,
            retry_backoff_ms=_ms(RETRY_SECONDS),
            isolation_level=options.isolation_level,
        )
        self._coordinator: Any = None

    # -- life

    async def open(self, listener: ConsumerRebalanceListener) -> None:
        await self._client.bootstrap()
        options = self._options
        self._coordinator = Coordinator(
            self._client,
            self._subscription,
            group_id=options.group,
            group_instance_id=options.instance_id,
            session_timeout_ms=_ms(options.session_timeout_seconds),
            heartbeat_interval_ms=_ms(options.heartbeat_seconds),
            rebalance_timeout_ms=_ms(options.rebalance_timeout_seconds),
            retry_backoff_ms=_ms(RETRY_SECONDS),
            enable_auto_commit=False,
            assignors=(RangePartitionAssignor,),
            max_poll_interval_ms=NEVER_MS,
        )
        if options.pattern is None:
            topics = set(options.topics)
            self._subscription.subscribe(topics=topics, listener=listener)
            self._client.set_topics(topics)
        else:
            whole = re.compile(rf"(?:{options.pattern})\Z")
            self._subscription.subscribe_pattern(pattern=whole, listener=listener)
            self._client.set_topics([])

    async def close(self) -> None:
        """Leaves the group (a static member keeps its seat) and ends every task and connection,
        the stubborn ones by force."""
        for part in (self._coordinator, self.fetcher):
            if part is not None:
                with anyio.move_on_after(STOP_SECONDS), suppress(KafkaError, OSError):
                    await part.close()
        tasks = [task for task in self._tasks() if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # has been told already, if it mattered
        await self._client.close()  # now that nobody is left who would connect again
        self._polling.__exit__(None, None, None)

    def check(self) -> None:
        """Raises what has ended a part of the client, or what it wants somebody to know."""
        if self._coordinator is not None:
            if code := self._coordinator.refused_with:
                raise Refused(_NAMELESS[code].format(self._options))
            self._coordinator.check_errors()
        for task in (self.fetcher.error_future, self._client._sync_task):
            if task is not None and task.done() and not task.cancelled():
                error = task.exception()
                raise KafkaError("a part of the client has ended") from error

    def _tasks(self) -> list[asyncio.Task[Any] | None]:
        fetcher, coordinator = self.fetcher, self._coordinator
        found = [fetcher._fetch_task, *fetcher._pending_tasks, self._client._sync_task]
        if coordinator is not None:
            found += [
                coordinator._coordination_task,
                coordinator._heartbeat_task,
                coordinator._commit_refresh_task,
            ]
        found += [connection._read_task for connection in self._client._conns.values()]
        return found

    # -- the group

    @property
    def seat(self) -> Seat:
        coordinator = self._coordinator
        return Seat(coordinator.generation, coordinator.member_id)

    @property
    def seated(self) -> bool:
        """Whether the group stands still, with us in it and its coordinator in reach."""
        subscription = self._subscription.subscription
        return (
            self.reachable
            and self.seat.taken
            and subscription is not None
            and subscription.assignment is not None
            and not self._subscription.reassignment_in_progress
        )

    @property
    def reachable(self) -> bool:
        return self._coordinator is not None and self._coordinator.coordinator_id is not None

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        return frozenset(self._subscription.assigned_partitions())

    # -- the cluster

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0: there is no such topic."""
        return len(self._client.cluster.partitions_for_topic(topic) or ())

    def forbidden(self, topic: str) -> bool:
        return topic in self._client.cluster.unauthorized_topics

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(self._subscription.topics)

    def leader(self, place: TopicPartition) -> int | None:
        found: int | None = self._client.cluster.leader_for_partition(place)
        return found

    def address(self, node_id: int) -> str:
        broker = self._client.cluster.broker_metadata(node_id)
        return f"node {node_id}" if broker is None else f"{broker.host}:{broker.port}"

    def addresses(self) -> list[str]:
        return sorted(f"{one.host}:{one.port}" for one in self._client.cluster.brokers())

    # -- offsets

    async def offsets(self, places: Sequence[TopicPartition] | None) -> dict[TopicPartition, Any]:
        """What the group has committed (None: of everything), absent where it has nothing."""

        async def ask() -> dict[TopicPartition, Any]:
            asked = None if places is None else _by_topic(dict.fromkeys(places))
            request = OffsetFetchRequest(self._options.group, asked)
            return _read_offsets(await self._coordinator._send_req(request), self._coordinator)

        return await self._again(ask)

    async def starts(
        self, places: Sequence[TopicPartition], start: str | int, seconds: float
    ) -> dict[TopicPartition, int]:
        """The offsets that `earliest`, `latest` or a time in epoch milliseconds stands for."""
        milliseconds = _ms(seconds)
        if start == "earliest":
            return dict(await self.fetcher.beginning_offsets(places, milliseconds))
        ends: dict[TopicPartition, int] = await self.fetcher.end_offsets(places, milliseconds)
        if start == "latest":
            return dict(ends)
        at = await self.fetcher.get_offsets_by_times(dict.fromkeys(places, start), milliseconds)
        return {place: ends[place] if at[place] is None else at[place].offset for place in places}

    async def commit(self, offsets: Offsets, seat: Seat, *, patient: bool) -> Offsets:
        """Gives back what has been committed; of topics that are gone, nothing is. `SeatLostError`
        where the seat is no longer ours. Patient, it goes on until it has succeeded, and the
        caller brings the deadline; else a passing failure is raised as it comes."""

        async def ask() -> Offsets:
            if seat != self.seat:
                raise SeatLostError
            request = OffsetCommitRequest(
                self._options.group,
                seat.generation,
                seat.member,
                OffsetCommitRequest.DEFAULT_RETENTION_TIME,
                _by_topic({place: (one.offset, one.metadata) for place, one in offsets.items()}),
            )
            response = await self._coordinator._send_req(request)
            return self._committed(response, offsets, seat)

        return await (self._again(ask) if patient else ask())

    def _committed(self, response: Any, offsets: Offsets, seat: Seat) -> Offsets:
        done: dict[TopicPartition, OffsetAndMetadata] = {}
        failed: KafkaError | None = None
        for topic, parts in response.topics:
            for number, code in parts:
                place, kind = TopicPartition(topic, number), errors.for_code(code)
                if kind is errors.NoError:
                    done[place] = offsets[place]
                elif kind in _SEAT_LOST:
                    if seat == self.seat:
                        self._coordinator.reset_generation()
                    raise SeatLostError
                elif kind is errors.RebalanceInProgressError:
                    self._coordinator.request_rejoin()
                    failed = errors.GroupLoadInProgressError()  # ask again: it may pass, or not
                elif kind is not errors.UnknownTopicOrPartitionError:
                    if kind in _COORDINATOR_GONE:
                        self._coordinator.coordinator_dead()
                    failed = kind(self._options.group)
        if failed is not None:
            raise failed
        return done

    async def _again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Until it succeeds or fails for good; the caller brings the deadline."""
        while True:
            await self._coordinator.ensure_coordinator_known()
            try:
                return await ask()
            except KafkaError as error:
                if not error.retriable:
                    raise
            await anyio.sleep(RETRY_SECONDS)


def _read_offsets(response: Any, coordinator: Any) -> dict[TopicPartition, Any]:
    # from version 2 on an error of the whole answer stands apart, and the topics are empty then:
    # taking that for "no offset" would begin the group anew
    codes = [response.error_code] if response.API_VERSION >= 2 else []
    codes += [code for _, parts in response.topics for *_, code in parts]
    for kind in map(errors.for_code, codes):
        if kind is errors.NoError or kind is errors.UnknownTopicOrPartitionError:
            continue
        if kind in _COORDINATOR_GONE:
            coordinator.coordinator_dead()
        raise kind(coordinator.group_id)
    return {
        TopicPartition(topic, number): OffsetAndMetadata(offset, metadata or "")
        for topic, parts in response.topics
        for number, offset, metadata, _ in parts
        if offset >= 0
    }


def _by_topic(places: Mapping[TopicPartition, Any]) -> list[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {}
    for place, extra in places.items():
        one = place.partition if extra is None else (place.partition, *extra)
        found.setdefault(place.topic, []).append(one)
    return list(found.items())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


_NAMELESS = {
    81: "group {0.group} has as many members as its brokers allow (group.max.size)",
    82: "another member of group {0.group} has the instance name {0.instance_id}; each needs one "
    "of its own",
}
_SEAT_LOST = {errors.UnknownMemberIdError, errors.IllegalGenerationError}
_COORDINATOR_GONE = {
    errors.GroupCoordinatorNotAvailableError,
    errors.NotCoordinatorForGroupError,
    errors.RequestTimedOutError,
}

_LEANED_ON: tuple[tuple[Any, str], ...] = (
    (AIOKafkaClient._on_connection_closed, "self conn reason"),
    (AIOKafkaClient.send, "self node_id request group"),
    (AIOKafkaClient.set_topics, "self topics"),
    (AIOKafkaClient.force_metadata_update, "self"),
    (AIOKafkaConnection.close, "self reason exc"),
    (Fetcher._fetch_requests_routine, "self"),
    (Fetcher._get_actions_per_node, "self assignment"),
    (Fetcher._notify, "self future"),
    (Fetcher._proc_fetch_request, "self assignment node_id request"),
    (Fetcher._update_fetch_positions, "self assignment node_id tps"),
    (Fetcher.beginning_offsets, "self partitions timeout_ms"),
    (Fetcher.end_offsets, "self partitions timeout_ms"),
    (Fetcher.get_offsets_by_times, "self timestamps timeout_ms"),
    (Fetcher.seek_to, "self tp offset"),
    (GroupCoordinator._send_req, "self request"),
    (GroupCoordinator.check_errors, "self"),
    (GroupCoordinator.coordinator_dead, "self"),
    (GroupCoordinator.ensure_coordinator_known, "self"),
    (GroupCoordinator.request_rejoin, "self"),
    (GroupCoordinator.reset_generation, "self"),
    (SubscriptionState.fetch_context, "self"),
    (SubscriptionState.seek, "self tp offset"),
    (SubscriptionState.subscribe, "self topics listener"),
    (SubscriptionState.subscribe_pattern, "self pattern listener"),
    (OffsetFetchRequest.__init__, "self consumer_group partitions"),
    (
        OffsetCommitRequest.__init__,
        "self consumer_group consumer_group_generation_id consumer_id retention_time topics",
    ),
)
"""What of the library's inside is used, by the names of its parameters."""


def _check_library() -> None:
    """A version that has moved its inside is refused, rather than trusted with records."""
    for part, names in _LEANED_ON:
        found = " ".join(inspect.signature(part).parameters)
        if found != names:
            raise Refused(
                f"aiokafka {aiokafka.__version__} cannot be used: {part.__qualname__} takes "
                f"({found}) and not ({names}); install aiokafka>=0.14,<0.15"
            )

"""What a Kafka cluster shows of itself to whoever will read from it: asked, and nothing changed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from aiokafka import errors
from aiokafka.conn import collect_hosts
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from streamfaas.flow.errors import WorldError
from streamfaas.wire.kafka import Client, knock, reach, translated
from streamfaas.wire.kafka import connection as connection_options
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions

_GROUP_COORDINATOR = 0
_FETCH = 1
_NOT_YET = (errors.GroupCoordinatorNotAvailableError, errors.GroupLoadInProgressError)
_PATIENCE = 20
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Doors:
    """Who was knocked at: each address with the reason why it does not let us in, or none.
    `inside` are those that the cluster itself names, which a client goes on with."""

    given: Mapping[str, str]
    inside: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with the beginning and the end of each partition; or why it cannot be read."""

    name: str
    trouble: str = ""
    ends: Mapping[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group; `positions` by topic and partition. Without `may_read` nothing can be read
    by it; in `trouble`, not even that was told."""

    name: str
    trouble: str = ""
    members: int = 0
    may_read: bool = False
    positions: Mapping[tuple[str, int], int] = field(default_factory=dict)


class Survey:
    """One cluster, with the credentials that a daemon would use."""

    def __init__(self, client: Client, options: dict[str, Any], seconds: float) -> None:
        self._client = client
        self._options = options
        self._seconds = seconds

    async def doors(self, brokers: Sequence[str]) -> Doors:
        """Knocks at every address that is known."""
        given = {f"{host}:{port}": (host, port) for host, port, _ in collect_hosts(list(brokers))}
        inside = {f"{one.host}:{one.port}": (one.host, one.port) for one in self._brokers()}
        answers = await self._knocked(given | inside)
        return Doors(
            {each: answers[each] for each in given}, {each: answers[each] for each in inside}
        )

    async def versions(self) -> tuple[int, int]:
        """The oldest and the newest form of a fetch that a broker speaks."""
        node = self._client.get_random_node()
        made = await self._client._get_conn(node)  # noqa: SLF001 - nobody else is told
        return made._versions[_FETCH] if made is not None else (0, 0)  # noqa: SLF001

    async def matching(self, pattern: str) -> list[str]:
        """The topics whose whole names match."""
        wanted = re.compile(pattern)
        metadata = (await self._ask(MetadataRequest(None))).to_object()
        return sorted(
            each["topic"]
            for each in metadata["topics"]
            if not each["is_internal"] and wanted.fullmatch(each["topic"])
        )

    async def topic(self, name: str, *, read: bool = True) -> Topic:
        """Asks for the partitions; where it is to be `read`, fetches a little of it."""
        request = MetadataRequest([name], allow_auto_topic_creation=False)
        (seen,) = (await self._ask(request)).to_object()["topics"]
        if kind := _failure(seen["error_code"]):
            return Topic(name, _told(kind, name))
        leaders = {each["partition"]: each["leader"] for each in seen["partitions"]}
        lost = sorted(number for number, leader in leaders.items() if leader < 0)
        if lost:
            return Topic(name, f"partition {lost[0]} of {name} has no leader")
        try:
            ends = await self._ends(name, leaders) if read else dict.fromkeys(leaders, (0, 0))
            if read and leaders:
                await self._fetch(name, min(leaders), ends, leaders)
        except KafkaError as error:
            return Topic(name, _told(type(error), name))
        return Topic(name, ends=ends)

    async def group(self, name: str) -> Group:
        """Who is in it, how far it is, and whether we may read by it."""
        try:
            node = await self._coordinator(name)
            answer = await self._client.send(node, DescribeGroupsRequest([name]))
            (seen,) = answer.to_object()["groups"]
            _raise_for(seen["error_code"])
            committed = (await self._client.send(node, OffsetFetchRequest(name, None))).to_object()
            _raise_for(committed["error_code"])
            # who may not read by it may not show that it lives, either; nobody of that name does
            beat = await self._client.send(node, HeartbeatRequest(name, 0, "streamfaas-doctor"))
        except KafkaError as error:
            return Group(name, _told(type(error), f"group {name}"))
        return Group(
            name,
            members=len(seen["members"]),
            may_read=_failure(beat.error_code) is not errors.GroupAuthorizationFailedError,
            positions={
                (each["topic"], part["partition"]): part["offset"]
                for each in committed["topics"]
                for part in each["partitions"]
            },
        )

    # -- the questions

    async def _coordinator(self, group: str) -> int:
        """In a cluster where no group ever was, the first who asks has to wait for it."""
        for _ in range(_PATIENCE):
            try:
                node: int = await self._client.coordinator_lookup(_GROUP_COORDINATOR, group)
            except _NOT_YET:
                await anyio.sleep(_PAUSE_SECONDS)
            else:
                return node
        raise errors.GroupCoordinatorNotAvailableError

    def _brokers(self) -> list[Any]:
        return sorted(self._client.cluster.brokers(), key=lambda one: one.nodeId)

    async def _knocked(self, addresses: Mapping[str, tuple[str, int]]) -> dict[str, str]:
        answers: dict[str, str] = {}

        async def one(name: str, host: str, port: int) -> None:
            problem = await knock(host, port, self._options, self._seconds)
            answers[name] = "" if problem is None else str(problem)

        async with anyio.create_task_group() as tasks:
            for name, (host, port) in addresses.items():
                tasks.start_soon(one, name, host, port)
        return answers

    async def _ask(self, request: Any) -> Any:
        return await self._client.send(self._client.get_random_node(), request)

    async def _ends(self, topic: str, leaders: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        found: dict[int, list[int]] = {number: [] for number in leaders}
        for at in (OffsetResetStrategy.EARLIEST, OffsetResetStrategy.LATEST):
            for leader in set(leaders.values()):
                places = [(number, at) for number in leaders if leaders[number] == leader]
                request = OffsetRequest(-1, 0, [(topic, places)])
                (answer,) = (await self._client.send(leader, request)).to_object()["topics"]
                for part in answer["partitions"]:
                    _raise_for(part["error_code"])
                    found[part["partition"]].append(part["offset"])
        return {number: (first, end) for number, (first, end) in found.items()}

    async def _fetch(
        self,
        topic: str,
        number: int,
        ends: Mapping[int, tuple[int, int]],
        leaders: Mapping[int, int],
    ) -> None:
        """Reads what there is at the end, which is nothing: it is the permission that counts."""
        request = FetchRequest(0, 0, 1, 0, [(topic, [(number, ends[number][1], 1)])])
        answer = await self._client.send(leaders[number], request)
        for _, parts in answer.topics or ():
            for part in parts:
                _raise_for(part[1])


@contextlib.asynccontextmanager
async def surveying(
    brokers: Sequence[str],
    tls: TlsOptions | None,
    sasl: SaslOptions | None,
    *,
    clock: Callable[[], float],
    seconds: float,
) -> AsyncIterator[Survey]:
    """Connects, as a source would. A `WorldError` where nobody lets us in."""
    options = connection_options(tls, sasl, clock)
    await reach(brokers, options, seconds)
    client = Client(
        bootstrap_servers=list(brokers),
        client_id="streamfaas-doctor",
        request_timeout_ms=round(seconds * 1000),
        connections_max_idle_ms=None,
        **options,
    )
    try:
        with _translating(",".join(brokers)):
            await client.bootstrap()
            yield Survey(client, options, seconds)
    finally:
        await client.close()


@contextlib.contextmanager
def _translating(where: str) -> Any:
    try:
        yield
    except KafkaError as error:
        raise translated(error, where, known=True) from error


def _failure(code: int) -> type[KafkaError] | None:
    kind: type[KafkaError] = errors.for_code(code)
    return None if kind is errors.NoError else kind


def _raise_for(code: int) -> None:
    if kind := _failure(code):
        raise kind


def _told(kind: type[KafkaError], what: str) -> str:
    told: WorldError = translated(kind(), what)
    if kind is errors.UnknownTopicOrPartitionError:
        return f"there is no topic {what}"
    return str(told)

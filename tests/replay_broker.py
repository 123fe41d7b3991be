"""A Kafka broker that does as it is told: it serves what a test has put into it, or made-up data
as fast as it can, and fails on command.

In a test, on the test's own loop:

    async with ReplayBroker(nodes=2) as replay:
        log, *_ = replay.create("orders", partitions=2)
        log.append([b"one", b"two"])
        replay.fail(Api.FETCH, Code.NOT_LEADER, times=1, topic="orders")

As a program, `python tests/replay_broker.py PORT`, for benches: a topic is there as soon as it is
asked for, if its name says what it holds: `v200-p4-n1000000-b1000-zstd-h3` are four partitions of
a million records (of 200 bytes, a thousand a batch, zstd, three headers) each. Codec and headers
may be left out, and anything with a dot may stand before: `orders.v1000-p1-n50000-b100`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import uvloop

from replay.batches import Damage
from replay.faults import PLAIN, Drop, Faults, Manner, Place, Rule
from replay.group import Group, Join, Joined
from replay.log import Log, Loop, made_up
from replay.wire import (
    VERSIONS,
    Api,
    Code,
    Reader,
    array,
    blob,
    int8,
    int16,
    int32,
    int64,
    string,
)

__all__ = [
    "Api",
    "Code",
    "Commit",
    "Damage",
    "Drop",
    "Fetched",
    "Group",
    "Log",
    "ReplayBroker",
    "Rule",
]

HOST = "127.0.0.1"
_FRAME_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition of one answer to a fetch."""

    node: int
    topic: str
    partition: int
    offset: int
    served_bytes: int
    code: Code


@dataclass(frozen=True, slots=True)
class Commit:
    """One offset that somebody wanted to commit, and what was said to it."""

    group: str
    member: str
    generation: int
    topic: str
    partition: int
    offset: int
    code: Code


@dataclass(frozen=True, slots=True)
class Want:
    """What a fetch asks of a partition."""

    topic: str
    partition: int
    offset: int
    bytes_max: int


@dataclass(eq=False, slots=True)
class Call:
    """One request, and how to answer it. Handlers may answer later."""

    node: int
    api: Api
    version: int
    read: Reader
    answer: Callable[..., None]

    def place(self, **where: Any) -> Place:
        return Place(self.api, self.node, **where)


class ReplayBroker:
    """A cluster of pretend nodes in one process, and all that a test may do to it.

    `recording` keeps what was asked for in `fetches`, `commits` and `calls`. `versions` narrows
    what is spoken.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        port: int = 0,
        recording: bool = True,
        versions: Mapping[Api, tuple[int, int]] | None = None,
    ) -> None:
        self.topics: dict[str, Sequence[Log | Loop]] = {}
        self.groups: dict[str, Group] = {}
        self.committed: dict[tuple[str, str, int], int] = {}
        self.coordinator = 1
        self.calls: Counter[Api] = Counter()
        self.fetches: list[Fetched] = []
        self.commits: list[Commit] = []
        self.faults = Faults()
        self._recording = recording
        self._versions = {**VERSIONS, **(versions or {})}
        self._nodes = {number: Node(self, number, port) for number in range(1, nodes + 1)}
        self._waiting: dict[Call, Callable[[], None]] = {}
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._handlers: dict[Api, Callable[[Call], None]] = {
            Api.FETCH: self._fetch,
            Api.LIST_OFFSETS: self._list_offsets,
            Api.METADATA: self._metadata,
            Api.OFFSET_COMMIT: self._offset_commit,
            Api.OFFSET_FETCH: self._offset_fetch,
            Api.FIND_COORDINATOR: self._find_coordinator,
            Api.JOIN_GROUP: self._join_group,
            Api.HEARTBEAT: self._heartbeat,
            Api.LEAVE_GROUP: self._leave_group,
            Api.SYNC_GROUP: self._sync_group,
            Api.API_VERSIONS: self._api_versions,
        }

    async def __aenter__(self) -> Self:
        for node in self._nodes.values():
            await node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self._nodes.values():
            node.stop()
        for group in self.groups.values():
            group.close()
        self._waiting.clear()

    # -- what a test puts in

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{HOST}:{node.port}" for node in self._nodes.values())

    def create(self, topic: str, partitions: int = 1) -> list[Log]:
        """A topic of empty partitions, led by the nodes in turn."""
        numbers = list(self._nodes)
        logs = [Log(numbers[index % len(numbers)]) for index in range(partitions)]
        self.topics[topic] = logs
        return logs

    def add_partitions(self, topic: str, total: int) -> list[Log]:
        numbers = list(self._nodes)
        old = list(self.topics[topic])
        logs = [Log(numbers[index % len(numbers)]) for index in range(len(old), total)]
        self.topics[topic] = [*old, *logs]
        return logs

    def delete(self, topic: str) -> None:
        del self.topics[topic]

    def written(self) -> None:
        """Something was appended: fetches that wait for data look again."""
        for look in list(self._waiting.values()):
            look()

    # -- what a test does to it

    def fail(self, api: Api, code: Code, times: int | None = 1, **where: Any) -> Rule:
        """Answers with an error. `where` narrows it: node, group, topic, partition."""
        return self.faults.add_code(Rule(times, api, **where), code)

    def delay(self, api: Api | None, seconds: float, times: int | None = 1, **where: Any) -> Rule:
        """Answers late; the requests behind on the same connection wait, as on a real broker."""
        return self.faults.add_manner(Rule(times, api, **where), Manner(delay_seconds=seconds))

    def swallow(self, api: Api | None = None, times: int | None = None, **where: Any) -> Rule:
        """A black hole: never answers, and nothing that comes behind on the connection either."""
        return self.faults.add_manner(Rule(times, api, **where), Manner(silent=True))

    def drop(self, api: Api | None, when: Drop, times: int | None = 1, **where: Any) -> Rule:
        """Drops the connection."""
        return self.faults.add_manner(Rule(times, api, **where), Manner(drop=when))

    def drip(
        self, api: Api, size: int, seconds: float, times: int | None = 1, **where: Any
    ) -> Rule:
        """Answers in pieces of so many bytes, with a pause after each."""
        manner = Manner(drip_bytes=size, drip_seconds=seconds)
        return self.faults.add_manner(Rule(times, api, **where), manner)

    def damage(
        self, topic: str, partition: int, offset: int, kind: Damage, times: int | None = 1
    ) -> Rule:
        """Spoils the batch that holds the offset, whenever it is served."""
        rule = Rule(times, Api.FETCH, topic=topic, partition=partition)
        return self.faults.add_damage(rule, offset, kind)

    def heal(self) -> None:
        """No more faults."""
        self.faults.clear()

    def lead(self, topic: str, partition: int, node: int | None) -> None:
        """Makes another node the partition's leader; None: it has none for now."""
        log = self.topics[topic][partition]
        log.leader = node
        log.epoch += 1
        self.written()

    def hang_up(self, node: int | None = None) -> None:
        """Drops the connections that stand, of one node or of all."""
        for one in self._nodes.values():
            if node in {None, one.number}:
                one.hang_up()

    async def stop_node(self, node: int) -> None:
        """Nobody listens there any more."""
        self._nodes[node].stop()

    async def start_node(self, node: int) -> None:
        """Listens again, on the same port."""
        await self._nodes[node].start()

    # -- what a test looks at

    def position(self, group: str, topic: str, partition: int = 0) -> int | None:
        """What the group has committed."""
        return self.committed.get((group, topic, partition))

    async def wait_until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until something holds; looked at after every request."""
        if true():
            return
        future = asyncio.get_running_loop().create_future()
        self._watchers.append((true, future))
        try:
            async with asyncio.timeout(seconds):
                await future
        finally:
            self._watchers.remove((true, future))

    # -- requests

    def serve(self, call: Call) -> None:
        if self._recording:
            self.calls[call.api] += 1
        self._handlers[call.api](call)
        if self._recording:
            self.look()

    def look(self) -> None:
        for true, future in self._watchers:
            if not future.done() and true():
                future.set_result(None)

    def _api_versions(self, call: Call) -> None:
        spoken = array(
            int16(a) + int16(low) + int16(high) for a, (low, high) in self._versions.items()
        )
        low, high = self._versions[Api.API_VERSIONS]
        if not low <= call.version <= high:
            call.answer(int16(Code.UNSUPPORTED_VERSION) + spoken)
            return
        code = self.faults.code(call.place())
        call.answer(int16(code) + spoken + (int32(0) if call.version >= 1 else b""))

    def _metadata(self, call: Call) -> None:
        asked = call.read.array(call.read.text)
        everything = asked is None or (call.version == 0 and not asked)
        topics = list(self.topics) if everything else asked
        nodes = array(
            int32(node.number)
            + string(HOST)
            + int32(node.port)
            + (string(None) if call.version >= 1 else b"")
            for node in self._nodes.values()
            if node.listening
        )
        call.answer(
            int32(0) if call.version >= 3 else b"",
            nodes,
            string("replay") if call.version >= 2 else b"",
            int32(self.coordinator) if call.version >= 1 else b"",
            array(self._about(call, topic) for topic in topics or ()),
        )

    def _about(self, call: Call, topic: str) -> bytes:
        logs = self._logs(topic)
        code = self.faults.code(call.place(topic=topic))
        if logs is None:
            code = code or Code.UNKNOWN_TOPIC_OR_PARTITION
        parts = () if code else enumerate(logs or ())
        return (
            int16(code)
            + string(topic)
            + (int8(0) if call.version >= 1 else b"")
            + array(
                int16(Code.NONE if log.leader else Code.LEADER_NOT_AVAILABLE)
                + int32(partition)
                + int32(log.leader or -1)
                + array(int32(node) for node in self._nodes)
                + array(int32(node) for node in self._nodes)
                + (array(()) if call.version >= 5 else b"")
                for partition, log in parts
            )
        )

    def _logs(self, topic: str) -> Sequence[Log | Loop] | None:
        if topic not in self.topics and (logs := made_up(topic, list(self._nodes))):
            self.topics[topic] = logs
        return self.topics.get(topic)

    def _log(self, call: Call, topic: str, partition: int) -> Log | Loop | Code:
        """The partition, or why it is not to be had at this node."""
        code = self.faults.code(call.place(topic=topic, partition=partition))
        logs = self._logs(topic)
        if code:
            return code
        if logs is None or partition >= len(logs):
            return Code.UNKNOWN_TOPIC_OR_PARTITION
        log = logs[partition]
        return log if log.leader == call.node else Code.NOT_LEADER

    def _list_offsets(self, call: Call) -> None:
        read = call.read
        read.int32()  # replica
        committed = bool(read.int8()) if call.version >= 2 else False

        def offset(topic: str, partition: int, timestamp: int) -> bytes:
            log = self._log(call, topic, partition)
            if isinstance(log, Code):
                return int32(partition) + int16(log) + int64(-1) + int64(-1)
            latest = (-1, log.stable if committed else log.end)
            found = {-1: latest, -2: (-1, log.start)}.get(timestamp) or log.at_time(timestamp)
            return int32(partition) + int16(Code.NONE) + int64(found[0]) + int64(found[1])

        asked = read.items(lambda: (read.text(), read.items(lambda: (read.int32(), read.int64()))))
        call.answer(
            int32(0) if call.version >= 2 else b"",
            array(
                string(topic) + array(offset(topic, *part) for part in parts)
                for topic, parts in asked
            ),
        )

    # -- fetch

    def _fetch(self, call: Call) -> None:
        read = call.read
        read.int32()  # replica
        wait_seconds = read.int32() / 1000
        read.int32()  # bytes at least: one is enough
        bytes_max = read.int32()
        committed = bool(read.int8())
        if call.version >= 7:
            read.int32(), read.int32()  # session id and epoch: sessions are not kept
        wants = read.items(lambda: (read.text(), read.items(lambda: self._want(call))))
        flat = [Want(topic, *part) for topic, parts in wants for part in parts]
        timer = asyncio.get_running_loop().call_later(wait_seconds, lambda: look(late=True))

        def look(*, late: bool = False) -> None:
            parts, said = self._fetched(call, flat, bytes_max, committed=committed)
            if not said and not late:
                self._waiting[call] = look
                return
            self._waiting.pop(call, None)
            timer.cancel()
            call.answer(*parts)

        look()

    def _want(self, call: Call) -> tuple[int, int, int]:
        read = call.read
        partition = read.int32()
        if call.version >= 9:
            read.int32()  # the leader epoch that the client knows
        offset = read.int64()
        if call.version >= 5:
            read.int64()  # log start, which only followers send
        return partition, offset, read.int32()

    def _fetched(
        self, call: Call, wants: Sequence[Want], bytes_max: int, *, committed: bool
    ) -> tuple[list[bytes], bool]:
        """The parts of an answer, and whether there is anything in it."""
        room, said = bytes_max, False
        answers: list[tuple[Want, list[bytes]]] = []
        for want in wants:
            log = self._log(call, want.topic, want.partition)
            data = b""
            if isinstance(log, Code):
                code = log
            elif not log.start <= want.offset <= log.end:
                code = Code.OFFSET_OUT_OF_RANGE
            else:
                code = Code.NONE
                limit = log.stable if committed else log.end
                # one batch in full, however large, but only the first of an answer
                data = log.read(want.offset, min(want.bytes_max, room), limit, whole=not said)
                if data and self.faults:
                    place = call.place(topic=want.topic, partition=want.partition)
                    data = self.faults.spoil(data, place)
            room = max(room - len(data), 0)
            said = said or bool(data or code)
            answers.append((want, self._part(call, want, log, code, data, committed=committed)))
            if self._recording and (data or code):
                self.fetches.append(
                    Fetched(call.node, want.topic, want.partition, want.offset, len(data), code)
                )
        return self._frame(call, answers), said

    def _part(
        self,
        call: Call,
        want: Want,
        log: Log | Loop | Code,
        code: Code,
        data: bytes,
        *,
        committed: bool,
    ) -> list[bytes]:
        """One partition's answer; the data stand alone, so that they are not copied."""
        known = not isinstance(log, Code)
        head = int32(want.partition) + int16(code) + int64(log.end if known else -1)
        head += int64(log.stable if known else -1)
        if call.version >= 5:
            head += int64(log.start if known else -1)
        if committed and known:
            aborted = log.aborted(want.offset, log.stable)
            head += array(int64(producer) + int64(first) for producer, first in aborted)
        else:
            head += int32(-1)
        if call.version >= 11:
            head += int32(-1)  # no replica nearby
        return [head + int32(len(data)), data]

    def _frame(self, call: Call, answers: Sequence[tuple[Want, list[bytes]]]) -> list[bytes]:
        topics: dict[str, list[list[bytes]]] = {}
        for want, part in answers:
            topics.setdefault(want.topic, []).append(part)
        head = int32(0)
        if call.version >= 7:
            head += int16(Code.NONE) + int32(0)
        parts = [head + int32(len(topics))]
        for topic, found in topics.items():
            parts.append(string(topic) + int32(len(found)))
            for part in found:
                parts += part
        return parts

    # -- groups

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))

    def _find_coordinator(self, call: Call) -> None:
        group = call.read.text()
        code = self.faults.code(call.place(group=group))
        node = self._nodes[self.coordinator]
        call.answer(
            int32(0) if call.version >= 1 else b"",
            int16(code),
            string(None) if call.version >= 1 else b"",
            int32(-1 if code else node.number) + string(HOST) + int32(node.port),
        )

    def _group_code(self, call: Call, group: str) -> Code:
        """Why the group cannot be talked to at this node."""
        code = self.faults.code(call.place(group=group))
        return code or (Code.NONE if call.node == self.coordinator else Code.NOT_COORDINATOR)

    def _join_group(self, call: Call) -> None:
        read = call.read
        group = read.text()
        session = read.int32() / 1000
        rebalance = read.int32() / 1000 if call.version >= 1 else session
        member = read.text()
        instance = read.string() if call.version >= 5 else None
        read.text()  # the type: consumers
        protocols = tuple(read.items(lambda: (read.text(), read.blob())))

        def answer(joined: Joined) -> None:
            call.answer(
                int32(0) if call.version >= 2 else b"",
                int16(joined.code) + int32(joined.generation),
                string(joined.protocol) + string(joined.leader) + string(joined.member),
                array(
                    string(who) + (string(place) if call.version >= 5 else b"") + blob(metadata)
                    for who, place, metadata in joined.members
                ),
            )

        if code := self._group_code(call, group):
            answer(Joined(code, member))
            return
        said = Join(member, instance, session, rebalance, protocols)
        self.group(group).join(said, id_required=call.version >= 4, answer=answer)

    def _sync_group(self, call: Call) -> None:
        read = call.read
        group, generation, member = read.text(), read.int32(), read.text()
        if call.version >= 3:
            read.string()  # the instance
        assignments = dict(read.items(lambda: (read.text(), read.blob())))

        def answer(code: Code, assignment: bytes) -> None:
            call.answer(int32(0) if call.version >= 1 else b"", int16(code), blob(assignment))

        if code := self._group_code(call, group):
            answer(code, b"")
            return
        self.group(group).sync(member, generation, assignments, answer)

    def _heartbeat(self, call: Call) -> None:
        group, generation, member = call.read.text(), call.read.int32(), call.read.text()
        code = self._group_code(call, group) or self.group(group).heartbeat(member, generation)
        call.answer(int32(0) if call.version >= 1 else b"", int16(code))

    def _leave_group(self, call: Call) -> None:
        group, member = call.read.text(), call.read.text()
        code = self._group_code(call, group) or self.group(group).leave(member)
        call.answer(int32(0) if call.version >= 1 else b"", int16(code))

    def _offset_commit(self, call: Call) -> None:
        read = call.read
        group, generation, member = read.text(), read.int32(), read.text()
        read.int64()  # how long to keep it
        asked = read.items(
            lambda: (
                read.text(),
                read.items(lambda: (read.int32(), read.int64(), read.string())),
            )
        )
        at_all = Code.NONE if call.node == self.coordinator else Code.NOT_COORDINATOR
        at_all = at_all or self.group(group).may_commit(member, generation)

        def commit(topic: str, partition: int, offset: int) -> bytes:
            where = call.place(group=group, topic=topic, partition=partition)
            code = self.faults.code(where) or at_all
            if not code:
                self.committed[group, topic, partition] = offset
            if self._recording:
                self.commits.append(
                    Commit(group, member, generation, topic, partition, offset, code)
                )
            return int32(partition) + int16(code)

        call.answer(
            int32(0) if call.version >= 3 else b"",
            array(
                string(topic) + array(commit(topic, part, offset) for part, offset, _ in parts)
                for topic, parts in asked
            ),
        )

    def _offset_fetch(self, call: Call) -> None:
        read = call.read
        group = read.text()
        asked = read.array(lambda: (read.text(), read.items(read.int32)))
        if asked is None:
            kept: dict[str, list[int]] = {}
            for owner, topic, partition in self.committed:
                if owner == group:
                    kept.setdefault(topic, []).append(partition)
            asked = list(kept.items())
        at_all = Code.NONE if call.node == self.coordinator else Code.NOT_COORDINATOR

        def position(topic: str, partition: int) -> bytes:
            where = call.place(group=group, topic=topic, partition=partition)
            code = self.faults.code(where) or at_all
            offset = -1 if code else self.committed.get((group, topic, partition), -1)
            return int32(partition) + int64(offset) + string("") + int16(code)

        call.answer(
            int32(0) if call.version >= 3 else b"",
            array(
                string(topic) + array(position(topic, part) for part in parts)
                for topic, parts in asked
            ),
            int16(at_all) if call.version >= 2 else b"",
        )


@dataclass(eq=False, slots=True)
class Node:
    """One pretend node: a port of its own, and the connections to it."""

    broker: ReplayBroker
    number: int
    port: int
    connections: set[Connection] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.hang_up()

    def hang_up(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered before the next is looked at."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._busy = False

    def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio's by type
        transport.set_write_buffer_limits(high=64 * 1024 * 1024)
        self._transport = transport
        self._node.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._node.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._proceed()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _proceed(self) -> None:
        while not self._busy and len(self._buffer) >= 4 and self._transport is not None:
            (size,) = struct.unpack_from(">i", self._buffer)
            if not 0 <= size <= _FRAME_BYTES_MAX:
                self.abort()
                return
            if len(self._buffer) < 4 + size:
                return
            frame = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._busy = True
            self._receive(frame)

    def _receive(self, frame: bytes) -> None:
        read = Reader(frame)
        api, version, correlation = read.int16(), read.int16(), read.int32()
        read.string()  # the client's name
        broker = self._node.broker
        manner = PLAIN
        if broker.faults:
            manner = broker.faults.manner(Place(Api(api), self._node.number))
        if manner.silent:
            return
        if manner.drop is Drop.BEFORE:
            self.abort()
            return

        def answer(*parts: bytes) -> None:
            self._answer(manner, correlation, parts)

        call = Call(self._node.number, Api(api), version, read, answer)
        if manner.delay_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(manner.delay_seconds, broker.serve, call)
        else:
            broker.serve(call)

    def _answer(self, manner: Manner, correlation: int, parts: Sequence[bytes]) -> None:
        if self._transport is None:
            return
        size = 4 + sum(map(len, parts))
        written = [int32(size) + int32(correlation), *parts]
        match manner.drop:
            case Drop.UNANSWERED:
                self.abort()
                return
            case Drop.HALFWAY:
                whole = b"".join(written)
                self._transport.write(whole[: len(whole) // 2])
                self._transport.close()
                return
            case Drop.AFTER:
                self._transport.writelines(written)
                self._transport.close()
                return
        if manner.drip_bytes:
            self._drip(memoryview(b"".join(written)), manner)
            return
        self._transport.writelines(written)
        self._answered()

    def _drip(self, rest: memoryview, manner: Manner) -> None:
        if self._transport is None:
            return
        self._transport.write(rest[: manner.drip_bytes])
        if len(rest) <= manner.drip_bytes:
            self._answered()
            return
        asyncio.get_running_loop().call_later(
            manner.drip_seconds, self._drip, rest[manner.drip_bytes :], manner
        )

    def _answered(self) -> None:
        self._busy = False
        if self._buffer:
            # not from in here: who answers may be in the middle of something
            asyncio.get_running_loop().call_soon(self._proceed)


async def _serve(port: int, nodes: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with ReplayBroker(nodes, port=port, recording=False) as replay:
        print(f"ready {replay.bootstrap}", flush=True)
        await ended.wait()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int, help="0 takes a free one, and prints it")
    parser.add_argument("--nodes", type=int, default=1, help="more than one needs port 0")
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(options.port, options.nodes))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Numbers, texts and lists as Kafka's protocol writes them before its flexible versions."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

_INT16, _INT32, _INT64 = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")
T = TypeVar("T")


class Api(enum.IntEnum):
    """Requests by their key."""

    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18


VERSIONS = {
    Api.FETCH: (4, 11),
    Api.LIST_OFFSETS: (1, 3),
    Api.METADATA: (0, 5),
    Api.OFFSET_COMMIT: (2, 3),
    Api.OFFSET_FETCH: (1, 3),
    Api.FIND_COORDINATOR: (0, 1),
    Api.JOIN_GROUP: (0, 5),
    Api.HEARTBEAT: (0, 1),
    Api.LEAVE_GROUP: (0, 1),
    Api.SYNC_GROUP: (0, 3),
    Api.API_VERSIONS: (0, 2),
}
"""What is spoken: the versions of aiokafka 0.14, and those between them."""


class Code(enum.IntEnum):
    """Error codes."""

    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER = 6
    REQUEST_TIMED_OUT = 7
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    ILLEGAL_GENERATION = 22
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    UNSUPPORTED_VERSION = 35
    KAFKA_STORAGE_ERROR = 56
    MEMBER_ID_REQUIRED = 79
    FENCED_INSTANCE_ID = 82


class Reader:
    """Reads a request from its start to its end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int8(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def int16(self) -> int:
        self._at += 2
        return _INT16.unpack_from(self._data, self._at - 2)[0]

    def int32(self) -> int:
        self._at += 4
        return _INT32.unpack_from(self._data, self._at - 4)[0]

    def int64(self) -> int:
        self._at += 8
        return _INT64.unpack_from(self._data, self._at - 8)[0]

    def string(self) -> str | None:
        return None if (length := self.int16()) < 0 else self._take(length).decode()

    def text(self) -> str:
        """A string that must be there."""
        found = self.string()
        assert found is not None
        return found

    def blob(self) -> bytes:
        return self._take(max(self.int32(), 0))

    def array(self, read: Callable[[], T]) -> list[T] | None:
        return None if (length := self.int32()) < 0 else [read() for _ in range(length)]

    def items(self, read: Callable[[], T]) -> list[T]:
        """An array, null read as empty."""
        return self.array(read) or []

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]


int16, int32, int64 = _INT16.pack, _INT32.pack, _INT64.pack


def int8(value: int) -> bytes:
    return bytes([value])


def string(value: str | None) -> bytes:
    if value is None:
        return int16(-1)
    encoded = value.encode()
    return int16(len(encoded)) + encoded


def blob(value: bytes) -> bytes:
    return int32(len(value)) + value


def array(items: Iterable[bytes]) -> bytes:
    written = list(items)
    return int32(len(written)) + b"".join(written)

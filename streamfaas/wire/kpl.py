"""The aggregated records of the Kinesis Producer Library, taken apart: pure.

An aggregate is a magic number, a protobuf message (tables of partition keys and of explicit hash
keys, and records that name them by number) and the MD5 of that message, as the library's
aggregation-format.md describes. What is not exactly that is a record like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_VARINT_BYTES_MAX = 10


class UserRecord(NamedTuple):
    """A record as a producer put it, before it was put together with others."""

    partition_key: str
    explicit_hash_key: str | None
    data: bytes


class _Malformed(Exception):
    """It is no aggregate after all."""


def deaggregated(data: bytes) -> tuple[UserRecord, ...] | None:
    """The records in an aggregate, in their order; None where it is none, or is damaged: it is
    then handed on as it is, and nothing is dropped."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST_BYTES:
        return None
    message, digest = data[len(MAGIC) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.md5(message, usedforsecurity=False).digest() != digest:
        return None
    try:
        return _records(message)
    except (_Malformed, IndexError, UnicodeDecodeError):
        return None


def _records(message: bytes) -> tuple[UserRecord, ...]:
    keys: list[str] = []
    hash_keys: list[str] = []
    found: list[dict[int, int | bytes]] = []
    for number, field in _fields(message):
        match number, field:
            case 1, bytes():
                keys.append(field.decode())
            case 2, bytes():
                hash_keys.append(field.decode())
            case 3, bytes():
                found.append(dict(_fields(field)))
    return tuple(_record(fields, keys, hash_keys) for fields in found)


def _record(fields: dict[int, int | bytes], keys: list[str], hash_keys: list[str]) -> UserRecord:
    match fields.get(1), fields.get(2), fields.get(3, b""):
        case int(key), int(hash_key), bytes(data):
            return UserRecord(keys[key], hash_keys[hash_key], data)
        case int(key), None, bytes(data):
            return UserRecord(keys[key], None, data)
    raise _Malformed


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers, and bytes for whatever has a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value: int | bytes
                value, at = _varint(message, at)
            case 2:
                length, at = _varint(message, at)
                value, at = message[at : at + length], at + length
            case 1:
                value, at = message[at : at + 8], at + 8
            case 5:
                value, at = message[at : at + 4], at + 4
            case _:
                raise _Malformed
        if at > len(message):
            raise _Malformed
        yield tag >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed

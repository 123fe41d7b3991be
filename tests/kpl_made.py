"""Aggregated records, as a producer of the Kinesis Producer Library writes them."""

import hashlib

from streamfaas.wire.kpl import MAGIC


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def aggregate(records: list[tuple[str, str | None, bytes]]) -> bytes:
    """Keys and explicit hash keys stand in tables, each once."""
    keys = sorted({key for key, _, _ in records})
    hashes = sorted({each for _, each, _ in records if each is not None})
    message = b"".join(field(1, key.encode()) for key in keys)
    message += b"".join(field(2, each.encode()) for each in hashes)
    for key, explicit, data in records:
        inner = varint(1 << 3) + varint(keys.index(key))
        if explicit is not None:
            inner += varint(2 << 3) + varint(hashes.index(explicit))
        message += field(3, inner + field(3, data))
    return MAGIC + message + hashlib.md5(message).digest()

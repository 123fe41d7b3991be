"""What subscriptions of CloudWatch Logs put into a stream: compressed JSON, inflated again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import orjson
import pybase64

BYTES_MAX = 6 << 20
"""What a record may inflate to: an event has no room for more."""

_MAGIC = b"\x1f\x8b"
_MAGIC_TEXT = "H4s"  # its base64, with that of the only method there is
_GZIP = 31


def inflated(data: bytes) -> bytes | None:
    """The JSON in a record of a subscription; None where it is none, is damaged, or would be too
    large: it is then handed on as it is, and nothing is dropped."""
    if not data.startswith(_MAGIC):
        return None
    stream = zlib.decompressobj(_GZIP)
    try:
        text = stream.decompress(data, BYTES_MAX)
        told = orjson.loads(text)
    except (zlib.error, orjson.JSONDecodeError):
        return None
    whole = stream.eof and not stream.unused_data
    return text if whole and isinstance(told, dict) and "messageType" in told else None


def decoded(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """A Kinesis record with what is in its data in place of that."""
    if not told["Data"].startswith(_MAGIC_TEXT):
        return told
    text = inflated(pybase64.b64decode(told["Data"]))
    return told if text is None else {**told, "Data": pybase64.b64encode_as_string(text)}


def weight(data: str) -> int:
    """How many bytes of an event such data become, as its last four bytes say."""
    if not data.startswith(_MAGIC_TEXT):
        return len(data)
    size = int.from_bytes(pybase64.b64decode(data[-8:])[-4:], "little")
    return max(len(data), -(-size // 3) * 4) if size <= BYTES_MAX else len(data)

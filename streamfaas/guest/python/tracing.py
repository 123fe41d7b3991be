"""A worker's part in traces: which one the handler is in, and which its records came with."""

from __future__ import annotations

import os
import re
import struct
from array import array
from typing import Any

CONTEXT_BYTES = 16 + 8 + 1
"""A context as the daemon sends it and is sent it: trace, span, flags."""

LINKS_MAX = 2_000
"""Contexts that are handed back of one event, so that they fit into an answer's header."""

_TRACEPARENT = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_HEADER = "traceparent"
_LENGTH_MAX = 512
_SAMPLED = 1
_DROPPED = struct.Struct("<I")
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)

# whatever a handler puts in its place: this is what its libraries and its children see
_environ = os.environ


def enter(packed: bytes | bytearray) -> bool:
    """The next invocation belongs to this span: for OpenTelemetry by TRACEPARENT, and for X-Ray by
    the variable that Lambda has. Whether it is sampled."""
    trace, span, sampled = packed[:16].hex(), packed[16:24].hex(), packed[24] & _SAMPLED
    _environ["TRACEPARENT"] = f"00-{trace}-{span}-0{sampled}"
    _environ["_X_AMZN_TRACE_ID"] = f"Root=1-{trace[:8]}-{trace[8:]};Parent={span};Sampled={sampled}"
    return sampled == _SAMPLED


def leave() -> None:
    """The next invocation belongs to no span."""
    _environ.pop("TRACEPARENT", None)
    _environ["_X_AMZN_TRACE_ID"] = ""


def producers(event: Any, most: int = LINKS_MAX) -> bytes:
    """The contexts that came with the records of an event, one of each trace and sampled ones
    first, behind the number of those that are too many. Nothing where there are none, or where the
    handler has made something else of the event."""
    try:
        found = _found(event)
    except Exception:
        return b""
    if not found:
        return b""
    contexts = sorted(found.values(), key=_unsampled)
    dropped = max(0, len(contexts) - most)
    return b"".join((_DROPPED.pack(dropped), *contexts[:most]))


def _found(event: Any) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for records in event["records"].values():
        for record in records:
            for header in reversed(record["headers"]):
                if _HEADER in header:
                    context = _parsed(array("b", header[_HEADER]).tobytes())
                    if context is not None:
                        known = found.get(context[:16])
                        if known is None or (_unsampled(known) and not _unsampled(context)):
                            found[context[:16]] = context
                    break
    return found


def _parsed(header: bytes) -> bytes | None:
    """A context, packed; None where the header is none. The daemon judges alike."""
    told = _TRACEPARENT.fullmatch(header) if len(header) <= _LENGTH_MAX else None
    if told is None:
        return None
    version, trace, span, flags, more = told.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    packed = bytes.fromhex((trace + span + flags).decode())
    return None if packed[:16] == _NO_TRACE or packed[16:24] == _NO_SPAN else packed


def _unsampled(context: bytes) -> bool:
    return not context[24] & _SAMPLED

"""The bytes a handler sees, in the form in which a worker is given them."""

from __future__ import annotations

import enum

from streamfaas.flow.value import value

EVENT_BYTES_MAX = 6 * 1024 * 1024
"""The largest event, the whole JSON with base64 and metadata: Lambda's 6 MB."""

ANSWER_BYTES_MAX = 6 * 1024 * 1024 + 100
"""The largest answer that Lambda accepts, as recorded from AWS (6,291,556 bytes)."""


class Encoding(enum.IntEnum):
    """How `Event.parts` are to be read."""

    JSON = 1  # the parts joined are the event
    KAFKA = 2  # whole Kafka record batches; the worker checks, decodes and builds the event


@value
class Event:
    """What a worker is sent. `describe` is a JSON text that a worker needs to build the event out
    of parts that are not JSON (for KAFKA: topic, partition, servers, first and last offset)."""

    encoding: Encoding
    parts: tuple[bytes | memoryview, ...]
    describe: bytes = b""

    @property
    def size_bytes(self) -> int:
        return sum(len(part) for part in self.parts)

"""From Kafka's record batches to the event that Lambda makes for a self-managed cluster."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from streamfaas.guest.python.libraries import Libraries

Record = dict[str, Any]
Event = dict[str, Any]

_FRAME = struct.Struct(">qi")  # offset, length of the rest: the same in each version
_VERSION_AT = 16
_LEGACY_BYTES_MIN = 26
_ATTRIBUTES = struct.Struct(">hi")  # attributes, last offset delta
_ATTRIBUTES_AT = 21
_HEADER_BYTES = 61
_COMPRESSED = 0x07
_LOG_APPEND_TIME = 0x08
_CONTROL = 0x20
_TIME_TYPES = ("CREATE_TIME", "LOG_APPEND_TIME")

_RECORD_BYTES_MAX = 200  # of JSON beside topic and data: names, numbers, the padding of base64
_GROWTH_MAX = 6  # bytes of JSON that a byte of data or of a header becomes, at most


_BEGUN_MAX = 8
_BEGUN_BYTES_MAX = 1024 * 1024


class Kind(enum.IntEnum):
    """Why there is no event; the numbers are those of an ERROR frame."""

    OVERSIZE = 2
    CORRUPT = 3


class Unbuildable(Exception):
    """There is no event to run. `until`: the offset where the rest begins, -1 without a rest."""

    def __init__(self, kind: Kind, message: str, until: int = -1) -> None:
        super().__init__(message)
        self.kind = kind
        self.until = until


class _Broken(Exception):
    """A batch that cannot be read, and what is wrong with it."""


class _Begun:
    """A batch that was read in part, and the offset that it has been read to."""

    def __init__(self, records: Iterator[Any], offset: int) -> None:
        self._records = records
        self._next: Any = None
        self.offset = offset
        self.data_bytes = 0

    def part(self, first: int, last: int) -> list[Any]:
        """The records at `first`..`last`; what was read before cannot be had again."""
        chosen = [self._next] if self._next is not None and self._next.offset >= first else []
        if chosen and chosen[0].offset > last:
            return []
        self._next, self.offset = None, last + 1
        # the reader may be asked for an iterator only once: no `for` over it
        while (record := next(self._records, None)) is not None:
            if record.offset > last:
                self._next = record
                break
            if record.offset >= first:
                chosen.append(record)
        return chosen


class EventBuilder:
    """Decodes, checks and cuts, and stops before an event grows too large."""

    def __init__(
        self, libraries: Libraries, measure: Callable[[Any], int], event_bytes_max: int
    ) -> None:
        self._libraries = libraries
        self._measure = measure
        self._event_bytes_max = event_bytes_max
        # batches larger than what is asked for come again for their rest: they are not checked,
        # unpacked and decoded anew each time (header to reader, the least lately used first)
        self._begun: dict[bytes, _Begun] = {}

    def build(self, payload: memoryview, ask: dict[str, Any]) -> tuple[Event | None, int]:
        """The event of the records at the offsets that `ask` names (None: there are none), and
        the offset of the first one that had no room (-1: all had)."""
        records: list[Record] = []
        template: Record = {
            "topic": ask["topic"],
            "partition": ask["partition"],
            "offset": 0,
            "timestamp": 0,
            "timestampType": _TIME_TYPES[0],
            "key": None,
            "value": None,
            "headers": None,
        }
        last = ask["last"]
        at, end, until, data_bytes = 0, len(payload), -1, 0
        while end - at >= _FRAME.size:
            offset, length = _FRAME.unpack_from(payload, at)
            size = _FRAME.size + length
            batch = payload[at : at + max(0, size)]
            at += size
            version = batch[_VERSION_AT] if len(batch) > _VERSION_AT else -1
            if version == 2 and offset > last:
                break
            try:
                data_bytes += self._read(version, batch, size, ask, template, records)
            except _Broken as broken:
                message = f"the record batch at offset {offset} {broken}"
                if not records:
                    raise Unbuildable(Kind.CORRUPT, message) from broken
                # an old wrapper carries the offset of its last record, a batch of its first
                until = offset if version == 2 else records[-1]["offset"] + 1
                break
        if not records:
            return None, until
        event: Event = {
            "eventSource": "SelfManagedKafka",
            "bootstrapServers": ask["servers"],
            "records": {f"{ask['topic']}-{ask['partition']}": records},
        }
        return event, self._cut(event, records, data_bytes, until)

    def _read(
        self,
        version: int,
        batch: memoryview,
        size: int,
        ask: Record,
        template: Record,
        records: list[Record],
    ) -> int:
        """Appends what is asked for of a batch; gives back how many bytes of data it came from."""
        least = _HEADER_BYTES if version == 2 else _LEGACY_BYTES_MIN
        if size < least or len(batch) < size:
            raise _Broken("is cut short")
        if not 0 <= version <= 2:
            raise _Broken(f"has the unknown version {version}")
        known = len(records)
        try:
            if version == 2:
                return self._decode(batch, ask, template, records)
            return self._decode_legacy(batch, version, ask, template, records)
        except (_Broken, MemoryError):
            raise
        except Exception as error:
            del records[known:]
            raise _Broken(f"cannot be decoded: {type(error).__name__}: {error}") from error

    def _decode(
        self, batch: memoryview, ask: Record, template: Record, records: list[Record]
    ) -> int:
        header = bytes(batch[:_HEADER_BYTES])
        known = self._begun.pop(header, None)
        decoded = self._libraries.default_record_batch(batch)
        # before anything that the header says is believed, or a flipped bit would lose records
        if known is None and not ask["checked"] and not decoded.validate_crc():
            raise _Broken("does not match its checksum")
        attributes, delta = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_AT)
        first, last, offset = ask["first"], ask["last"], decoded.base_offset
        if attributes & _CONTROL or offset + delta < first:
            return 0
        template["timestampType"] = _TIME_TYPES[attributes & _LOG_APPEND_TIME != 0]
        copy, append, encode = template.copy, records.append, self._libraries.encode_base64
        chosen: Iterable[Any] = decoded
        if offset < first or offset + delta > last:
            if known is None or known.offset > first:
                if offset + delta > last:  # what is kept must not lie in the receive buffer
                    decoded = self._libraries.default_record_batch(bytes(batch))
                known = _Begun(iter(decoded), offset)
            chosen = known.part(first, last)
            if not known.data_bytes:  # it is only now that the first record was unpacked
                known.data_bytes = self._data_bytes(batch, attributes)
            if offset + delta > last and len(batch) <= _BEGUN_BYTES_MAX:
                self._keep(header, known)
        for record in chosen:  # most of a worker's time for a batch is spent in this loop
            made = copy()
            made["offset"] = record.offset
            made["timestamp"] = record.timestamp
            if (data := record.key) is not None:
                made["key"] = encode(data)
            if (data := record.value) is not None:
                made["value"] = encode(data)
            made["headers"] = _signed(headers) if (headers := record.headers) else headers
            append(made)
        return known.data_bytes if known is not None else self._data_bytes(batch, attributes)

    def _data_bytes(self, batch: memoryview, attributes: int) -> int:
        """Of the batch that was unpacked last."""
        return self._libraries.codecs.size_bytes if attributes & _COMPRESSED else len(batch)

    def _keep(self, header: bytes, begun: _Begun) -> None:
        if len(self._begun) >= _BEGUN_MAX:
            del self._begun[next(iter(self._begun))]
        self._begun[header] = begun

    def _decode_legacy(
        self, batch: memoryview, version: int, ask: Record, template: Record, records: list[Record]
    ) -> int:
        """The formats before Kafka 0.11: no headers, and at first no timestamps."""
        decoded = self._libraries.legacy_record_batch(batch, version)
        if not ask["checked"] and not decoded.validate_crc():
            raise _Broken("does not match its checksum")
        encode, codecs = self._libraries.encode_base64, self._libraries.codecs
        codecs.size_bytes = len(batch)
        for record in decoded:
            if ask["first"] <= record.offset <= ask["last"]:
                timestamp, key, value = record.timestamp, record.key, record.value
                made = {
                    "offset": record.offset,
                    "timestamp": -1 if timestamp is None else timestamp,
                    "timestampType": _TIME_TYPES[record.timestamp_type or 0],
                    "key": None if key is None else encode(key),
                    "value": None if value is None else encode(value),
                    "headers": [],
                }
                records.append(template | made)
        return codecs.size_bytes

    def _cut(self, event: Event, records: list[Record], data_bytes: int, until: int) -> int:
        """Takes away the records that have no room. They are measured one by one only where a
        cheap upper bound says that it may matter."""
        most = self._event_bytes_max
        bound = len(records) * (_RECORD_BYTES_MAX + _GROWTH_MAX * len(records[0]["topic"]))
        if bound + 512 + _GROWTH_MAX * data_bytes <= most:
            return until
        if bound + 512 + 4 * data_bytes // 3 <= most and not any(
            each["headers"] for each in records
        ):
            return until
        (name,) = event["records"]
        size = self._measure(event | {"records": {name: []}}) - 1  # no comma after the last
        kept = 0
        for record in records:
            size += self._measure(record) + 1
            if size > most:
                break
            kept += 1
        else:
            return until
        left_out: int = records[kept]["offset"]
        if kept == 0:
            rest = left_out + 1 if len(records) > 1 or until >= 0 else -1
            message = f"the record at offset {left_out} alone makes an event of {size} bytes"
            raise Unbuildable(Kind.OVERSIZE, f"{message}, {most} are allowed", rest)
        del records[kept:]
        return left_out


def _signed(headers: list[tuple[str, bytes | None]]) -> list[dict[str, list[int]]]:
    """Header values as Lambda shows them: lists of signed bytes."""
    return [{name: [*memoryview(value or b"").cast("b")]} for name, value in headers]

"""Writes down every execution: a line when it begins, and a line on the disk when it ends."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import time
from base64 import b64decode
from collections.abc import Iterable

LEDGER = os.environ.get("LEDGER", "")
HOLD_SECONDS = float(os.environ.get("HOLD_SECONDS", "0"))
FAILURE_RATE = float(os.environ.get("FAILURE_RATE", "0"))
POISON = b"poison"

_chance = random.Random(f"{os.environ.get('SEED', '')} {time.monotonic_ns()}")


def handle(event, context):
    ((name, records),) = event["records"].items()
    topic, _, partition = name.rpartition("-")
    prints = [record_print(record) for record in records]
    execution = os.urandom(8).hex()
    write(
        {
            "execution": execution,
            "invocation": context.aws_request_id,
            "worker": context.log_stream_name,
            "topic": topic,
            "partition": int(partition),
            "stretches": stretches(record["offset"] for record in records),
            "digest": hashlib.sha256(b"".join(prints)).hexdigest(),
            "start": time.monotonic(),
        }
    )
    time.sleep(HOLD_SECONDS * _chance.random() * 2)
    poisoned = any(b64decode(record["value"] or "").startswith(POISON) for record in records)
    failed = poisoned or _chance.random() < FAILURE_RATE
    outcome = "failure" if failed else "success"
    write({"execution": execution, "end": time.monotonic(), "outcome": outcome}, sync=True)
    if failed:
        raise RuntimeError("poison" if poisoned else "bad luck")


def record_print(record) -> bytes:
    """The fingerprint of one record of a Lambda event."""
    key, value = record.get("key"), record.get("value")
    return fingerprint(
        record["timestamp"],
        None if key is None else b64decode(key),
        None if value is None else b64decode(value),
        [
            (name, bytes(number & 0xFF for number in numbers))
            for header in record["headers"]
            for name, numbers in header.items()
        ],
    )


def fingerprint(
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """SHA-256 over everything that a record carries, each part after its length."""
    parts = [key, value]
    for name, content in headers:
        parts += [name.encode(), content]
    framed = [struct.pack("<q", timestamp_ms)]
    for part in parts:
        framed += [struct.pack("<i", -1 if part is None else len(part)), part or b""]
    return hashlib.sha256(b"".join(framed)).digest()


def stretches(offsets: Iterable[int]) -> list[list[int]]:
    """Offsets in the order given, as stretches without a gap."""
    found: list[list[int]] = []
    for offset in offsets:
        if found and offset == found[-1][1] + 1:
            found[-1][1] = offset
        else:
            found.append([offset, offset])
    return found


def write(row: dict, *, sync: bool = False) -> None:
    """Appends one line in one write, so that lines of several workers do not mix."""
    line = json.dumps(row).encode() + b"\n"
    assert len(line) < 4096
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        assert os.write(descriptor, line) == len(line)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

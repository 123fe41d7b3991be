"""What Lambda says of objects in a bucket: the notification of S3, record by record."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from urllib.parse import quote_plus

import orjson

CREATED = "ObjectCreated:Put"
REMOVED = "ObjectRemoved:Delete"

_OWNER = "streamfaas"


@dataclass(frozen=True, slots=True)
class S3Change:
    """One thing that happened to one object. `size_bytes` and `etag` are None for a removal, of
    which S3 does not tell them. `sequencer` rises with every change of a key."""

    name: str
    key: bytes
    sequencer: int
    time_ms: int
    size_bytes: int | None = None
    etag: str | None = None


def s3_record(change: S3Change, *, region: str, bucket: str, configuration: str) -> bytes:
    """The record as JSON, of event version 2.1. The same change gives the same bytes."""
    described: dict[str, str | int] = {"key": encoded_key(change.key)}
    if change.size_bytes is not None:
        described["size"] = change.size_bytes
    if change.etag is not None:
        described["eTag"] = change.etag
    described["sequencer"] = f"{change.sequencer:018X}"
    return orjson.dumps(
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": region,
            "eventTime": iso_time(change.time_ms),
            "eventName": change.name,
            "userIdentity": {"principalId": _OWNER},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": _response(bucket, change.sequencer),
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": configuration,
                "bucket": {
                    "name": bucket,
                    "ownerIdentity": {"principalId": _OWNER},
                    "arn": f"arn:aws:s3:::{bucket}",
                },
                "object": described,
            },
        }
    )


def s3_event(records: Iterable[bytes]) -> bytes:
    """The event of records that are JSON already."""
    return b'{"Records":[' + b",".join(records) + b"]}"


def encoded_key(key: bytes) -> str:
    """As in S3's notifications: a form's encoding, in which slashes stay. Bytes that are no UTF-8
    are encoded as they are."""
    return quote_plus(key, safe="/")


def iso_time(milliseconds: int) -> str:
    """As S3 writes it."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def matches(pattern: str, name: str) -> bool:
    """Whether an event name (`ObjectCreated:Put`) is wanted by a pattern, which may begin with
    `s3:` and end in `*`."""
    wanted = pattern.removeprefix("s3:")
    if wanted.endswith("*"):
        return name.startswith(wanted[:-1])
    return name == wanted


def _response(bucket: str, sequencer: int) -> dict[str, str]:
    """Made up, but in S3's form, and the same for the same change."""
    digest = blake2b(f"{bucket}/{sequencer}".encode(), digest_size=64).digest()
    return {
        "x-amz-request-id": digest[:8].hex().upper(),
        "x-amz-id-2": base64.b64encode(digest[7:]).decode(),
    }

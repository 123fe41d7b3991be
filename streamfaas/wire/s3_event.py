"""What Lambda says of objects in a bucket: the notification of S3, record by record."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import quote_plus

import orjson

CREATED = "ObjectCreated:Put"
REMOVED = "ObjectRemoved:Delete"

KEY_BYTES_MAX = 1024
SIZE_MAX = (1 << 63) - 1
"""More is no size, and cannot be remembered."""

_OWNER = "streamfaas"


@dataclass(frozen=True, slots=True)
class S3Change:
    """One thing that happened to one object, as whoever saw it tells it. `name` has no `s3:` before
    it, `sequencer` is empty where there is none, `time_ms` None where no time can be read."""

    bucket: str
    key: bytes
    name: str
    time_ms: int | None
    sequencer: str = ""
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    event_version: str = "2.1"
    region: str = ""
    principal: str = ""
    address: str = ""
    request_id: str = ""
    request_id_2: str = ""
    configuration: str = ""
    owner: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What else is told of the object."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """S3's own additions for restores, replication and the like."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A change with its `record`: the whole as S3 would tell it, of event version 2.1 or later, its
    key encoded as S3 does. Of a removal neither size nor entity tag is told."""

    bucket: str
    key: bytes
    name: str
    sequencer: str
    version_id: str | None
    etag: str | None
    size: int | None
    time_ms: int | None
    record: bytes


def notification(change: S3Change) -> Notification:
    """The same change gives the same bytes. `TypeError` where something in it is too deep."""
    removed = change.name.startswith(("ObjectRemoved:", "LifecycleExpiration:"))
    size, etag = (None, None) if removed else (change.size, change.etag)
    described: dict[str, Any] = {**change.beside, "key": encoded_key(change.key)}
    optional = {
        "size": size,
        "eTag": etag,
        "versionId": change.version_id,
        "sequencer": change.sequencer or None,
    }
    described |= {name: value for name, value in optional.items() if value is not None}
    record = {
        "eventVersion": change.event_version,
        "eventSource": "aws:s3",
        "awsRegion": change.region or "us-east-1",
        "eventTime": iso_time(change.time_ms or 0),
        "eventName": change.name,
        "userIdentity": {"principalId": change.principal},
        "requestParameters": {"sourceIPAddress": change.address or "0.0.0.0"},
        "responseElements": {
            "x-amz-request-id": change.request_id,
            "x-amz-id-2": change.request_id_2,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": change.configuration,
            "bucket": {
                "name": change.bucket,
                "ownerIdentity": {"principalId": change.owner},
                "arn": f"arn:aws:s3:::{change.bucket}",
            },
            "object": described,
        },
        **change.extras,
    }
    return Notification(
        *(change.bucket, change.key, change.name, change.sequencer, change.version_id),
        *(etag, size, change.time_ms, orjson.dumps(record)),
    )


def own_notification(change: S3Change) -> Notification:
    """Of what we have seen ourselves. Who asked for it is made up, but in S3's form, and the same
    for the same change."""
    told = f"{change.bucket}/{int(change.sequencer, 16)}"
    digest = blake2b(told.encode(), digest_size=64).digest()
    return notification(
        replace(
            change,
            principal=_OWNER,
            owner=_OWNER,
            address="127.0.0.1",
            request_id=digest[:8].hex().upper(),
            request_id_2=base64.b64encode(digest[7:]).decode(),
        )
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


def order_of(sequencer: str) -> str:
    """Sequencers of one key as texts in their order: the shorter one is padded with zeros."""
    bare = sequencer.upper().lstrip("0")
    return f"{len(bare):03d}{bare}"

"""What object stores tell of their objects, each in its own words, as Lambda's S3 records: pure.

Documents come alone, or within an SNS envelope, an EventBridge envelope or a CloudEvent. AWS, moto,
MinIO and RustFS encode keys as forms do, in variants that decode alike; Ceph and EventBridge do not
encode them at all; the filer of SeaweedFS tells of paths, in a shape of its own.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

import orjson

from streamfaas.wire.s3_event import encoded_key, iso_time

KEY_BYTES_MAX = 1024
BUCKET_MAX = 255
WORD_MAX = 1024
"""Characters of a name, a version or an entity tag: what is longer is none."""

SEQUENCER_MAX = 64

WRAPPED_MAX = 3
"""Envelopes around a document: a CloudEvent of an SNS envelope of a notification."""

_EXTRAS = (
    "glacierEventData",
    "restoreEventData",
    "replicationEventData",
    "intelligentTieringEventData",
    "lifecycleEventData",
)

_JSON: TypeAlias = Mapping[str, Any]


class Malformed(Exception):
    """A document that is no notification: where in it, and what is wrong."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where} {what}" if where else what)
        self.where = where
        self.what = what


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing that happened to one object. `name` has no `s3:` before it; `sequencer` is empty
    where the store has none, `time_ms` None where it tells no time that can be read. `record` is
    the whole as S3 would tell it: event version 2.1 or later, its key encoded as S3 does."""

    bucket: str
    key: bytes
    name: str
    sequencer: str
    version_id: str | None
    etag: str | None
    size: int | None
    time_ms: int | None
    record: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What a store has told, before it is said in the words of S3."""

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
    beside: _JSON = field(default_factory=dict)
    """What else is told of the object."""
    extras: _JSON = field(default_factory=dict)
    """S3's own additions for restores, replication and the like."""


def notifications(body: bytes | str) -> tuple[Notification, ...]:
    """The notifications in a document, in its order. A test event has none. `Malformed` where it is
    not one that is known."""
    return tuple(notification(told) for told in _document(body, "", WRAPPED_MAX))


def notification(told: Told) -> Notification:
    """What was told, with its record."""
    removed = told.name.startswith(("ObjectRemoved:", "LifecycleExpiration:"))
    size, etag = (None, None) if removed else (told.size, told.etag)
    described: dict[str, Any] = {**told.beside, "key": encoded_key(told.key)}
    optional = {
        "size": size,
        "eTag": etag,
        "versionId": told.version_id,
        "sequencer": told.sequencer or None,
    }
    described |= {name: value for name, value in optional.items() if value is not None}
    record = {
        "eventVersion": told.event_version,
        "eventSource": "aws:s3",
        "awsRegion": told.region or "us-east-1",
        "eventTime": iso_time(told.time_ms or 0),
        "eventName": told.name,
        "userIdentity": {"principalId": told.principal},
        "requestParameters": {"sourceIPAddress": told.address or "0.0.0.0"},
        "responseElements": {
            "x-amz-request-id": told.request_id,
            "x-amz-id-2": told.request_id_2,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": told.configuration,
            "bucket": {
                "name": told.bucket,
                "ownerIdentity": {"principalId": told.owner},
                "arn": f"arn:aws:s3:::{told.bucket}",
            },
            "object": described,
        },
        **told.extras,
    }
    try:
        text = orjson.dumps(record)
    except TypeError as error:  # deeper than can be written
        raise Malformed("the record", f"cannot be told on: {error}") from error
    return Notification(
        *(told.bucket, told.key, told.name, told.sequencer, told.version_id),
        *(etag, size, told.time_ms, text),
    )


def carrier_of(body: bytes) -> str:
    """What a document says of who has put it into a queue, as triggers have it: `sqs` for the store
    itself. Empty where it says nothing."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    if document.get("Type") == "Notification" and "Message" in document:
        return "sns-sqs"
    return "eventbridge-sqs" if "detail-type" in document else "sqs" * ("Records" in document)


def order_of(sequencer: str) -> str:
    """Sequencers of one key as texts in their order: the shorter one is padded with zeros."""
    bare = sequencer.upper().lstrip("0")
    return f"{len(bare):03d}{bare}"


# -- documents and their envelopes


def _document(body: bytes | str, where: str, wraps: int) -> Iterator[Told]:
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise Malformed(where, f"is no JSON: {error}") from error
    yield from _unwrapped(document, where, wraps)


def _unwrapped(document: Any, where: str, wraps: int) -> Iterator[Told]:
    if not isinstance(document, dict):
        raise Malformed(where, "is no JSON object")
    wrapped = document.get("Message") if document.get("Type") == "Notification" else None
    if wraps and isinstance(wrapped, str):
        yield from _document(wrapped, _at(where, "Message"), wraps - 1)
    elif wraps and "specversion" in document and isinstance(document.get("data"), dict):
        yield from _unwrapped(document["data"], _at(where, "data"), wraps - 1)
    elif document.get("Event") == "s3:TestEvent":
        return
    elif "Records" in document:
        yield from _records(document["Records"], _at(where, "Records"))
    elif "detail-type" in document:
        yield _bridged(document, where)
    elif "event_type" in document and "message" in document:
        yield from _filed(document, where)
    elif "eventName" in document:
        yield _record(document, where)
    else:
        raise Malformed(where, "is no notification of an object store that is known")


def _records(records: Any, where: str) -> Iterator[Told]:
    if not isinstance(records, list):
        raise Malformed(where, "is no list")
    for number, record in enumerate(records):
        at = f"{where}[{number}]"
        if not isinstance(record, dict):
            raise Malformed(at, "is no JSON object")
        within = record.get("data")  # newer RustFS has names around the record
        if isinstance(within, dict) and "eventName" not in record:
            record, at = within, f"{at}.data"  # noqa: PLW2901 - the same record, found
        yield _record(record, at)


# -- AWS and those who follow it


def _record(record: _JSON, where: str) -> Told:
    source = _word(record, "eventSource", where) or "aws:s3"
    s3 = _table(record, "s3", where)
    bucket = _table(s3, "bucket", _at(where, "s3"))
    described = _table(s3, "object", _at(where, "s3"))
    at = _at(where, "s3.object")
    raw = _raw(source)
    return Told(
        bucket=_bucket(bucket, _at(where, "s3.bucket")),
        key=_key(described, at, _as_it_is if raw else _form_decoded),
        name=_name(record, where),
        time_ms=milliseconds(record.get("eventTime")),
        sequencer=(_turned if raw else str)(_sequencer(described, at)),
        version_id=_word(described, "versionId", at) or None,
        etag=_etag(described, at, "eTag", "etag"),
        size=_size(described, at),
        event_version=_version(record, source, where),
        region=_soft(record.get("awsRegion")),
        principal=_soft(_inner(record, "userIdentity").get("principalId")),
        address=_soft(_inner(record, "requestParameters").get("sourceIPAddress")),
        request_id=_soft(_inner(record, "responseElements").get("x-amz-request-id")),
        request_id_2=_soft(_inner(record, "responseElements").get("x-amz-id-2")),
        configuration=_soft(s3.get("configurationId")),
        owner=_soft(_inner(bucket, "ownerIdentity").get("principalId")),
        beside={name: value for name, value in described.items() if name not in _OWN},
        extras={name: record[name] for name in _EXTRAS if isinstance(record.get(name), dict)},
    )


_OWN = {"key", "size", "eTag", "etag", "versionId", "sequencer"}


def _raw(source: str) -> bool:
    """Ceph writes keys as they are; a blank or a percent sign in them is just that."""
    return source.startswith(("ceph:", "rgw:"))


def _version(record: _JSON, source: str, where: str) -> str:
    """S3's own minor versions say what is in the record; those of others mean nothing of it."""
    version = _word(record, "eventVersion", where) or "2.1"
    if source != "aws:s3":
        return "2.1"
    if not re.fullmatch(r"2\.[0-9]{1,3}", version):
        raise Malformed(_at(where, "eventVersion"), "is not 2.x, the only one that is known")
    return "2.1" if version == "2.0" else version


# -- EventBridge

_BRIDGED = {
    "Object Created": "ObjectCreated:Put",
    "Object Deleted": "ObjectRemoved:Delete",
    "Object Restore Initiated": "ObjectRestore:Post",
    "Object Restore Completed": "ObjectRestore:Completed",
    "Object Restore Expired": "ObjectRestore:Delete",
    "Object Storage Class Changed": "LifecycleTransition",
    "Object Access Tier Changed": "IntelligentTiering",
    "Object ACL Updated": "ObjectAcl:Put",
    "Object Tags Added": "ObjectTagging:Put",
    "Object Tags Deleted": "ObjectTagging:Delete",
}
_REASONS = {
    "POST Object": "ObjectCreated:Post",
    "CopyObject": "ObjectCreated:Copy",
    "CompleteMultipartUpload": "ObjectCreated:CompleteMultipartUpload",
}


def _bridged(document: _JSON, where: str) -> Told:
    if document.get("source") != "aws.s3":
        raise Malformed(_at(where, "source"), "is not aws.s3")
    detail = _table(document, "detail", where)
    at = _at(where, "detail")
    described, place = _table(detail, "object", at), _at(at, "object")
    name = _bridged_name(document, detail, where)
    return Told(
        bucket=_bucket(_table(detail, "bucket", at), _at(at, "bucket")),
        key=_key(described, place, _as_it_is),
        name=name,
        time_ms=milliseconds(document.get("time")),
        sequencer=_sequencer(described, place),
        version_id=_word(described, "version-id", place) or None,
        etag=_etag(described, place, "etag"),
        size=_size(described, place),
        # S3's own records of these kinds have a later version
        event_version="2.1" if name.startswith(("ObjectC", "ObjectRem", "ObjectRes")) else "2.3",
        region=_soft(document.get("region")),
        principal=_soft(detail.get("requester")),
        address=_soft(detail.get("source-ip-address")) or "s3.amazonaws.com",
        request_id=_soft(detail.get("request-id")),
        configuration="EventBridge",
        owner=_soft(document.get("account")),
    )


def _bridged_name(document: _JSON, detail: _JSON, where: str) -> str:
    kind = document["detail-type"]
    name = _BRIDGED.get(kind) if isinstance(kind, str) else None
    if name is None:
        raise Malformed(_at(where, "detail-type"), "is none of S3's that are known")
    reason = _soft(detail.get("reason"))
    if kind == "Object Created":
        return _REASONS.get(reason, name)
    if kind == "Object Deleted":
        family = "LifecycleExpiration" if reason == "Lifecycle Expiration" else "ObjectRemoved"
        marker = detail.get("deletion-type") == "Delete Marker Created"
        return f"{family}:{'DeleteMarkerCreated' if marker else 'Delete'}"
    return name


# -- the filer of SeaweedFS

_BUCKETS = "/buckets/"


def _filed(document: _JSON, where: str) -> Iterator[Told]:
    """A file that comes, changes, is moved or goes below the directory of all buckets. Folders and
    parts of uploads are no objects."""
    path = _word(document, "key", where)
    message, at = _table(document, "message", where), _at(where, "message")
    old, new = _entry(message, "old_entry", at), _entry(message, "new_entry", at)
    if old is None and new is None:
        raise Malformed(at, "has neither old_entry nor new_entry")
    parent = _soft(message.get("new_parent_path"))
    name = _soft(new.get("name")) if new else ""
    path_now = f"{parent.rstrip('/')}/{name}" if parent and name else path
    if old is not None and (new is None or path_now != path):
        yield from _file(path, old, "ObjectRemoved:Delete", where)
    if new is not None:
        yield from _file(path_now, new, "ObjectCreated:Put", where)


def _entry(message: _JSON, name: str, where: str) -> _JSON | None:
    return None if message.get(name) is None else _table(message, name, where)


def _file(path: str, entry: _JSON, name: str, where: str) -> Iterator[Told]:
    bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
    if not path.startswith(_BUCKETS) or not bucket:
        raise Malformed(_at(where, "key"), f"is no path below {_BUCKETS}")
    if entry.get("is_directory") or not key or key.startswith(".uploads/"):
        return
    attributes = _inner(entry, "attributes")
    seconds = attributes.get("mtime")
    known = isinstance(seconds, int) and 0 <= seconds < _SECONDS_MAX
    yield Told(
        bucket=_bucket({"name": bucket}, where),
        key=_key({"key": key}, where, _as_it_is),
        name=name,
        time_ms=seconds * 1000 if known and seconds else None,
        size=_size({"size": attributes.get("file_size")}, _at(where, "attributes")),
        etag=_md5(attributes.get("md5")),
        configuration="SeaweedFS",
    )


def _md5(value: Any) -> str | None:
    """Bytes come in base64."""
    try:
        return b64decode(_soft(value), validate=True).hex() or None
    except ValueError:
        return None


# -- times

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(?: ?(Z|z|[+-]\d\d:?\d\d))?", re.ASCII
)
_SECONDS_MAX = 253_402_300_800  # the year 10000


def milliseconds(value: Any) -> int | None:
    """Of a time with any number of digits behind the second, `T` or a blank before the hour, and
    UTC where it names no zone; None where it is none."""
    if not isinstance(value, str) or not (found := _TIME.fullmatch(value.strip())):
        return None
    day, clock, fraction, zone = found.groups()
    zone = (zone or "Z").upper().replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
    return max(0, seconds * 1000 + int((fraction or "0").ljust(3, "0")[:3]))


# -- values


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _table(of: _JSON, name: str, where: str) -> _JSON:
    found = of.get(name)
    if not isinstance(found, dict):
        what = "is missing" if found is None else "is no JSON object"
        raise Malformed(_at(where, name), what)
    return found


def _inner(of: _JSON, name: str) -> _JSON:
    """What may be missing, or be anything, where nothing depends on it."""
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def _soft(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= WORD_MAX else ""


def _word(of: _JSON, name: str, where: str) -> str:
    """A text; empty where it is missing."""
    found = of.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Malformed(_at(where, name), "is no text")
    if len(found) > WORD_MAX:
        raise Malformed(_at(where, name), f"is longer than {WORD_MAX} characters")
    return found


def _name(record: _JSON, where: str) -> str:
    name = _word(record, "eventName", where).removeprefix("s3:")
    if not name or not name.isprintable():
        raise Malformed(_at(where, "eventName"), "is no name of an event")
    return name


def _bucket(bucket: _JSON, where: str) -> str:
    name = _word(bucket, "name", where)
    if not name or len(name) > BUCKET_MAX or "/" in name or not name.isprintable():
        raise Malformed(_at(where, "name"), "is no name of a bucket")
    return name


def _key(described: _JSON, where: str, decoded: Callable[[str], bytes]) -> bytes:
    text = described.get("key")
    if not isinstance(text, str):
        raise Malformed(_at(where, "key"), "is missing" if text is None else "is no text")
    key = decoded(text)
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise Malformed(
            _at(where, "key"), f"has {len(key):,} bytes, where 1 to {KEY_BYTES_MAX:,} are possible"
        )
    return key


def _as_it_is(text: str) -> bytes:
    return text.encode()


def _form_decoded(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


def _sequencer(described: _JSON, where: str) -> str:
    found = _word(described, "sequencer", where)
    if len(found) > SEQUENCER_MAX or not found.isprintable():
        raise Malformed(_at(where, "sequencer"), "is no sequencer")
    return found


def _turned(sequencer: str) -> str:
    """Ceph writes the seconds and nanoseconds of its clock as they lie in memory, lowest byte
    first: as they stand, they would be in no order."""
    if not re.fullmatch("[0-9A-Fa-f]{16}", sequencer):
        return sequencer
    found = bytes.fromhex(sequencer)
    return (found[3::-1] + found[:3:-1]).hex().upper()


def _etag(described: _JSON, where: str, *names: str) -> str | None:
    found = (_word(described, name, where).strip('"') for name in names)
    return next(filter(None, found), None)


def _size(described: _JSON, where: str) -> int | None:
    size = described.get("size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise Malformed(_at(where, "size"), "is no size")
    return size

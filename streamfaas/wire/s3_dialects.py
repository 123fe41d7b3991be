"""What object stores tell of their objects, each in its own words, as changes: pure.

AWS, moto, MinIO and RustFS encode keys as forms do, in variants that decode alike; Ceph and
EventBridge do not encode them at all; the filer of SeaweedFS tells of paths, in a shape of its own.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from streamfaas.wire import s3_fields as fields
from streamfaas.wire.s3_event import CREATED, REMOVED, S3Change
from streamfaas.wire.s3_fields import Malformed, Table

_EXTRAS = (
    "glacierEventData",
    "restoreEventData",
    "replicationEventData",
    "intelligentTieringEventData",
    "lifecycleEventData",
)

# -- AWS and those who follow it


def of_aws(record: Table, where: str) -> S3Change:
    """A record of S3, or of a store that tells as S3 does."""
    source = fields.word(record, "eventSource", where) or "aws:s3"
    s3 = fields.table(record, "s3", where)
    bucket = fields.table(s3, "bucket", fields.place(where, "s3"))
    described = fields.table(s3, "object", fields.place(where, "s3"))
    at = fields.place(where, "s3.object")
    raw = _raw(source)
    return S3Change(
        bucket=fields.bucket(bucket, fields.place(where, "s3.bucket")),
        key=fields.key(described, at, fields.as_it_is if raw else fields.form_decoded),
        name=_name(record, where),
        time_ms=fields.milliseconds(record.get("eventTime")),
        sequencer=(_turned if raw else str)(fields.sequencer(described, at)),
        version_id=fields.word(described, "versionId", at) or None,
        etag=fields.etag(described, at, "eTag", "etag"),
        size=fields.size(described, at),
        event_version=_version(record, source, where),
        region=fields.soft(record.get("awsRegion")),
        principal=fields.soft(fields.inner(record, "userIdentity").get("principalId")),
        address=fields.soft(fields.inner(record, "requestParameters").get("sourceIPAddress")),
        request_id=fields.soft(fields.inner(record, "responseElements").get("x-amz-request-id")),
        request_id_2=fields.soft(fields.inner(record, "responseElements").get("x-amz-id-2")),
        configuration=fields.soft(s3.get("configurationId")),
        owner=fields.soft(fields.inner(bucket, "ownerIdentity").get("principalId")),
        beside={name: value for name, value in described.items() if name not in _OWN},
        extras={name: record[name] for name in _EXTRAS if isinstance(record.get(name), dict)},
    )


_OWN = {"key", "size", "eTag", "etag", "versionId", "sequencer"}


def _raw(source: str) -> bool:
    """Ceph writes keys as they are; a blank or a percent sign in them is just that."""
    return source.startswith(("ceph:", "rgw:"))


def _version(record: Table, source: str, where: str) -> str:
    """S3's own minor versions say what is in the record; those of others mean nothing of it."""
    version = fields.word(record, "eventVersion", where) or "2.1"
    if source != "aws:s3":
        return "2.1"
    if not re.fullmatch(r"2\.[0-9]{1,3}", version):
        raise Malformed(
            fields.place(where, "eventVersion"), "is not 2.x, the only one that is known"
        )
    return "2.1" if version == "2.0" else version


def _name(record: Table, where: str) -> str:
    name = fields.word(record, "eventName", where).removeprefix("s3:")
    if not name or not name.isprintable():
        raise Malformed(fields.place(where, "eventName"), "is no name of an event")
    return name


def _turned(sequencer: str) -> str:
    """Ceph writes the seconds and nanoseconds of its clock as they lie in memory, lowest byte
    first: as they stand, they would be in no order."""
    if not re.fullmatch("[0-9A-Fa-f]{16}", sequencer):
        return sequencer
    found = bytes.fromhex(sequencer)
    return (found[3::-1] + found[:3:-1]).hex().upper()


# -- EventBridge

_BRIDGED = {
    "Object Created": CREATED,
    "Object Deleted": REMOVED,
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


def of_eventbridge(document: Table, where: str) -> S3Change:
    """An event of S3 by way of EventBridge."""
    if document.get("source") != "aws.s3":
        raise Malformed(fields.place(where, "source"), "is not aws.s3")
    detail = fields.table(document, "detail", where)
    at = fields.place(where, "detail")
    described, place = fields.table(detail, "object", at), fields.place(at, "object")
    name = _bridged_name(document, detail, where)
    return S3Change(
        bucket=fields.bucket(fields.table(detail, "bucket", at), fields.place(at, "bucket")),
        key=fields.key(described, place, fields.as_it_is),
        name=name,
        time_ms=fields.milliseconds(document.get("time")),
        sequencer=fields.sequencer(described, place),
        version_id=fields.word(described, "version-id", place) or None,
        etag=fields.etag(described, place, "etag"),
        size=fields.size(described, place),
        # S3's own records of these kinds have a later version
        event_version="2.1" if name.startswith(("ObjectC", "ObjectRem", "ObjectRes")) else "2.3",
        region=fields.soft(document.get("region")),
        principal=fields.soft(detail.get("requester")),
        address=fields.soft(detail.get("source-ip-address")) or "s3.amazonaws.com",
        request_id=fields.soft(detail.get("request-id")),
        configuration="EventBridge",
        owner=fields.soft(document.get("account")),
    )


def _bridged_name(document: Table, detail: Table, where: str) -> str:
    kind = document["detail-type"]
    name = _BRIDGED.get(kind) if isinstance(kind, str) else None
    if name is None:
        raise Malformed(fields.place(where, "detail-type"), "is none of S3's that are known")
    reason = fields.soft(detail.get("reason"))
    if kind == "Object Created":
        return _REASONS.get(reason, name)
    if kind == "Object Deleted":
        family = "LifecycleExpiration" if reason == "Lifecycle Expiration" else "ObjectRemoved"
        marker = detail.get("deletion-type") == "Delete Marker Created"
        return f"{family}:{'DeleteMarkerCreated' if marker else 'Delete'}"
    return name


# -- the filer of SeaweedFS

_BUCKETS = "/buckets/"


def of_seaweedfs(document: Table, where: str) -> Iterator[S3Change]:
    """A file that comes, changes, is moved or goes below the directory of all buckets. Folders and
    parts of uploads are no objects."""
    path = fields.word(document, "key", where)
    message, at = fields.table(document, "message", where), fields.place(where, "message")
    old, new = _entry(message, "old_entry", at), _entry(message, "new_entry", at)
    if old is None and new is None:
        raise Malformed(at, "has neither old_entry nor new_entry")
    parent = fields.soft(message.get("new_parent_path"))
    name = fields.soft(new.get("name")) if new else ""
    path_now = f"{parent.rstrip('/')}/{name}" if parent and name else path
    if old is not None and (new is None or path_now != path):
        yield from _file(path, old, REMOVED, where)
    if new is not None:
        yield from _file(path_now, new, CREATED, where)


def _entry(message: Table, name: str, where: str) -> Table | None:
    return None if message.get(name) is None else fields.table(message, name, where)


def _file(path: str, entry: Table, name: str, where: str) -> Iterator[S3Change]:
    bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
    if not path.startswith(_BUCKETS) or not bucket:
        raise Malformed(fields.place(where, "key"), f"is no path below {_BUCKETS}")
    if entry.get("is_directory") or not key or key.startswith(".uploads/"):
        return
    attributes = fields.inner(entry, "attributes")
    seconds = attributes.get("mtime")
    known = isinstance(seconds, int) and 0 <= seconds < _SECONDS_MAX
    yield S3Change(
        bucket=fields.bucket({"name": bucket}, where),
        key=fields.key({"key": key}, where, fields.as_it_is),
        name=name,
        time_ms=seconds * 1000 if known and seconds else None,
        size=fields.size({"size": attributes.get("file_size")}, fields.place(where, "attributes")),
        etag=_md5(attributes.get("md5")),
        configuration="SeaweedFS",
    )


def _md5(value: Any) -> str | None:
    """Bytes come in base64."""
    try:
        return b64decode(fields.soft(value), validate=True).hex() or None
    except ValueError:
        return None


_SECONDS_MAX = 253_402_300_800  # the year 10000

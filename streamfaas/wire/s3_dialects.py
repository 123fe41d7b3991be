"""What object stores tell of their objects, each in its own words, as changes: pure.

AWS, moto, MinIO and RustFS encode keys as forms do, in variants that decode alike; Ceph and
EventBridge do not encode them at all. SeaweedFS tells of files: `s3_seaweedfs` knows of that.
"""

from __future__ import annotations

import re

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

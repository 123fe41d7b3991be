"""What the filer of SeaweedFS tells of its files, as changes of objects: pure.

It tells of paths: buckets are folders below one of them, versions of an object files of a folder
beside it, parts of uploads files of a hidden one. Its documents are protocol buffers as Go writes
them as JSON: what is zero or empty is left out, and bytes are in base64.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any, NamedTuple

from streamfaas.wire import s3_fields as fields
from streamfaas.wire.s3_event import CREATED, REMOVED, S3Change
from streamfaas.wire.s3_fields import Malformed, Table

_BUCKETS = "/buckets/"
_VERSIONS = ".versions"
_SECONDS_MAX = 253_402_300_800  # the year 10000


class _File(NamedTuple):
    """What lies at a path: an object, a version of one, a folder, or both of these."""

    path: str
    entry: Table
    where: str

    @property
    def attributes(self) -> Table:
        return fields.inner(self.entry, "attributes")

    @property
    def is_folder(self) -> bool:
        """And not an object that others lie below of, as `a` where there is `a/b`."""
        is_one = bool(self.entry.get("is_directory"))
        return is_one and not self.said("x-seaweedfs-prefix-object")

    def said(self, name: str) -> str:
        """A text that the gateway for S3 has written beside the content."""
        return _bytes(fields.inner(self.entry, "extended").get(name)).decode("utf-8", "replace")

    @property
    def content(self) -> tuple[Any, ...]:
        """What is another one whenever it is written; tags and rights are not in it."""
        told = [self.attributes.get(name) for name in ("mtime", "mtime_ns", "file_size", "md5")]
        return (*told, self.said("Seaweed-X-Amz-ETag"), self.said("x-seaweedfs-write-id"))


def of_seaweedfs(document: Table, where: str) -> Iterator[S3Change]:
    """A file that comes, is written again, is moved or goes below the folder of all buckets. Of
    tags and rights that change nothing is told."""
    path = fields.word(document, "key", where)
    if not path.startswith("/"):
        raise Malformed(fields.place(where, "key"), "is no path")
    message, at = fields.table(document, "message", where), fields.place(where, "message")
    old, new = _file(path, message, "old_entry", at), _file(path, message, "new_entry", at)
    if old is None and new is None:
        raise Malformed(at, "has neither old_entry nor new_entry")
    moved = old is not None and new is not None and old.path != new.path
    if old is not None and (new is None or moved):
        yield from _change(old, REMOVED)
    if new is not None and (old is None or moved or old.content != new.content):
        yield from _change(new, CREATED)


def _file(path: str, message: Table, name: str, where: str) -> _File | None:
    if message.get(name) is None:
        return None
    entry, at = fields.table(message, name, where), fields.place(where, name)
    parent, called = fields.soft(message.get("new_parent_path")), fields.soft(entry.get("name"))
    if name == "new_entry" and parent and called:
        path = f"{parent.rstrip('/')}/{called}"
    return _File(path, entry, at)


def _change(file: _File, name: str) -> Iterator[S3Change]:
    """Folders that nobody has put, what is hidden, and what is in no bucket are no objects."""
    bucket, _, key = file.path.removeprefix(_BUCKETS).partition("/")
    if not file.path.startswith(_BUCKETS) or bucket.startswith(".") or key.startswith(".uploads/"):
        return
    if not key or (file.is_folder and not file.attributes.get("mime")):
        return
    version = file.said("Seaweed-X-Amz-Version-Id")
    if version:
        key = _without_version(key)
    removed = name == REMOVED
    yield S3Change(
        bucket=fields.bucket({"name": bucket}, file.where),
        key=fields.key({"key": key + "/" * file.is_folder}, file.where, fields.as_it_is),
        name=name if removed else _name(file),
        time_ms=_milliseconds(file),
        sequencer=_sequencer(file, later=removed),
        version_id=version or None,
        size=fields.size({"size": file.attributes.get("file_size", 0)}, file.where),
        etag=file.said("Seaweed-X-Amz-ETag") or _bytes(file.attributes.get("md5")).hex() or None,
        configuration="SeaweedFS",
    )


def _without_version(key: str) -> str:
    """`a/b.versions/v_1f` is a version of `a/b`."""
    folder, _, file = key.rpartition("/")
    is_one = folder.endswith(_VERSIONS) and file.startswith("v_")
    return folder.removesuffix(_VERSIONS) if is_one else key


def _name(file: _File) -> str:
    if file.said("Seaweed-X-Amz-Delete-Marker"):
        return "ObjectRemoved:DeleteMarkerCreated"
    uploaded = file.said("X-Seaweedfs-Upload-Id")
    return "ObjectCreated:CompleteMultipartUpload" if uploaded else CREATED


def _sequencer(file: _File, *, later: bool) -> str:
    """It went later than it came, and before whatever came next."""
    return f"{at + later:018X}" if (at := _committed_ns(file)) else ""


def _milliseconds(file: _File) -> int | None:
    """When it came: of when it went nothing is told."""
    if at := _committed_ns(file):
        return at // 1_000_000
    seconds = file.attributes.get("mtime")
    if isinstance(seconds, int) and 0 < seconds < _SECONDS_MAX:
        return seconds * 1000
    return None


def _committed_ns(file: _File) -> int:
    """Newer versions say when; 0 of others."""
    at = file.entry.get("commit_ts_ns")
    return at if isinstance(at, int) and 0 < at < 1 << 63 else 0


def _bytes(value: Any) -> bytes:
    try:
        return b64decode(fields.soft(value), validate=True)
    except ValueError:
        return b""

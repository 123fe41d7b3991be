"""A page of ListObjectsV2, read with distrust: what is no whole page of this bucket is an error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

from streamfaas.flow.errors import Refused
from streamfaas.wire.s3_event import SIZE_MAX


class Listed(NamedTuple):
    """An object as a listing shows it. `modified_ms` is the store's own time."""

    key: bytes
    size: int
    etag: str
    modified_ms: int


class Page(NamedTuple):
    """What one answer holds, in the order of the keys' bytes; `next` continues behind it, and is
    empty at the end."""

    objects: tuple[Listed, ...]
    next: str


def page(body: bytes, bucket: str) -> Page:
    """`Refused` where it is not what S3 answers, with what is wrong: a listing that is not whole
    must never be taken for one of a bucket that has lost its objects."""
    root = _document(body, bucket)
    space = root.tag.removesuffix("ListBucketResult")
    if root.tag == space:
        raise Refused(f"{bucket}: the answer to a listing is {_told(root)}")
    if (name := root.findtext(f"{space}Name")) not in {None, bucket}:
        raise Refused(f"{bucket}: the answer to a listing is one of the bucket {name}")
    encoded = root.findtext(f"{space}EncodingType") == "url"
    try:
        objects = tuple(
            _listed(each, space, encoded=encoded) for each in root.iterfind(f"{space}Contents")
        )
    except (TypeError, ValueError) as error:
        raise Refused(f"{bucket}: an object of a listing cannot be read: {error}") from error
    token = root.findtext(f"{space}NextContinuationToken") or ""
    match root.findtext(f"{space}IsTruncated"):
        case "true" if token:
            return Page(objects, token)
        case "true":
            raise Refused(f"{bucket}: a listing goes on, and does not say where")
        case "false":
            return Page(objects, "")
    raise Refused(f"{bucket}: a listing does not say whether it is whole")


def _document(body: bytes, bucket: str) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - of expat 2.4.1 or later, which bounds entities
    except ET.ParseError as error:
        raise Refused(f"{bucket}: the answer to a listing is no XML ({error})") from error


def _told(root: ET.Element) -> str:
    name = root.tag.rpartition("}")[2]
    parts = {each.tag.rpartition("}")[2]: each.text or "" for each in root}
    said = ": ".join(filter(None, (parts.get("Code", ""), parts.get("Message", ""))))
    return f"<{name}>" + (f", {' '.join(said.split())}" if said else "")


def _listed(entry: ET.Element, space: str, *, encoded: bool) -> Listed:
    found = {each.tag: each.text or "" for each in entry}
    key = found.get(f"{space}Key", "")
    if not key:
        raise ValueError("it has no key")
    modified = datetime.fromisoformat(found.get(f"{space}LastModified", ""))
    if modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    size = int(found.get(f"{space}Size", ""))
    if not 0 <= size <= SIZE_MAX:
        raise ValueError(f"its size is {size}")
    return Listed(
        # a form's encoding: a plus sign is a space, or %2B
        unquote_to_bytes(key.replace("+", " ")) if encoded else key.encode(),
        size,
        found.get(f"{space}ETag", "").strip('"'),
        round(modified.timestamp() * 1000),
    )

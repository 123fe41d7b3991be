"""What stands in a notification of an object store, read and checked field by field: pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from streamfaas.wire.s3_event import KEY_BYTES_MAX, SIZE_MAX

BUCKET_MAX = 255
WORD_MAX = 1024
"""Characters of a name, a version or an entity tag: what is longer is none."""

SEQUENCER_MAX = 64

Table: TypeAlias = Mapping[str, Any]


class Malformed(Exception):
    """A document that is no notification: where in it, and what is wrong."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where} {what}" if where else what)
        self.where = where
        self.what = what


def place(where: str, name: str) -> str:
    """Of a field in a table that is somewhere, as complaints have it."""
    return f"{where}.{name}" if where else name


def table(of: Table, name: str, where: str) -> Table:
    """One that must be there."""
    found = of.get(name)
    if not isinstance(found, dict):
        what = "is missing" if found is None else "is no JSON object"
        raise Malformed(place(where, name), what)
    return found


def inner(of: Table, name: str) -> Table:
    """What may be missing, or be anything, where nothing depends on it."""
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def soft(value: Any) -> str:
    """A text; empty where it is none, or no short one, and nothing depends on it."""
    return value if isinstance(value, str) and len(value) <= WORD_MAX else ""


def word(of: Table, name: str, where: str) -> str:
    """A text; empty where it is missing."""
    found = of.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Malformed(place(where, name), "is no text")
    if len(found) > WORD_MAX:
        raise Malformed(place(where, name), f"is longer than {WORD_MAX} characters")
    return found


def bucket(described: Table, where: str) -> str:
    """Its name."""
    name = word(described, "name", where)
    if not name or len(name) > BUCKET_MAX or "/" in name or not name.isprintable():
        raise Malformed(place(where, "name"), "is no name of a bucket")
    return name


def key(described: Table, where: str, decoded: Callable[[str], bytes]) -> bytes:
    """As the object has it."""
    text, at = described.get("key"), place(where, "key")
    if not isinstance(text, str):
        raise Malformed(at, "is missing" if text is None else "is no text")
    found = decoded(text)
    if not 1 <= len(found) <= KEY_BYTES_MAX:
        raise Malformed(at, f"has {len(found):,} bytes, where 1 to {KEY_BYTES_MAX:,} are possible")
    return found


def as_it_is(text: str) -> bytes:
    """A key that is not encoded."""
    return text.encode()


def form_decoded(text: str) -> bytes:
    """A key that is encoded as forms are."""
    return unquote_to_bytes(text.replace("+", " "))


def sequencer(described: Table, where: str) -> str:
    """Empty where there is none."""
    found = word(described, "sequencer", where)
    if len(found) > SEQUENCER_MAX or not found.isprintable():
        raise Malformed(place(where, "sequencer"), "is no sequencer")
    return found


def etag(described: Table, where: str, *names: str) -> str | None:
    """Without its quotes, by the first of the names that it has."""
    found = (word(described, name, where).strip('"') for name in names)
    return next(filter(None, found), None)


def size(described: Table, where: str) -> int | None:
    """In bytes; None where it is not told."""
    found = described.get("size")
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= SIZE_MAX:
        raise Malformed(place(where, "size"), "is no size")
    return found


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


_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(?: ?(Z|z|[+-]\d\d:?\d\d))?", re.ASCII
)

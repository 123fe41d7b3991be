"""What a listing shows, against what is known: the steps that follow, and their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streamfaas.store.known import UNKNOWN, Known, Step
from streamfaas.wire.s3_event import CREATED, REMOVED
from streamfaas.wire.s3_listing import Listed

LATELY_MS = 2_000
"""What a notification told so shortly before a listing was asked for, may not be in that listing
yet: what the next one shows of it counts."""

GONE_MS = 14 * 24 * 3_600_000
"""For so long it is remembered of an object that it is gone: a notification waits no longer in a
queue."""


class Look(NamedTuple):
    """One page of a listing: when it was asked for, by our clock, and made, by the store's.

    `silent_ms`: what is not known and was written up to then, by the store's clock, is no event.
    `alone`: nothing but listings tells of the bucket.
    """

    asked_ms: int
    made_ms: int
    silent_ms: int = -1
    alone: bool = True


class Difference(NamedTuple):
    """What becomes of what is known of a key, and the name of the event that follows, if one
    does. `object` is what is there now."""

    step: Step
    name: str
    object: Listed | None


def differences(
    shown: Sequence[Listed], known: Sequence[Known], look: Look
) -> Iterator[Difference]:
    """Both are in the order of their keys, and of the same stretch of keys."""
    for listed, row in _side_by_side(shown, known):
        if row is not None and _is_fresh(row, look):
            continue
        if listed is None:
            assert row is not None
            yield from _missing(row, look)
        else:
            yield from _there(listed, row, look)


def _is_fresh(row: Known, look: Look) -> bool:
    """Whether a notification told of it so lately that the page may be older."""
    return row.taken_ms > look.asked_ms - LATELY_MS


def _missing(row: Known, look: Look) -> Iterator[Difference]:
    if not row.gone:
        after = row._replace(listed_ms=look.made_ms, taken_ms=0, gone=1)
        yield Difference(Step(row, None if look.alone else after), REMOVED, None)
    elif look.made_ms - max(row.listed_ms, row.told_ms) > GONE_MS:
        yield Difference(Step(row, None), "", None)


def _there(listed: Listed, row: Known | None, look: Look) -> Iterator[Difference]:
    key, size, etag, modified_ms = listed
    after = Known(key, size, etag, modified_ms, look.made_ms)
    if row is None:
        name = "" if modified_ms <= look.silent_ms else CREATED
        yield Difference(Step(None, after), name, listed)
    elif row.gone or not _is_like(listed, row):
        yield Difference(Step(row, after), CREATED, listed)
    elif not row.modified_ms:  # as we have been told
        known = row._replace(size=size, etag=etag, modified_ms=modified_ms, taken_ms=0)
        yield Difference(Step(row, known), "", listed)
    elif row.modified_ms != modified_ms:  # the same content, written again
        yield Difference(Step(row, after), CREATED, listed)


def _is_like(listed: Listed, row: Known) -> bool:
    """Not all stores tell size and entity tag in a notification."""
    return row.size in {listed.size, UNKNOWN} and row.etag in {listed.etag, ""}


def _side_by_side(
    shown: Sequence[Listed], known: Sequence[Known]
) -> Iterator[tuple[Listed | None, Known | None]]:
    """One at least of each pair is there."""
    objects, rows = iter(shown), iter(known)
    listed, row = next(objects, None), next(rows, None)
    while listed is not None or row is not None:
        if row is None or (listed is not None and listed.key < row.key):
            yield listed, None
            listed = next(objects, None)
        elif listed is None or row.key < listed.key:
            yield None, row
            row = next(rows, None)
        else:
            yield listed, row
            listed, row = next(objects, None), next(rows, None)

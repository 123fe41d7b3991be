"""What a listing shows, against what is known: the steps that follow, and their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streamfaas.store.known import GONE, PERHAPS, THERE, UNKNOWN, Known, Step
from streamfaas.wire.s3_event import CREATED, REMOVED
from streamfaas.wire.s3_listing import Listed

LATELY_MS = 2_000
"""What a notification told so shortly before a listing was asked for, may not be in that listing
yet: what the next one shows of it counts."""

ANSWERED_MS = 600_000
"""Within so long of being asked for, a page has come and been looked at."""

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
    """Whether a notification told of it so lately that the page may be older. One that came long
    after it was asked for, came by a clock that was ahead."""
    return -LATELY_MS < row.taken_ms - look.asked_ms < ANSWERED_MS


def _missing(row: Known, look: Look) -> Iterator[Difference]:
    if row.gone != GONE:
        after = row._replace(listed_ms=look.made_ms, taken_ms=0, gone=GONE)
        name = "" if row.gone == PERHAPS else REMOVED  # it has been told already
        yield Difference(Step(row, None if look.alone else after), name, None)
    elif look.made_ms - max(row.listed_ms, row.told_ms) > GONE_MS:
        yield Difference(Step(row, None), "", None)


def _there(listed: Listed, row: Known | None, look: Look) -> Iterator[Difference]:
    key, size, etag, modified_ms = listed
    after = Known(key, size, etag, modified_ms, look.made_ms)
    if row is None:
        name = "" if modified_ms <= look.silent_ms else CREATED
        yield Difference(Step(None, after), name, listed)
    elif row.gone == GONE or _is_other(listed, row):
        yield Difference(Step(row, after), CREATED, listed)
    elif row.gone or not row.modified_ms:  # as we have been told
        known = row._replace(size=size, etag=etag, modified_ms=modified_ms, taken_ms=0, gone=THERE)
        yield Difference(Step(row, known), "", listed)


def _is_other(listed: Listed, row: Known) -> bool:
    """Than was known, or the same content, written again. Not all stores tell size and entity tag
    in a notification, and none the time that a listing shows."""
    return (
        row.size not in {listed.size, UNKNOWN}
        or row.etag not in {listed.etag, ""}
        or row.modified_ms not in {listed.modified_ms, 0}
    )


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

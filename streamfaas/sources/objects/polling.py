"""A bucket's listing as a feed: what differs from what is known becomes notifications."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import anyio

from streamfaas.flow.errors import StoreError, Unreachable
from streamfaas.sources.objects.feed import Means
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.sources.objects.listing import Difference, Look, differences
from streamfaas.store.known import Known, Listing, Step
from streamfaas.store.listings import Listings
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3 import Bucket, Page
from streamfaas.wire.s3_event import Notification, S3Change, notification
from streamfaas.wire.s3_listing import Listed

PAGE = 1000
"""Objects that are listed, compared and written down at a time: no store lists more."""

_Keyed = TypeVar("_Keyed", Listed, Known)

SECOND_MS = 1_000
"""A store tells its time in whole seconds."""


@dataclass(frozen=True, slots=True)
class PollingOptions:
    """What is asked of the listings of one bucket. `existing`: objects that are there when the
    trigger is born are events. `alone`: nobody else tells of the bucket."""

    access: AwsAccess
    bucket: str
    prefix: str = ""
    suffix: str = ""
    interval_seconds: float = 60.0
    existing: bool = True
    alone: bool = True
    path_style: bool | None = None
    page: int = PAGE


class Polling:
    """Lists the bucket at once, then after each interval, and whenever `nudge` is set.

    Each page is compared with what is known of its keys, and what differs is written down in one
    transaction with its events. A listing that ends half-way has changed nothing beyond its pages,
    and nothing is ever taken for removed that a whole page did not leave out. Objects that are
    replaced twice between two listings were replaced once; one that came and went did not come. Of
    a bucket with versions, the latest ones are its objects.

    Behind a feed of notifications, those say first what happens; what a listing shows as they told
    it is no event. A notification that comes later, of what a listing has shown before, is none
    either: it is known by its entity tag and size, and by its time, which is not after that of the
    listing. Only the store's own times are compared with each other.

    Permissions needed: s3:ListBucket.
    """

    def __init__(
        self,
        options: PollingOptions,
        means: Means,
        *,
        nudge: asyncio.Event | None = None,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - outlives the process
    ) -> None:
        self.name = f"listing of {options.bucket}"
        self._options = options
        self._listings = Listings(means.store, means.name)
        self.trouble: str | None = None
        self._changed = means.changed
        self._nudge = nudge or asyncio.Event()
        self._wall_clock = wall_clock
        self._bucket = self._made()
        self._listing: Listing | None = None
        self._sequencer = 0
        self._existing = options.existing or bool(means.store.lost)

    async def open(self) -> None:
        self.trouble = None
        self._bucket = self._made()
        await self._bucket.open()
        try:
            self._listing = await self._listings.open(self._options.bucket, self._now_ms())
        except StoreError as error:
            raise Unreachable(error.line) from error
        self._sequencer = self._listing.sequencer

    async def run(self, inbox: Inbox) -> None:
        while True:
            self._nudge.clear()
            try:
                await self._look(inbox)
            except StoreError as error:
                raise Unreachable(error.line) from error
            with anyio.move_on_after(self._options.interval_seconds):
                await self._nudge.wait()

    async def close(self) -> None:
        await self._bucket.close()

    def _made(self) -> Bucket:
        options = self._options
        return Bucket(options.access, options.bucket, path_style=options.path_style)

    def _pages(self) -> AsyncGenerator[Page, None]:
        return self._bucket.pages(self._options.prefix, limit=self._options.page)

    async def _look(self, inbox: Inbox) -> None:
        """One listing, to its end."""
        assert self._listing is not None
        prefix = self._options.prefix.encode()
        since, silent_ms, asked_ms = prefix, -1, self._now_ms()
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                if self.trouble is None:
                    self.trouble = ""
                    self._changed()
                made_ms = asked_ms if page.now_ms is None else page.now_ms
                if since == prefix:
                    silent_ms = self._silent_ms(asked_ms, made_ms)
                look = Look(asked_ms, made_ms + SECOND_MS - 1, silent_ms, self._options.alone)
                until = _end(prefix) if page.last else _end_of(page, since)
                await self._compare(inbox, self._wanted(page.objects), since, until, look)
                since = until or b""
                await inbox.wait_for_room()
                asked_ms = self._now_ms()
        if not self._listing.whole:
            await self._listings.seen_whole(self._options.bucket)
            self._listing = self._listing._replace(whole=True)

    def _silent_ms(self, asked_ms: int, made_ms: int) -> int:
        """What was written up to then was there when the trigger was born, by the store's clock."""
        assert self._listing is not None
        if self._listing.whole or self._existing:
            return -1
        return made_ms - max(0, asked_ms - self._listing.born_ms) - SECOND_MS

    def _wanted(self, listed: Iterable[_Keyed]) -> list[_Keyed]:
        """Of others nothing is learnt, and nothing forgotten: the suffix may change and change
        back, as the prefix may."""
        suffix = self._options.suffix.encode()
        return [each for each in listed if each.key.endswith(suffix)]

    async def _compare(
        self, inbox: Inbox, shown: Sequence[Listed], since: bytes, until: bytes | None, look: Look
    ) -> None:
        """A stretch of keys, in pages of what is known of it."""
        assert self._listing is not None
        place = 0
        while True:
            rows = await self._listings.page(self._listing.id, since, until, self._options.page)
            full = len(rows) == self._options.page
            bound = _next(rows[-1].key) if full else until
            stop = place
            while stop < len(shown) and (bound is None or shown[stop].key < bound):
                stop += 1
            found = list(differences(shown[place:stop], self._wanted(rows), look))
            if found:
                steps = [self._told(each, look) for each in found]
                await inbox.note(self._options.bucket, steps, self._sequencer)
            if not full:
                return
            assert bound is not None
            since, place = bound, stop

    def _told(self, found: Difference, look: Look) -> tuple[Step, Notification | None]:
        if not found.name:
            return found.step, None
        self._sequencer = max(self._sequencer + 1, look.made_ms * 1_000_000)
        known = found.step.before or found.step.after
        assert known is not None
        shown = found.object
        change = S3Change(
            bucket=self._options.bucket,
            key=known.key,
            name=found.name,
            time_ms=look.made_ms if shown is None else shown.modified_ms,
            sequencer=self._sequencer_text(),
            etag=None if shown is None else shown.etag,
            size=None if shown is None else shown.size,
            region=self._options.access.region,
            principal="streamfaas",
            configuration="listing",
        )
        return found.step, notification(change)

    def _sequencer_text(self) -> str:
        """Of AWS they begin with the seconds and their fraction, of others, where they mean
        anything, they are nanoseconds: so that what goes by them goes on by them."""
        if self._options.access.endpoint_url is not None:
            return f"{self._sequencer:018X}"
        seconds, nanoseconds = divmod(self._sequencer, 1_000_000_000)
        return f"00{seconds:08X}{(nanoseconds << 32) // 1_000_000_000:08X}"

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)


def _end_of(page: Page, since: bytes) -> bytes:
    """Where a page ends that others follow; it may be empty."""
    return _next(page.objects[-1].key) if page.objects else since


def _next(key: bytes) -> bytes:
    """The first one behind a key."""
    return key + b"\0"


def _end(prefix: bytes) -> bytes | None:
    """The first key behind all that begin so. The last byte of a text is never the highest."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None

"""MinIO's stream of events as a feed: a wake-up, with a listing behind it for what it misses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streamfaas.flow.errors import Busy, Unreachable
from streamfaas.sources.objects.feed import Means
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3 import Bucket
from streamfaas.wire.s3_fields import Malformed
from streamfaas.wire.s3_notifications import notifications

MALFORMED_MAX = 20
"""Lines that cannot be read, and are told of."""


@dataclass(frozen=True, slots=True)
class ListeningOptions:
    """What is asked of the stream."""

    access: AwsAccess
    bucket: str
    prefix: str = ""
    suffix: str = ""
    events: tuple[str, ...] = ("s3:ObjectCreated:*",)
    path_style: bool | None = None


class Listening:
    """Hears what happens from now on. Whenever it begins to, it asks for a listing by `nudge`: what
    happened while it did not hear is told to nobody.

    Permissions needed: s3:ListenBucketNotification.
    """

    def __init__(self, options: ListeningOptions, means: Means, *, nudge: asyncio.Event) -> None:
        self.name = f"stream of {options.bucket}"
        self.trouble: str | None = None
        self._options = options
        self._means = means
        self._nudge = nudge
        self._bucket = self._made()
        self._malformed = 0

    async def open(self) -> None:
        self.trouble = None
        self._bucket = self._made()
        await self._bucket.open()

    async def run(self, inbox: Inbox) -> None:
        options = self._options
        async with self._bucket.listen(options.events, options.prefix, options.suffix) as lines:
            self.trouble = ""
            self._means.changed()
            self._nudge.set()
            async for line in lines:
                await self._hear(inbox, line)
        raise Unreachable(f"the {self.name} has ended")

    async def close(self) -> None:
        await self._bucket.close()

    def _made(self) -> Bucket:
        options = self._options
        return Bucket(options.access, options.bucket, path_style=options.path_style)

    async def _hear(self, inbox: Inbox, line: bytes) -> None:
        try:
            told = notifications(line)
        except Malformed as malformed:
            self._leave_out(malformed)
            return
        try:
            await inbox.take(told)
        except Busy:  # the store holds nothing back: the listing finds what is not taken here
            await inbox.wait_for_room()
            self._nudge.set()

    def _leave_out(self, malformed: Malformed) -> None:
        """The listing finds what it was about."""
        self._malformed += 1
        if self._malformed <= MALFORMED_MAX:
            remark = f"a line of the {self.name} is left out: {malformed}"
            self._means.emit(SourceChanged(self._means.name, "running", remark))
        self._nudge.set()

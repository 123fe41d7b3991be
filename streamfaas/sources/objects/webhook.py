"""Notifications that a store posts over HTTP: answered once the inbox has them for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import orjson

from streamfaas.flow.errors import Busy, WorldError
from streamfaas.sources.objects.feed import Means
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.wire.inbound import HERE, Answer, Head, authorised
from streamfaas.wire.s3_fields import Malformed
from streamfaas.wire.s3_notifications import notifications

BUSY_SECONDS = 10
"""When a store may try again while too many events wait."""

FAILED_SECONDS = 5
"""When it may where they cannot be written down."""

TOLD_SECONDS = 60.0
"""What is refused is told once in so long, and counted."""

TYPES = ("application/json", "text/plain", "application/x-www-form-urlencoded", "")
"""What stores say of their JSON: that it is some, nothing, or what their library says of all."""


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Where notifications are posted to, and what whoever posts must know."""

    address: str
    path: str
    secret: str | None = field(default=None, repr=False)
    body_bytes_max: int = 1 << 20


class Webhook:
    """A path at an address. A store that waits for the answer waits for one commit of ours.

    Who posts must know the secret, where there is one; without one, what a browser would post for a
    page is refused. What is posted is never shown. A topic of SNS that asks to be confirmed is not:
    an address that comes from outside is not followed; it is told, for a person to open.
    """

    trouble: str | None = ""

    def __init__(self, options: WebhookOptions, means: Means) -> None:
        assert means.desks is not None
        self.name = f"webhook at {options.address}{options.path}"
        self._options = options
        self._means = means
        self._desks = means.desks
        self._refused: dict[int, int] = {}
        self._told_at = -TOLD_SECONDS

    async def open(self) -> None:
        """The address listens as long as the configuration says."""

    async def run(self, inbox: Inbox) -> None:
        leave = self._desks.place(
            self._options.address, self._options.path, _Counter(self._options, inbox, self._tell)
        )
        try:
            await anyio.sleep_forever()
        finally:
            leave()

    async def close(self) -> None:
        """It has left."""

    def _tell(self, status: int, reason: str) -> None:
        """A remark for the log; not one for each."""
        self._refused[status] = self._refused.get(status, 0) + 1
        now = self._means.clock()
        if now - self._told_at < TOLD_SECONDS:
            return
        self._told_at = now
        counts = ", ".join(f"{count} of {each}" for each, count in sorted(self._refused.items()))
        remark = f"{self.name}: {reason} (so far: {counts})"
        self._means.emit(SourceChanged(self._means.name, "running", remark))


class _Counter:
    """The desk of one path."""

    def __init__(
        self, options: WebhookOptions, inbox: Inbox, tell: Callable[[int, str], None]
    ) -> None:
        self._options = options
        self._inbox = inbox
        self._tell = tell

    def admit(self, head: Head) -> Answer | int:
        refused = self._refusal(head)
        if refused is None:
            return self._options.body_bytes_max
        if refused.status >= 400:
            self._tell(refused.status, f"refused: {refused.told}")
        return refused

    def _refusal(self, head: Head) -> Answer | None:
        most, secret, headers = self._options.body_bytes_max, self._options.secret, head.headers
        if head.method in {"GET", "HEAD"}:  # MinIO asks so whether we are there
            return Answer(200, HERE)
        if head.method != "POST":
            return Answer(405, "notifications are posted", allow="POST, GET, HEAD")
        if secret is not None and not authorised(head, secret):
            return Answer(401, "the secret is missing or wrong: send it as a bearer")
        if secret is None and "origin" in headers:
            return Answer(403, "this comes from a page in a browser, and there is no secret")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in TYPES and not kind.endswith("+json"):
            return Answer(415, "notifications are application/json")
        if headers.get("content-encoding", "identity").lower() != "identity":
            return Answer(415, "bodies are not compressed")
        length = headers.get("content-length", "0")
        if len(length) > 18 or int(length) > most:
            return Answer(413, f"a body has {most} bytes at most")
        return None

    async def take(self, head: Head, body: bytes) -> Answer:
        try:
            told = notifications(body)
        except Malformed as malformed:
            return self._confirmation(body) or self._malformed(malformed)
        try:
            new = await self._inbox.take(told)
        except Busy as error:
            self._tell(503, f"cannot take more: {error}")
            return Answer(503, str(error), BUSY_SECONDS)
        except WorldError as error:
            self._tell(503, f"cannot take what comes: {error}")
            return Answer(503, "events cannot be written down at the moment", FAILED_SECONDS)
        return Answer(200, f"{new} new of {len(told)}")

    def _malformed(self, malformed: Malformed) -> Answer:
        self._tell(400, f"malformed: {malformed}")
        return Answer(400, f"malformed: {malformed}")

    def _confirmation(self, body: bytes) -> Answer | None:
        """It has been parsed before, and is no notification."""
        try:
            document = orjson.loads(body)
        except ValueError:
            return None
        if not isinstance(document, dict) or document.get("Type") != "SubscriptionConfirmation":
            return None
        url = str(document.get("SubscribeURL"))[:2048]
        shown = url if url.isprintable() else "that cannot be shown"
        self._tell(202, f"a topic asks to be confirmed: open its address yourself, {shown}")
        return Answer(202, "addresses are not followed: somebody has to open it")

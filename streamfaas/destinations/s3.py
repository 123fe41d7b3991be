"""Letters put into a bucket, one object each, under Lambda's own keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

import anyio

from streamfaas.flow.errors import Unreachable
from streamfaas.flow.letters import HOPS_HEADER, ID_HEADER, Letter, Payload
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.object_keys import object_key
from streamfaas.wire.opened import Opened
from streamfaas.wire.s3 import Bucket


@dataclass(frozen=True, slots=True)
class S3Options:
    """One bucket. `send_seconds` bounds a whole `send`, connecting included."""

    access: AwsAccess
    bucket: str
    send_seconds: float = 30.0

    def __post_init__(self) -> None:
        assert self.bucket
        assert self.send_seconds > 0


class S3:
    """A destination of type `s3`.

    Delivery: the store has answered that it has the object before `send` returns; a letter that is
    sent again has the same key, and takes its own place. Errors: `Unreachable` (nobody answers, or
    not in time), `Busy` (throttled), `Refused` (credentials, permissions), `Gone` (no such bucket).
    Permissions needed: s3:PutObject; s3:ListBucket for `doctor` and for a clear word where the
    bucket is not there.
    """

    kind: ClassVar[str] = "s3"
    per_record: ClassVar[bool] = False
    notes: ClassVar[bool] = False
    payload: Payload = "text"  # as Lambda's documents in buckets have it

    def __init__(self, options: S3Options) -> None:
        self.name = f"s3://{options.bucket}"
        self._seconds = options.send_seconds
        self._bucket = Opened(lambda: Bucket(options.access, options.bucket))

    async def open(self) -> None:
        """Makes ready; the first connection is made by the first letter."""
        await self._bucket.get()

    async def send(self, letters: Sequence[Letter]) -> None:
        try:
            with anyio.fail_after(self._seconds):
                for letter in letters:
                    await self._put(letter)
        except TimeoutError as error:
            raise Unreachable(f"{self.name}: not taken within {self._seconds:g} s") from error

    async def close(self) -> None:
        await self._bucket.close()

    async def _put(self, letter: Letter) -> None:
        bucket = await self._bucket.get()
        await bucket.put(
            object_key(letter),
            letter.document,
            content_type="application/json",
            metadata={
                ID_HEADER: letter.id,
                HOPS_HEADER: str(letter.hops),
                # what is no plain text is written as in an address
                **{each.name.lower(): quote(each.value) for each in letter.attributes},
            },
        )

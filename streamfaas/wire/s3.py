"""A bucket of S3, or of a store that speaks its language: its listing, its events, its objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import anyio

from streamfaas.flow.errors import Refused
from streamfaas.wire import aws, s3_listing, s3_stream
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3_listing import Listed

CALL_SECONDS = 60.0
"""How long one request may take, with the client's own tries."""

PAGE = 1000
"""Objects of a page, at most: no store gives more."""


SECONDS_MAX = 9_000_000_000
"""A clock that is beyond the year 2255 tells no time: nanoseconds of it have no room."""


class Page(NamedTuple):
    """Objects in the order of their keys' bytes, and the store's time when it gave them (epoch
    milliseconds, to the second; None where it does not say). `last`: none follows."""

    objects: Sequence[Listed]
    now_ms: int | None
    last: bool


class Bucket:
    """One bucket. Errors of all methods are `WorldError`s.

    `path_style`: the bucket's name is in the path of an address, and not in the host's name; not
    said, that is so wherever an address was given.
    """

    def __init__(self, access: AwsAccess, name: str, *, path_style: bool | None = None) -> None:
        self.name = name
        self._access = access
        path = access.endpoint_url is not None if path_style is None else path_style
        self._settings = {
            "s3": {"addressing_style": "path" if path else "auto"},
            # checksums of the SDK's own choice are more than other stores understand
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        self._life = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""
        self._client = await aws.client("s3", self._access, self._life, settings=self._settings)

    async def close(self) -> None:
        await self._life.aclose()

    async def pages(self, prefix: str = "", *, limit: int = PAGE) -> AsyncGenerator[Page, None]:
        """The objects whose keys begin with a prefix, page by page. `Refused` where a page is not
        whole, or keys do not come in the order of their bytes."""
        asked: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, "MaxKeys": limit}
        after = b""
        while True:
            async with self._asking("ListObjectsV2"):
                answer = await self._client.list_objects_v2(**asked, EncodingType="url")
            page = s3_listing.page(answer["Body"], self.name)
            for listed in page.objects:
                if listed.key <= after:
                    raise Refused(f"{self.name} does not list its keys in their order")
                after = listed.key
            now = aws.server_seconds(answer)
            known = now is not None and 0 <= now < SECONDS_MAX
            yield Page(page.objects, int((now or 0) * 1000) if known else None, not page.next)
            if not page.next:
                return
            if not page.objects and page.next == asked.get("ContinuationToken"):
                raise Refused(f"the listing of {self.name} stands still")
            asked["ContinuationToken"] = page.next

    async def look(self) -> None:
        """Returns where the bucket is there, and ours to list."""
        async with self._asking("HeadBucket"):
            await self._client.head_bucket(Bucket=self.name)

    async def put(
        self,
        key: str,
        content: bytes,
        *,
        content_type: str = "binary/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Writes an object, in place of one with this key; its entity tag. `metadata` is ASCII."""
        async with self._asking("PutObject"):
            answer = await self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=content,
                ContentType=content_type,
                Metadata=dict(metadata or {}),
            )
        return str(answer["ETag"]).strip('"')

    def listen(
        self, events: Sequence[str], prefix: str = "", suffix: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What happens from now on, as MinIO tells it: lines of JSON. They end in `Unreachable`,
        sooner or later; what happens while nobody listens is told to nobody."""
        endpoint = self._client.meta.endpoint_url
        filters = (("prefix", prefix), *(("events", each) for each in events), ("suffix", suffix))
        return s3_stream.listening(self._access, f"{endpoint}/{self.name}", filters)

    @asynccontextmanager
    async def _asking(self, operation: str) -> AsyncIterator[None]:
        assert self._client is not None
        try:
            with anyio.fail_after(CALL_SECONDS):
                yield
        except aws.ERRORS as error:
            raise aws.translated(error, f"{operation} of {self.name}") from error
        except KeyError as error:  # an answer that is not what the service promises
            raise Refused(f"{operation} of {self.name}: no {error} in the answer") from error

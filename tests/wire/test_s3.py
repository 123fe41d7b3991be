import itertools
from contextlib import asynccontextmanager

import anyio
import pytest

from minio_stream import minio_stream
from streamfaas.flow.errors import Gone, Refused, Unreachable, WorldError
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3 import Bucket

NAMES = itertools.count()
ODD = ["a b", "a+b", "a%2Fb", "a/b/../c", "ü/é", "x" * 1024, "with'quote\"s", "tab\tend", "~"]


@asynccontextmanager
async def bucket_on(server):
    name = f"wire-{next(NAMES)}"
    async with server.client("s3") as client:
        await client.create_bucket(Bucket=name)
    bucket = Bucket(server.access, name)
    try:
        await bucket.open()
        yield bucket
    finally:
        await bucket.close()


async def all_of(bucket, prefix="", **limits):
    pages = [page async for page in bucket.pages(prefix, **limits)]
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    return pages


@pytest.mark.slow
def test_odd_keys_come_back_in_the_order_of_their_bytes_page_by_page(aws_server):
    async def main():
        async with bucket_on(aws_server) as bucket:
            # moto's own routes end at the end of a line
            odd = [*ODD, "li\nes"] if aws_server.kind == "ministack" else [*ODD, "lines"]
            tags = {key: await bucket.put(key, key.encode()) for key in odd}
            pages = await all_of(bucket, limit=3)
            assert [len(page.objects) for page in pages] == [3, 3, 3, 1]
            assert all(page.now_ms is not None for page in pages)
            found = [each for page in pages for each in page.objects]
            assert [each.key for each in found] == sorted(key.encode() for key in odd)
            assert {each.key.decode(): each.etag for each in found} == tags
            assert all(each.size == len(each.key) for each in found)
            [page] = await all_of(bucket, "a/")
            assert [each.key for each in page.objects] == [b"a/b/../c"]

    anyio.run(main)


@pytest.mark.slow
def test_what_is_not_there_or_does_not_answer_is_a_typed_error(moto):
    async def main():
        for access, name, error in (
            (moto.access, "no-such-bucket", Gone),
            (AwsAccess("us-east-1", "http://127.0.0.1:1", "a", "b"), "bucket", Unreachable),
        ):
            bucket = Bucket(access, name)
            try:
                await bucket.open()
                with pytest.raises(error):
                    await all_of(bucket)
                with pytest.raises(error):
                    await bucket.put("key", b"")
            finally:
                await bucket.close()

    anyio.run(main)


def listed(xml):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
    return head % len(xml) + xml


@asynccontextmanager
async def answering(body):
    """A bucket of a store that always answers so."""
    async with minio_stream() as store:
        store.refuse = body
        access = AwsAccess("us-east-1", store.url, "an-id", "a-secret")
        bucket = Bucket(access, "photos")
        try:
            await bucket.open()
            yield store, bucket
        finally:
            await bucket.close()


def entries(*keys):
    return b"".join(
        b"<Contents><Key>%s</Key><Size>1</Size><ETag>e</ETag>"
        b"<LastModified>2026-01-02T03:04:05Z</LastModified></Contents>" % key
        for key in keys
    )


@pytest.mark.parametrize("keys", [(b"b", b"a"), (b"a", b"a")])
@pytest.mark.slow
def test_keys_that_are_out_of_order_are_refused(keys):
    xml = b"<ListBucketResult><IsTruncated>false</IsTruncated>" + entries(*keys)

    async def main():
        async with answering(listed(xml + b"</ListBucketResult>")) as (_, bucket):
            with pytest.raises(Refused, match="does not list its keys in their order"):
                await all_of(bucket)

    anyio.run(main)


@pytest.mark.slow
def test_an_error_that_says_it_is_a_success_is_refused():
    xml = b"<Error><Code>InternalError</Code></Error>"

    async def main():
        async with answering(listed(xml)) as (_, bucket):
            with pytest.raises(WorldError, match="InternalError"):
                await all_of(bucket)

    anyio.run(main)


# -- MinIO's stream


@pytest.mark.slow
def test_lines_come_without_what_keeps_the_stream_alive_until_it_is_cut():
    async def main():
        async with answering(b"") as (store, bucket):
            with pytest.raises(Unreachable):
                async with bucket.listen(["s3:ObjectCreated:*", "s3:x"], "in/", ".j&g") as lines:
                    store.tell(b'{"Records":[1]}\n', b' {"Rec', b'ords":[2]}', b"\n \n", b"{}\n")
                    assert [await anext(lines) for _ in range(3)] == [
                        b'{"Records":[1]}',
                        b'{"Records":[2]}',
                        b"{}",
                    ]
                    store.cut()
                    await anext(lines)
            [asked] = store.asked
            assert asked.startswith(
                "GET /photos?events=s3:ObjectCreated:*&events=s3:x&prefix=in/"
                "&suffix=.j%26g HTTP/1.1\r\n"
            )
            assert "Authorization: AWS4-HMAC-SHA256 Credential=an-id/" in asked

    anyio.run(main)


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", Refused, "HTTP 403: no"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", Gone, "HTTP 404"),
        (b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n", Refused, "HTTP 501"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Unreachable, "HTTP 503"),
        (b"HTTP/1.1 302 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Refused, "HTTP 302"),
        (b"HTTP/1.1 403 No\r\n\r\n<a><Code>No</Code><Message/><Id>7</Id></a>", Refused, "403: No$"),
        (listed(b"<ListBucketResult>"), Refused, "does not know MinIO's ListenNotification"),
        (listed(b"<?xml?>\n<a>\n"), Refused, "does not know MinIO's ListenNotification"),
        (listed(b"x" * (1 << 20) + b"xxx"), Refused, "is over"),
        (listed(b'{"half'), Unreachable, "has ended the stream"),
        (b"garbage\r\n\r\n", Unreachable, "listening to"),
        (b"", Unreachable, "listening to"),
    ],
    ids=[
        "403",
        "404",
        "501",
        "503",
        "redirect",
        "error",
        "listing",
        "lines",
        "long",
        "end",
        "garbage",
        "closed",
    ],
)
@pytest.mark.slow
def test_a_store_that_does_not_stream_is_a_typed_error(answer, error, told):
    async def main():
        async with answering(answer or b"\0") as (_, bucket):
            with pytest.raises(error, match=told):
                async with bucket.listen(["*"]) as lines:
                    async for _ in lines:
                        pass

    anyio.run(main)


@pytest.mark.slow
def test_nobody_listens_without_credentials(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    async def main():
        bucket = Bucket(AwsAccess("us-east-1", "http://127.0.0.1:1"), "photos")
        try:
            await bucket.open()
            with pytest.raises(Refused, match="credentials"):
                async with bucket.listen(["*"]):
                    pass
        finally:
            await bucket.close()

    anyio.run(main)

"""Buckets of real servers that are polled."""

import asyncio

import anyio
import orjson
import pytest
import uvloop
from aws_lambda_powertools.utilities.parser.models import S3Model

from minio_stream import minio_stream
from object_worlds import degraded, driven, nothing_more, running, taken, world
from streamfaas.sources.objects.polling import Polling
from streamfaas.sources.objects.polling import _end as end
from streamfaas.testing.conformance import crashed
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3_event import S3Change, notification

PUT, GONE = "ObjectCreated:Put", "ObjectRemoved:Delete"


def test_where_a_prefix_ends_is_behind_all_that_begin_so():
    assert end(b"") is None
    assert b"in/" <= b"in/\xff\xff" < end(b"in/") <= b"in0"


@pytest.mark.slow
def test_objects_come_change_and_go(aws_server, tmp_path):
    async def main():
        async with world(aws_server, tmp_path) as made:
            await made.put("b", "a b+c", "ü")
            async with driven(made.source()) as driver:
                assert sorted(await taken(driver, 3)) == [
                    (PUT, "%C3%BC"), (PUT, "a+b%2Bc"), (PUT, "b"),
                ]  # fmt: skip
                await nothing_more(driver)
                await made.put("b", content=b"other")
                assert await taken(driver, 1) == [(PUT, "b")]
                await made.delete("b")
                assert await taken(driver, 1) == [(GONE, "b")]
                await nothing_more(driver)
                seen = [orjson.loads(each.value) for each in driver.seen]
            for told in seen:
                S3Model.model_validate({"Records": [told]})
            created, changed, gone = (
                each["s3"]["object"] for each in seen if each["s3"]["object"]["key"] == "b"
            )
            assert (created["size"], changed["size"]) == (1, 5)
            assert created["eTag"] != changed["eTag"]
            assert created["sequencer"] < changed["sequencer"] < gone["sequencer"]

    uvloop.run(main())


@pytest.mark.slow
def test_what_happened_while_nobody_looked_is_found_and_nothing_comes_twice(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            await made.put(*(f"in/{number:04}" for number in range(35)), "else")
            async with crashed(made.source(prefix="in/", page=10)) as driver:
                first = await taken(driver, 17)
            await made.put("in/new")
            # of those that have been listed: where the kill finds the listing is left to chance
            deleted = [first[0][1], first[-1][1]]
            await made.delete(*deleted)
            async with driven(made.source(prefix="in/", page=10)) as driver:
                rest = await taken(driver, 21)
                await nothing_more(driver)
            assert sorted(key for name, key in rest if name == GONE) == sorted(deleted)
            created = [key for name, key in first + rest if name == PUT]
            assert sorted(created) == sorted(
                [f"in/{number:04}" for number in range(35)] + ["in/new"]
            )

    uvloop.run(main())


@pytest.mark.slow
def test_what_is_there_at_birth_may_be_left_alone(ministack, tmp_path):
    async def main():
        async with world(ministack, tmp_path) as made:
            await made.put("old", "older")
            await anyio.sleep(2.2)  # a listing tells its time in whole seconds
            async with driven(made.source(existing=False)) as driver:
                await made.put("new")
                assert await taken(driver, 1) == [(PUT, "new")]
                await made.delete("older")
                assert await taken(driver, 1) == [(GONE, "older")]
                await nothing_more(driver)

    uvloop.run(main())


@pytest.mark.slow
def test_only_what_is_wanted_comes(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            await made.put("in/a.jpg", "in/a.png", "out/a.jpg", "in/b.jpg")
            filters = {"prefix": "in/", "suffix": ".jpg"}
            options = {**filters, "events": ("s3:ObjectRemoved:*",)}
            async with driven(made.source(options=options, **filters)) as driver:
                await running(driver)  # a page of it has been seen, and that is all of it
                await nothing_more(driver)
                await made.delete("in/a.jpg", "in/a.png", "out/a.jpg")
                assert await taken(driver, 1) == [(GONE, "in/a.jpg")]
                await nothing_more(driver)

    uvloop.run(main())


@pytest.mark.slow
def test_a_suffix_that_changes_and_changes_back_forgets_nothing(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            await made.put("a.jpg", "b.jpg", "c.png")
            async with driven(made.source(suffix=".jpg")) as driver:
                assert len(await taken(driver, 2)) == 2
            async with driven(made.source(suffix=".png")) as driver:
                assert await taken(driver, 1) == [(PUT, "c.png")]
                await made.delete("b.jpg")
                await nothing_more(driver)
            async with driven(made.source(suffix=".jpg")) as driver:
                assert await taken(driver, 1) == [(GONE, "b.jpg")]
                await nothing_more(driver)

    uvloop.run(main())


@pytest.mark.slow
def test_a_bucket_that_is_gone_has_lost_nothing_until_it_is_there_again(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            await made.put("a", "b")
            async with driven(made.source()) as driver:
                await taken(driver, 2)
                await made.delete("a", "b")
                await taken(driver, 2)
                await made.put("a", "b")
                await taken(driver, 2)
                await made.client.delete_objects(
                    Bucket=made.bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]}
                )
                await made.client.delete_bucket(Bucket=made.bucket)
            async with driven(made.source()) as driver:
                assert "NoSuchBucket" in await degraded(driver)
                await nothing_more(driver)
                await made.client.create_bucket(Bucket=made.bucket)
                await made.put("b")
                assert sorted(await taken(driver, 2)) == [(PUT, "b"), (GONE, "a")]

    uvloop.run(main())


def listed(*keys, more=""):
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag>"
        "<LastModified>2026-01-02T03:04:05Z</LastModified></Contents>"
        for key in keys
    )
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    whole = "true" if more else "false"
    xml = f"<ListBucketResult><IsTruncated>{whole}</IsTruncated>{token}{entries}</ListBucketResult>"
    return _answer(xml)


def _answer(xml):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(xml)}\r\n\r\n{xml}".encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad",
    [
        _answer("<Error><Code>AccessDenied</Code></Error>"),
        _answer("<html><body>Please log in</body></html>"),
        listed("a", "c").replace(b"<IsTruncated>false", b"<IsTruncated>true"),
        listed("c", "a"),
        listed(more="again"),
        listed().replace(b"ListBucketResult>", b"ListAllMyBucketsResult>"),
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["error", "html", "no token", "out of order", "no end", "another answer", "forbidden"],
)
def test_nothing_is_taken_for_removed_on_the_word_of_an_answer_that_is_none(bad, moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made, minio_stream() as server:
            access = AwsAccess("us-east-1", server.url, "an-id", "a-secret")
            server.refuse = listed("a", "b", "c")
            async with driven(made.source(access=access)) as driver:
                await taken(driver, 3)
                server.refuse = bad
                assert made.bucket in await degraded(driver)
                await nothing_more(driver)
                server.refuse = listed("a", "c")
                assert await taken(driver, 1) == [(GONE, "b")]

    uvloop.run(main())


@pytest.mark.slow
def test_a_listing_that_ends_half_way_changes_nothing_beyond_its_pages(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made, minio_stream() as server:
            access = AwsAccess("us-east-1", server.url, "an-id", "a-secret")
            server.refuse = listed("a", "b", "c", "d")
            async with driven(made.source(access=access)) as driver:
                await taken(driver, 4)
                # each page is this one: it goes on, and its keys come again
                server.refuse = listed("b", more="next")
                assert await taken(driver, 1) == [(GONE, "a")]
                assert "in their order" in await degraded(driver)
                await nothing_more(driver)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 01 Jan 1000 00:00:00 GMT"])
def test_a_store_whose_clock_is_mad_is_listed_by_ours(date, moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made, minio_stream() as server:
            access = AwsAccess("us-east-1", server.url, "an-id", "a-secret")

            def shown(*keys):
                server.refuse = listed(*keys).replace(b"OK\r\n", f"OK\r\nDate: {date}\r\n".encode())

            shown("a", "b")
            async with driven(made.source(access=access)) as driver:
                assert await taken(driver, 2) == [(PUT, "a"), (PUT, "b")]
                shown("b", "c")
                assert sorted(await taken(driver, 2)) == [(PUT, "c"), (GONE, "a")]

    uvloop.run(main())


@pytest.mark.slow
def test_a_listing_waits_while_too_many_events_do(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            await made.put(*(f"{number:04}" for number in range(30)))
            options = {"pending_max": 10, "parallel": 1}
            async with driven(made.source(options=options)) as driver:
                # a page is taken whole
                assert len({key for _, key in await taken(driver, 30)}) == 30
                await nothing_more(driver)

    uvloop.run(main())


# -- behind notifications


class Notifier:
    """A feed that says what a test tells it to."""

    name = "notifier"
    trouble = ""

    def __init__(self, means):
        self.inbox = None

    async def open(self):
        pass

    async def run(self, taker):
        self.inbox = taker
        await anyio.sleep_forever()

    async def close(self):
        pass


async def told_of(made, key, name=PUT, sequencer="", **changed):
    """The notification that the store would send of an object as it is."""
    about = {"etag": None, "size": None}
    if name == PUT:
        head = await made.client.head_object(Bucket=made.bucket, Key=key)
        about = {"etag": head["ETag"].strip('"'), "size": head["ContentLength"]}
        changed.setdefault("time_ms", int(head["LastModified"].timestamp() * 1000))
    return notification(
        S3Change(made.bucket, key.encode(), name, sequencer=sequencer, **{**about, **changed})
    )


@pytest.mark.slow
def test_what_notifications_tell_first_is_no_news_to_a_listing(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            notifier = Notifier(None)
            source = made.source(
                lambda _means: notifier, lambda means: Polling(made.behind(), means)
            )
            async with driven(source) as driver:
                await nothing_more(driver, 0.3)
                for number in range(5):
                    await made.put("a", content=b"%d" % number)
                    await notifier.inbox.take([await told_of(made, "a", sequencer=f"0{number}")])
                assert await taken(driver, 5) == [(PUT, "a")] * 5
                await nothing_more(driver, 3)

    uvloop.run(main())


@pytest.mark.slow
def test_a_notification_of_what_a_listing_has_shown_before_is_a_duplicate(moto, tmp_path):
    async def main():
        async with world(moto, tmp_path) as made:
            notifier = Notifier(None)
            source = made.source(
                lambda _means: notifier, lambda means: Polling(made.behind(), means)
            )
            async with driven(source) as driver:
                await nothing_more(driver, 2.5)
                await made.put("a")
                late = await told_of(made, "a", sequencer="01")
                assert await taken(driver, 1) == [(PUT, "a")]
                assert await notifier.inbox.take([late]) == 0
                gone = await told_of(made, "a", GONE, "02", time_ms=late.time_ms + 1)
                await made.delete("a")
                assert await taken(driver, 1) == [(GONE, "a")]
                assert await notifier.inbox.take([gone]) == 0
                assert notifier.inbox.duplicates == 2
                await nothing_more(driver)

    uvloop.run(main())


@pytest.mark.slow
def test_until_a_store_has_answered_nothing_is_said_to_run(moto, tmp_path):
    """One that takes calls and says nothing."""

    async def main():
        asked = anyio.Event()

        async def silent(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await reader.read()  # until it is left
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with world(moto, tmp_path) as made, server:
            access = AwsAccess("us-east-1", url, "an-id", "a-secret")
            async with driven(made.source(access=access)) as driver:
                await asked.wait()
                assert driver.source.view().state == "connecting"
            assert made.told == []

    uvloop.run(main())


@pytest.mark.slow
def test_an_outage_is_told_once_however_often_it_is_tried(moto, tmp_path, monkeypatch):
    monkeypatch.setattr("streamfaas.sources.objects.feed.AGAIN_SECONDS", (0.1,))
    monkeypatch.setattr("streamfaas.sources.objects.feed.REFUSED_SECONDS", 0.1)

    async def main():
        async with world(moto, tmp_path) as made:
            await made.client.delete_bucket(Bucket=made.bucket)
            async with driven(made.source()) as driver:
                await degraded(driver)
                await nothing_more(driver)
                await made.client.create_bucket(Bucket=made.bucket)
                await running(driver)
            assert [each.state for each in made.told] == ["degraded", "running"]

    uvloop.run(main())

"""What is told of the objects of a bucket (point 10.7), by a real directory."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager

import anyio
import pytest

from source_subjects import loop_clock, silent
from streamfaas.sources.directory import Directory, DirectoryOptions
from streamfaas.store import Store
from streamfaas.testing.conformance import driven

pytestmark = pytest.mark.slow

LONG_AGO = 1_600_000_000


class Bucket:
    """A directory that is read as a bucket, and what is told of it."""

    def __init__(self, folder, driver):
        self.folder, self.driver = folder, driver

    def put(self, key, content=b"hello", at=LONG_AGO):
        part, path = self.folder.parent / "part", self.folder / key
        part.write_bytes(content)
        os.utime(part, (at, at))
        path.parent.mkdir(exist_ok=True)
        part.rename(path)

    async def told(self):
        """The next notification; it is finished with."""
        with anyio.fail_after(30):
            (record,) = await self.driver.take(1)
        await self.driver.finish_all()
        return json.loads(record.value)


@asynccontextmanager
async def bucket(folder):
    (folder / "inbox").mkdir()
    store = await Store.open(folder / "state" / "streamfaas.db")
    options = DirectoryOptions(
        folder / "inbox", "inbox", interval_seconds=0.05, settle_seconds=0.0,
        events=("ObjectCreated:*", "ObjectRemoved:*"),
    )  # fmt: skip
    try:
        source = Directory("f/inbox", options, store=store, clock=loop_clock, emit=silent)
        async with driven(source) as driver:
            yield Bucket(folder / "inbox", driver)
    finally:
        await store.close()


def run(folder, body):
    async def main():
        async with bucket(folder) as made:
            await body(made)

    asyncio.run(main())


def test_10_07_an_object_event_has_version_2_1_and_its_size_and_tag(tmp_path):
    async def body(b):
        b.put("a.txt")
        event = await b.told()
        assert event["eventVersion"] == "2.1"
        assert event["eventSource"] == "aws:s3"
        assert event["eventName"] == "ObjectCreated:Put"  # without "s3:"
        assert event["s3"]["s3SchemaVersion"] == "1.0"
        assert event["s3"]["object"]["size"] == 5
        assert event["s3"]["object"]["eTag"] == "5d41402abc4b2a76b9719d911017c592"

    run(tmp_path, body)


def test_10_07_a_delete_has_no_size_and_no_tag_and_a_later_sequencer(tmp_path):
    async def body(b):
        b.put("a.txt")
        created = await b.told()
        (b.folder / "a.txt").unlink()
        removed = await b.told()
        assert removed["eventName"] == "ObjectRemoved:Delete"
        assert set(removed["s3"]["object"]) == {"key", "sequencer"}
        # of equal length, so that they are compared as texts
        before, after = created["s3"]["object"]["sequencer"], removed["s3"]["object"]["sequencer"]
        assert len(before) == len(after)
        assert before < after

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("a@b", "a%40b"),
        ("in/Happy Face.jpg", "in/Happy+Face.jpg"),
        ("a+b&c=d", "a%2Bb%26c%3Dd"),
        ("ü", "%C3%BC"),
    ],
)
def test_10_07_a_key_is_encoded_as_in_a_form(tmp_path, key, told):
    async def body(b):
        b.put(key)
        assert (await b.told())["s3"]["object"]["key"] == told

    run(tmp_path, body)


def test_10_07_an_object_that_is_replaced_is_told_of_again_with_a_later_sequencer(tmp_path):
    async def body(b):
        b.put("a.txt", b"one")
        first = (await b.told())["s3"]["object"]
        b.put("a.txt", b"other", LONG_AGO + 1)
        second = (await b.told())["s3"]["object"]
        assert (first["key"], first["size"], second["size"]) == (second["key"], 3, 5)
        assert first["sequencer"] < second["sequencer"]

    run(tmp_path, body)

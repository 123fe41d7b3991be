"""Sharded logs read once more beside their reading: what of them, in which pages, and what is said."""

import itertools
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import uvloop

import dynamodb_tables
from aws_door import door
from kinesis_servers import active
from kpl_made import aggregate
from source_subjects import silent
from streamfaas.flow.errors import Busy, Gone, Refused, Unreachable
from streamfaas.sources import Rereadable, Stretch
from streamfaas.sources.sharded import rereading
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions, dynamodb
from streamfaas.sources.sharded.kinesis import KinesisOptions, kinesis
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.testing.conformance import driven
from streamfaas.wire import aws

NAMES = (f"again-{number}" for number in itertools.count())
LOG = LogOptions("trim_horizon", poll_seconds=0.2, commit_seconds=0.02, look_seconds=0.5)


@asynccontextmanager
async def clicks(server, folder, name, **changed):
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        options = KinesisOptions(server.access, name, LOG, **changed)
        source = kinesis("shop/clicks", options, store=store, emit=silent)
        async with driven(source):
            yield source
    finally:
        await store.close()


@asynccontextmanager
async def stock(server, folder, name):
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        options = DynamoDbOptions(server.access, LOG, table=name)
        source = dynamodb("shop/stock", options, store=store, emit=silent)
        async with driven(source):
            yield source
    finally:
        await store.close()


async def again(source, wanted=Stretch(), names=(), size=1_000):  # noqa: B008 - it is frozen
    """All records of a stretch, read in pages of that size."""
    found = []
    for lane, stretch in (await source.stretches(names, wanted)).items():
        more, asked = True, stretch
        while more:
            page = await source.reread(lane, asked, size)
            found += page.records
            asked, more = replace(asked, after=page.reached), page.more
    return found


def values(records):
    return [each.value for each in records]


@pytest.mark.slow
def test_all_of_a_stream_is_read_again_in_pages_closed_shards_too(kinesis, tmp_path):
    async def main():
        name = next(NAMES)
        await kinesis.create(name, 1)
        await kinesis.put(name, [("key", b"%d" % n) for n in range(7)])
        async with kinesis.client() as client:
            await client.split_shard(
                StreamName=name,
                ShardToSplit="shardId-000000000000",
                NewStartingHashKey=str(1 << 127),
            )
            await active(client, name)
        await kinesis.put(name, [("key", b"%d" % n) for n in range(7, 10)])
        async with clicks(kinesis, tmp_path, name) as source:
            assert isinstance(source, Rereadable)
            found = await again(source, size=3)
        assert values(found) == [b"%d" % n for n in range(10)]

    uvloop.run(main())


@pytest.mark.slow
def test_a_stretch_is_bounded_by_sequence_numbers_and_by_times(kinesalite, tmp_path):
    async def main():
        name = next(NAMES)
        await kinesalite.create(name, 1)
        for n in range(4):
            await kinesalite.put(name, [("key", b"%d" % n)])
        async with clicks(kinesalite, tmp_path, name) as source:
            one, two, three, four = await again(source)
            shard = [one.lane.name]
            part = Stretch(first=two.position, last=three.position)
            assert values(await again(source, part, shard, size=1)) == [b"1", b"2"]
            part = Stretch(since_ms=two.timestamp_ms, until_ms=four.timestamp_ms)
            assert values(await again(source, part)) == [
                each.value
                for each in (one, two, three)
                if two.timestamp_ms <= each.timestamp_ms < four.timestamp_ms
            ]
            assert await again(source, Stretch(until_ms=one.timestamp_ms)) == []

    uvloop.run(main())


@pytest.mark.slow
def test_an_aggregate_comes_whole_and_taken_apart(kinesalite, tmp_path):
    async def main():
        name = next(NAMES)
        await kinesalite.create(name, 1)
        inner = [(f"key {n}", None, b"%d" % n) for n in range(5)]
        await kinesalite.put(name, [("outer", aggregate(inner)), ("alone", b"x")])
        async with clicks(kinesalite, tmp_path, name, aggregated=True) as source:
            (lane, stretch), *_ = (await source.stretches((), Stretch())).items()
            page = await source.reread(lane, stretch, 2)
            assert values(page.records) == [b"0", b"1", b"2", b"3", b"4"]
            assert page.more
            assert values(await again(source, size=2)) == [b"0", b"1", b"2", b"3", b"4", b"x"]

    uvloop.run(main())


@pytest.mark.slow
def test_what_cannot_be_read_again_is_said(kinesalite, tmp_path):
    async def main():
        name = next(NAMES)
        await kinesalite.create(name, 2)
        async with clicks(kinesalite, tmp_path, name) as source:
            with pytest.raises(Gone, match="no shard nothing; there are shardId-000000000000, "):
                await source.stretches(["nothing"], Stretch())
            with pytest.raises(Refused, match=r"name that by --lane, or give times"):
                await source.stretches((), Stretch(first=3))
            with pytest.raises(Refused, match="InvalidArgumentException"):
                await again(source, Stretch(first=3), ["shardId-000000000001"])
        options = KinesisOptions(kinesalite.access, name, LOG)
        store = await Store.open(tmp_path / "other" / "streamfaas.db")
        try:
            source = kinesis("shop/clicks", options, store=store, emit=silent)
            with pytest.raises(Unreachable, match="shop/clicks is not connected"):
                await source.stretches((), Stretch())
        finally:
            await store.close()

    uvloop.run(main())


@pytest.mark.slow
def test_a_throttle_is_waited_for_and_told_where_it_does_not_end(kinesalite, tmp_path, monkeypatch):
    async def main():
        name = next(NAMES)
        await kinesalite.create(name, 1)
        await kinesalite.put(name, [("key", b"1")])
        monkeypatch.setattr(aws, "TRIES", 1)
        async with door(kinesalite) as opened, clicks(opened.server, tmp_path, name) as source:
            throttled = "ProvisionedThroughputExceededException"
            opened.fail("GetShardIterator", *[throttled] * 2)
            assert values(await again(source)) == [b"1"]
            opened.fail("GetShardIterator", *[throttled] * 500)
            monkeypatch.setattr(rereading, "READ_SECONDS", 1.5)
            with pytest.raises(Busy, match=throttled):
                await again(source)

    uvloop.run(main())


@pytest.mark.slow
def test_changes_are_read_again_by_number_and_by_time(ministack, tmp_path):
    async def main():
        name = next(NAMES)
        await dynamodb_tables.create(ministack, name)
        await dynamodb_tables.put(ministack, name, [(f"key {n}", str(n)) for n in range(6)])
        async with stock(ministack, tmp_path, name) as source:
            found = await again(source, size=4)
            assert len(found) == 6
            shard = [found[0].lane.name]
            part = Stretch(first=found[2].position, last=found[4].position)
            assert values(await again(source, part, shard, size=2)) == values(found[2:5])
            since = Stretch(since_ms=found[0].timestamp_ms)
            assert values(await again(source, since)) == values(found)
            later = Stretch(since_ms=found[-1].timestamp_ms + 100_000)
            assert await again(source, later) == []
            with pytest.raises(Gone, match=f"{10**25} is past the stream's retention, or no rec"):
                await again(source, Stretch(first=10**25), shard)

    uvloop.run(main())

"""Kinesis streams that change: shards that are split and merged, streams that go and come."""

import itertools
from contextlib import asynccontextmanager

import anyio
import pytest
import uvloop

from kinesis_servers import active
from kpl_made import aggregate
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Gone
from streamfaas.sources import Closing, Opened
from streamfaas.sources.sharded.kinesis import KinesisOptions, kinesis
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.telemetry.signals import DaemonStepped
from streamfaas.testing.conformance import driven

STREAMS = itertools.count()
HALF = 1 << 127


class World:
    """A stream, the store of a trigger, and what the trigger says."""

    def __init__(self, server, folder, name):
        self.server = server
        self.folder = folder
        self.name = name
        self.numbers = itertools.count()
        self.told = []
        self.store = None

    def source(self, start="trim_horizon", **changed):
        assert self.store is not None
        log = LogOptions(start, poll_seconds=0.2, commit_seconds=0.02, look_seconds=0.5)
        options = KinesisOptions(self.server.access, self.name, log, **changed)
        return kinesis("shop/clicks", options, store=self.store, emit=self.told.append)

    def warned(self):
        return [each.detail for each in self.told if isinstance(each, DaemonStepped)]

    async def put(self, count):
        some = list(itertools.islice(self.numbers, count))
        await self.server.put(self.name, [(f"key {each % 11}", b"%d" % each) for each in some])

    async def open_shards(self, client):
        told = (await client.list_shards(StreamName=self.name))["Shards"]
        found = [s for s in told if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        return sorted(found, key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))

    async def split(self):
        async with self.server.client() as client:
            shard = (await self.open_shards(client))[0]
            places = shard["HashKeyRange"]
            middle = (int(places["StartingHashKey"]) + int(places["EndingHashKey"])) // 2
            await client.split_shard(
                StreamName=self.name,
                ShardToSplit=shard["ShardId"],
                NewStartingHashKey=str(middle),
            )
            await active(client, self.name)

    async def merge(self):
        async with self.server.client() as client:
            one, two = [each["ShardId"] for each in (await self.open_shards(client))[:2]]
            await client.merge_shards(
                StreamName=self.name, ShardToMerge=one, AdjacentShardToMerge=two
            )
            await active(client, self.name)


@asynccontextmanager
async def world(server, folder, shards=2):
    made = World(server, folder, f"changing-{next(STREAMS)}")
    await server.create(made.name, shards)
    made.store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        yield made
    finally:
        await made.store.close()


async def drained(driver, source, count, seconds=40):
    """Takes and finishes until so many records have come, and closes what is at its end, as the
    engine does. The lanes in the order in which they were opened and closed."""
    steps = []
    with anyio.fail_after(seconds):
        while len(driver.seen) < count:
            arrival = await driver.step()
            await driver.finish_all()
            match arrival:
                case Opened(lane):
                    steps.append(("open", lane.name))
                case Closing(lane):
                    steps.append(("close", lane.name))
                    del driver.ledgers[lane], driver.closing[lane]
                    driver.ready.discard(lane)
                    await source.closed(lane)
    return steps


def in_order_for_each_key(records):
    last = {}
    for record in records:
        number = int(record.value)
        assert number > last.get(record.key, -1), f"{record.key} {number}"
        last[record.key] = number


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [False, True])
def test_order_for_each_key_is_kept_over_splits_and_merges(kinesis, tmp_path, restarts):
    async def main():
        seen, steps = [], []
        async with world(kinesis, tmp_path) as made:

            async def life(count):
                source = made.source()
                async with driven(source) as driver:
                    steps.extend(await drained(driver, source, count))
                    seen.extend(driver.seen)

            await made.put(60)
            if restarts:
                await life(60)
            await made.split()
            await made.put(60)
            if restarts:
                await life(60)
            await made.merge()
            await made.put(60)
            await life(60 if restarts else 180)
        assert sorted(int(each.value) for each in seen) == list(range(180))
        in_order_for_each_key(seen)
        closed = [name for word, name in steps if word == "close"]
        assert len(closed) == 3  # one was split, two were merged
        assert len(set(closed)) == 3
        assert all(steps.index(("open", name)) < steps.index(("close", name)) for name in closed)

    uvloop.run(main())


@pytest.mark.slow
def test_what_was_there_before_is_not_for_a_trigger_that_begins_at_the_latest(kinesis, tmp_path):
    async def main():
        async with world(kinesis, tmp_path) as made:
            await made.put(20)
            await anyio.sleep(1.1)  # the service tells its time in seconds
            async with driven(made.source(start="latest")) as driver:
                with anyio.move_on_after(1.0):
                    await driver.take(1)
                assert driver.seen == []
            await made.put(20)  # while nobody looks
            async with driven(made.source(start="latest")) as driver:
                await driver.take(20)
                assert {int(each.value) for each in driver.seen} == set(range(20, 40))

    uvloop.run(main())


@pytest.mark.slow
def test_a_stream_that_was_made_again_is_read_from_its_beginning_and_told_of(kinesalite, tmp_path):
    async def main():
        async with world(kinesalite, tmp_path) as made:
            await made.put(20)
            source = made.source(start="latest")
            async with driven(made.source()) as driver:
                await driver.take(20)
                await driver.finish_all()
            async with kinesalite.client() as client:
                await client.delete_stream(StreamName=made.name)
                with pytest.raises(Gone):
                    await _gone(source)
                await anyio.sleep(1.1)  # two streams of one second are one
            await kinesalite.create(made.name, 2)
            await made.put(10)
            async with driven(made.source(start="latest")) as driver:
                await driver.take(10)
                assert {int(each.value) for each in driver.seen} == set(range(20, 30))
        assert any("was deleted and made again" in each for each in made.warned())

    uvloop.run(main())


async def _gone(source):
    """Opens it until the stream is gone: a deletion takes its time."""
    try:
        with anyio.fail_after(20):
            while True:
                async with driven(source):
                    await anyio.sleep(0.1)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        await source.close()


@pytest.mark.slow
def test_aggregates_come_apart_and_a_restart_in_the_middle_of_one_goes_on_there(
    kinesalite, tmp_path
):
    async def main():
        async with world(kinesalite, tmp_path, shards=1) as made:
            inner = [(f"inner {n % 3}", None, b"%d" % n) for n in range(12)]
            await kinesalite.put(
                made.name,
                [("outer", aggregate(inner[:7])), ("alone", b"x"), ("outer", aggregate(inner[7:]))],
            )
            async with driven(made.source(aggregated=True)) as driver:
                await driver.take(13)
                assert [each.value for each in driver.seen] == [
                    *(data for _, _, data in inner[:7]), b"x", *(data for _, _, data in inner[7:])
                ]  # fmt: skip
                (run,) = driver.taken
                head, _ = run.cut(run.first + 3)
                ledger = driver.ledgers[run.lane]
                await driver.source.settle(ledger.finish(Batch((head,))))
            async with driven(made.source(aggregated=True)) as driver:
                await driver.take(10)
                assert driver.seen[0].value == b"3"
                assert driver.seen[0].position == 3

    uvloop.run(main())

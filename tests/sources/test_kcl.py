"""A stream that is shared with the Kinesis Client Library itself, or taken over from it and given
back, by its own table."""

import itertools
from contextlib import asynccontextmanager

import anyio
import pytest
import uvloop

import kcl_worker
import kpl_made
import parts
from kinesis_servers import split
from lease_nodes import fleet
from streamfaas.flow.leases import TRIM_HORIZON

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library():
    return parts.promised(kcl_worker.classes)


def shard(number):
    return f"shardId-{number:012}"


class Scene:
    """A stream, shared by those of the fleet and by workers of the library. Records are numbers that
    rise."""

    def __init__(self, made, client):
        self.made, self.client = made, client
        self.numbers = itertools.count()
        self.of = {}  # the shard that a number was put into

    async def put(self, *shards, count=10, aggregated=False):
        """So many into each shard."""
        told = (await self.client.list_shards(StreamName=self.made.name))["Shards"]
        starts = {each["ShardId"]: each["HashKeyRange"]["StartingHashKey"] for each in told}
        for name in map(shard, shards):
            some = list(itertools.islice(self.numbers, count))
            self.of |= dict.fromkeys(some, name)
            datas = [b"%d" % each for each in some]
            if aggregated:
                datas = [kpl_made.aggregate([("key", starts[name], each) for each in datas])]
            await self.client.put_records(
                StreamName=self.made.name,
                Records=[
                    {"Data": each, "PartitionKey": "key", "ExplicitHashKey": starts[name]}
                    for each in datas
                ],
            )

    async def split(self, *shards):
        for each in shards:
            await split(self.client, self.made.name, shard(each))

    @asynccontextmanager
    async def library(self, name, *, failover, **asked):
        """It looks at the table every two `failover`, in milliseconds."""
        made = self.made
        with kcl_worker.working(
            made.server,
            made.aws,
            made.name,
            made.table.name,
            name,
            failover=failover,
            **asked,
        ) as worker:
            yield worker

    async def wait_told(self, worker, numbers):
        async def come():
            assert worker.process.poll() is None, worker.told
            return set(worker.numbers()) >= set(numbers)

        await self.made.wait_for(come)

    async def wait_ended(self, worker, *shards):
        async def so():
            return {each["shard"] for each in worker.of("ended")} >= set(shards)

        await self.made.wait_for(so)

    async def wait_checkpointed(self, worker):
        async def so():
            return len(worker.of("checkpoint")) == len(worker.of("record"))

        await self.made.wait_for(so)

    async def wait_rows(self, wanted):
        async def so():
            return wanted(await self.made.rows())

        await self.made.wait_for(so)

    async def wait_shared(self, owners, places):
        """Until they have so many each; meanwhile no checkpoint goes back."""

        async def so():
            await self.never_back(places)
            return await self.made.owners() == owners

        await self.made.wait_for(so)

    async def wait_all(self, worker, places):
        """Until each record has come to somebody."""

        async def so():
            await self.never_back(places)
            return {n for *_, n in self.made.seen} | set(worker.numbers()) >= set(self.of)

        await self.made.wait_for(so)

    async def robbed(self, node, count):
        """The node has noticed that so many of its leases were taken."""
        return sum("was taken by kcl" in text for text in node.warned()) == count

    async def never_back(self, places):
        for key, row in (await self.made.rows()).items():
            place = (int(row.checkpoint), row.sub) if row.begun else (0, 0)
            assert place >= places.get(key, (0, 0)), key
            places[key] = place

    def numbers_of(self, *shards):
        names = set(map(shard, shards))
        return {number for number, name in self.of.items() if name in names}

    def checkpointed(self, worker):
        """Numbers that a worker of the library has checkpointed."""
        found = set()
        for name in {each["shard"] for each in worker.of("record")}:
            told = [each for each in worker.told if each["shard"] == name]
            last = max((n for n, e in enumerate(told) if e["what"] == "checkpoint"), default=0)
            end = len(told) if any(each["what"] == "over" for each in told) else last
            found |= {int(each["data"]) for each in told[:end] if each["what"] == "record"}
        return found

    def in_order(self, pairs):
        """Numbers of each shard come in their order."""
        last = {}
        for name, number in pairs:
            assert number > last.get(name, -1)
            last[name] = number


@asynccontextmanager
async def scene(kinesis, aws, folder, shards):
    async with kinesis.client() as client, fleet(kinesis, aws, folder, shards) as made:
        made.failover_seconds = 3.0  # beside two processes of others
        yield Scene(made, client)


def test_an_application_of_the_library_moves_to_us_and_back(kinesis_local, moto, library, tmp_path):
    """It leaves a shard that was split, at its end; one whose end it has seen and not checkpointed;
    and one within an aggregate. We leave one at its end, whose children nobody has read, and one
    that was not read to its end yet."""

    async def main():
        async with scene(kinesis_local, moto, tmp_path, 3) as it:
            made = it.made
            await it.put(0, 1, 2)
            await it.put(2, aggregated=True)
            async with it.library("kcl-1", failover=1_000, every=7, open=shard(1)) as worker:
                await it.wait_told(worker, it.of)
                await it.split(0, 1)  # into 3 and 4, 5 and 6
                await it.put(3, 4, 5, 6)
                unread = it.numbers_of(5, 6)
                await it.wait_told(worker, it.of.keys() - unread)
                await it.wait_ended(worker, shard(0), shard(1))
                await anyio.to_thread.run_sync(worker.kill)
            assert not unread & set(worker.numbers())
            done = it.checkpointed(worker)
            rows = await made.rows()
            assert rows[shard(0)].ended
            assert rows[shard(0)].children == {shard(3), shard(4)}
            assert rows[shard(1)].begun
            assert rows[shard(5)].checkpoint == TRIM_HORIZON
            assert (rows[shard(2)].sub, len(done & it.numbers_of(2))) == (3, 14)

            await it.split(2)  # into 7 and 8
            await it.put(7, 8)
            one = await made.node("one")
            left = it.of.keys() - done
            await made.wait_seen(left)
            await it.put(7)
            await it.put(8, aggregated=True)
            await it.split(3)  # into 9 and 10
            await made.wait_seen(it.of.keys() - done)
            await it.wait_rows(
                lambda rows: rows[shard(3)].ended and {shard(9), shard(10)} <= rows.keys()
            )
            await one.stop()
            assert not one.warned()
            assert sorted(number for *_, number in made.seen) == sorted(it.of.keys() - done)
            assert all(it.of[number] == name for _, name, _, number in made.seen)
            it.in_order((name, number) for _, name, _, number in made.seen)

            before = await made.rows()
            known = set(it.of)
            await it.put(4, 8, 9, 10)
            await it.split(4)  # into 11 and 12
            await it.put(11, 12)
            async with it.library("kcl-2", failover=1_000) as worker:
                await it.wait_told(worker, it.of.keys() - known)
                await it.wait_ended(worker, shard(4))
                await it.wait_checkpointed(worker)
                await anyio.to_thread.run_sync(worker.stop)
            assert sorted(worker.numbers()) == sorted(it.of.keys() - known)
            it.in_order((each["shard"], int(each["data"])) for each in worker.of("record"))
            for each in worker.of("began"):
                if (row := before.get(each["shard"])) is not None:
                    assert (each["sequence"], each["sub"]) == (row.checkpoint, row.sub)
            assert {each["sub"] for each in worker.of("began")} == {0, 9}
            rows = await made.rows()
            assert all(rows[key].stream == row.stream for key, row in before.items() if key in rows)
            assert rows[shard(4)].ended

    uvloop.run(main())


def test_a_live_worker_of_the_library_and_ours_share_and_follow_each_other(
    kinesis_local, moto, library, tmp_path
):
    async def main():
        async with scene(kinesis_local, moto, tmp_path, 4) as it:
            made, places = it.made, {}
            one = await made.node("one")
            await made.wait_owners({"one": 4})
            await it.put(0, 1, 2, 3)
            await made.wait_seen(it.of)
            async with it.library("kcl", failover=2_000) as worker:
                await it.wait_shared({"one": 2, "kcl": 2}, places)
                await made.wait_for(lambda: it.robbed(one, 2))
                before = len(made.seen)
                for _ in range(2):
                    await it.put(0, 1, 2, 3)
                    await it.wait_all(worker, places)
                assert len({name for _, name, *_ in made.seen[before:]}) == 2
                await one.kill()
                await it.wait_shared({"kcl": 4}, places)
                await it.put(0, 1, 2, 3)
                await it.wait_all(worker, places)

                two = await made.node("two")
                await it.wait_shared({"two": 2, "kcl": 2}, places)
                for _ in range(2):
                    await it.put(0, 1, 2, 3)
                    await it.wait_all(worker, places)
                assert len(worker.of("lost")) == 2
                await anyio.to_thread.run_sync(worker.kill)
                await it.wait_shared({"two": 4}, places)
                await it.put(0, 1, 2, 3)
                await it.wait_all(worker, places)
                await two.stop()
                assert not two.warned()
            for who in ("one", "two"):
                it.in_order((name, number) for by, name, _, number in made.seen if by == who)
            it.in_order((each["shard"], int(each["data"])) for each in worker.of("record"))

    uvloop.run(main())

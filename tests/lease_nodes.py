"""Several sources that share a Kinesis stream by leases, each with a store of its own, driven as
engines would."""

import itertools
import re
from contextlib import asynccontextmanager

import anyio

import dynamodb_tables
from kinesis_servers import active, split
from streamfaas.flow.batch import Batch
from streamfaas.sources import Arrived, Closing, Opened
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions, dynamodb
from streamfaas.sources.sharded.kinesis import KinesisOptions, kinesis
from streamfaas.sources.sharded.options import LeaseOptions, LogOptions
from streamfaas.store import Store
from streamfaas.telemetry.signals import DaemonStepped
from streamfaas.wire.lease_table import LeaseTable

STREAMS = itertools.count()
FAILOVER_SECONDS = 2.0


class Fleet:
    """A stream, a table of leases, and those who share them."""

    def __init__(self, server, aws, folder, tasks, *, items):
        self.server, self.aws, self.folder, self.tasks = server, aws, folder, tasks
        self.name = f"shared-{next(STREAMS)}"
        self.items = items
        self.failover_seconds = FAILOVER_SECONDS
        self.table = LeaseTable(aws.access, f"{self.name}-leases", call_seconds=10.0)
        self.numbers = itertools.count()
        self.seen = []  # who, shard, key, number: in the order in which it came

    async def put(self, count):
        some = list(itertools.islice(self.numbers, count))
        if self.items:
            items = [(f"key {each}", str(each)) for each in some]
            return await dynamodb_tables.put_many(self.server, self.name, items)
        return await self.server.put(
            self.name, [(f"key {each % 11}", b"%d" % each) for each in some]
        )

    async def split(self, shard):
        async with self.server.client() as client:
            await split(client, self.name, shard)

    async def merge(self, one, two):
        async with self.server.client() as client:
            await client.merge_shards(
                StreamName=self.name, ShardToMerge=one, AdjacentShardToMerge=two
            )
            await active(client, self.name)

    async def rows(self):
        return {lease.key: lease for lease in await self.table.scan()}

    async def owners(self):
        """Who has how many of the shards that are not at their end."""
        held = [lease.owner for lease in (await self.rows()).values() if not lease.ended]
        return {name: held.count(name) for name in held}

    async def wait_for(self, wanted, seconds=30):
        with anyio.fail_after(seconds):
            while not await wanted():  # noqa: ASYNC110 - of others
                await anyio.sleep(0.05)

    async def wait_seen(self, numbers):
        async def come():
            return {number for *_, number in self.seen} >= set(numbers)

        await self.wait_for(come)

    async def wait_owners(self, owners):
        async def so():
            return await self.owners() == owners

        await self.wait_for(so)

    async def store(self, name):
        return await Store.open(self.folder / name / "streamfaas.db")

    def source(self, name, store, told=None, start="trim_horizon", *, shares=True):
        leases = LeaseOptions(self.aws.access, self.table.name, name, self.failover_seconds)
        log = LogOptions(
            start,
            poll_seconds=0.2,
            commit_seconds=0.05,
            look_seconds=0.5,
            leases=leases if shares else None,
        )
        said = [] if told is None else told
        if self.items:
            asked = DynamoDbOptions(self.server.access, log, table=self.name)
            return dynamodb("shop/items", asked, store=store, emit=said.append)
        options = KinesisOptions(self.server.access, self.name, log, aggregated=True)
        return kinesis("shop/clicks", options, store=store, emit=said.append)

    async def node(self, name, *, shares=True):
        node = Node(self, name, shares=shares)
        await self.tasks.start(node.run)
        return node


class Node:
    """One of them: takes, finishes and closes what its source says, one thing after the other."""

    def __init__(self, fleet, name, *, shares):
        self.fleet, self.name, self.shares = fleet, name, shares
        self.told = []
        self.lanes = {}
        self.positions = []
        self.source = None
        self._reading = anyio.CancelScope()
        self._ended = anyio.Event()
        self._killed = False

    def warned(self):
        return [each.detail for each in self.told if isinstance(each, DaemonStepped)]

    async def stop(self):
        self._reading.cancel()
        await self._ended.wait()

    async def kill(self):
        self._killed = True
        await self.stop()

    async def run(self, *, task_status):
        store = await self.fleet.store(self.name)
        self.source = self.fleet.source(self.name, store, self.told, shares=self.shares)
        try:
            async with anyio.create_task_group() as tasks:
                await self.source.open(lambda work, name: tasks.start_soon(work, name=name))
                task_status.started()
                with self._reading:
                    await self._read()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                if self._killed:  # nobody writes anything more
                    await self.source._stream.close()
                    await self.source._leases.close()
                else:
                    await self.source.close()
                await store.close()
            self._ended.set()

    async def _read(self):
        while True:
            match await self.source.next(self.lanes):
                case Opened(lane):
                    self.lanes[lane] = self.source.ledger(lane)
                case Closing(lane):
                    del self.lanes[lane]
                    await self.source.closed(lane)
                case Arrived(run):
                    batch, ledger = Batch((run,)), self.lanes[run.lane]
                    ledger.take(run)
                    for record in self.source.records(batch):
                        self.positions.append(record.position)
                        number = int(re.search(rb"(?:\"S\":\"|^)(\d+)", record.value)[1])
                        self.fleet.seen.append((self.name, run.lane.name, record.key, number))
                    await self.source.settle(ledger.finish(batch))


@asynccontextmanager
async def fleet(server, aws, folder, shards=1, *, items=False):
    """`items`: it is the stream of a table's items."""
    async with anyio.create_task_group() as tasks:
        made = Fleet(server, aws, folder, tasks, items=items)
        if items:
            await dynamodb_tables.create(server, made.name)
        else:
            await server.create(made.name, shards)
        await made.table.open()
        try:
            await made.table.ensure()
            yield made
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await made.table.close()

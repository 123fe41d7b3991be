"""Shards that are read on from elsewhere: what came out of them comes after them once more."""

import itertools
from contextlib import asynccontextmanager

import anyio
import pytest
import uvloop

import dynamodb_tables
from kinesis_servers import active
from source_subjects import silent
from streamfaas.flow.errors import Gone, Refused, StoreError, Unreachable
from streamfaas.flow.record import Lane
from streamfaas.sources import Branching, Closing, Opened
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions, dynamodb
from streamfaas.sources.sharded.kinesis import KinesisOptions, kinesis
from streamfaas.sources.sharded.options import LeaseOptions, LogOptions
from streamfaas.store import Store
from streamfaas.testing.conformance import driven

NAMES = (f"sought-{number}" for number in itertools.count())
LOG = LogOptions("trim_horizon", poll_seconds=0.2, commit_seconds=0.02, look_seconds=0.5)


class Clicks:
    """A stream of one shard, whose records are numbers, and one who reads it."""

    def __init__(self, server, store, name):
        self.server, self.store, self.name = server, store, name
        self.numbers = itertools.count()

    def source(self, log=LOG):
        options = KinesisOptions(self.server.access, self.name, log)
        return kinesis("shop/clicks", options, store=self.store, emit=silent)

    async def put(self, count):
        some = list(itertools.islice(self.numbers, count))
        await self.server.put(self.name, [(f"key {n % 11}", b"%d" % n) for n in some])

    async def split(self, shard="shardId-000000000000"):
        async with self.server.client() as client:
            await client.split_shard(
                StreamName=self.name, ShardToSplit=shard, NewStartingHashKey=str(1 << 127)
            )
            await active(client, self.name)


@asynccontextmanager
async def clicks(server, folder):
    made = Clicks(server, await Store.open(folder / "state" / "streamfaas.db"), next(NAMES))
    await server.create(made.name, 1)
    try:
        yield made
    finally:
        await made.store.close()


async def finished(driver, count):
    """Takes and finishes until so many more have come, and closes what is at its end. The last of
    them, as numbers."""
    before = len(driver.seen)
    with anyio.fail_after(30):
        while len(driver.seen) < before + count or driver.closing:
            await _step(driver)
    with anyio.move_on_after(0.3):
        while True:
            await _step(driver)
    return [int(each.value) for each in driver.seen[before:]]


async def _step(driver):
    arrival = await driver.step()
    await driver.finish_all()
    if isinstance(arrival, Closing):
        driver.closing.pop(arrival.lane)
        driver.let_go(arrival.lane)
        await driver.source.closed(arrival.lane)


async def sent(driver, spots):
    """As the engine sends lanes elsewhere."""
    for lane in spots:
        driver.let_go(lane)
    await driver.source.seek(spots)
    for lane in spots:
        await driver.source.closed(lane)


def in_order(numbers, keys=11):
    """Those of a key."""
    return all(
        mine == sorted(mine)
        for mine in ([n for n in numbers if n % keys == k] for k in range(keys))
    )


@pytest.mark.slow
def test_what_came_out_of_a_shard_follows_it_back_and_closed_shards_are_passed_over(
    kinesalite, tmp_path
):
    async def main():
        async with clicks(kinesalite, tmp_path) as made:
            await made.put(20)
            await made.split()
            await made.put(20)
            async with driven(made.source()) as driver:
                log = driver.source
                assert isinstance(log, Branching)
                assert sorted(await finished(driver, 40)) == list(range(40))
                standing = log.standing()
                parent, *children = sorted(standing)
                assert standing[parent] == "end"
                assert all(standing[each].startswith("after ") for each in children)
                # back to a position, with what came later
                tenth = next(each for each in driver.seen if int(each.value) == 10)
                number = int(log.known_by(tenth))
                spots = await log.at([parent], number)
                assert spots == {parent: str(number), **dict.fromkeys(children, "earliest")}
                assert all(log.is_past(lane, spot) for lane, spot in spots.items())
                await sent(driver, spots)
                again = await finished(driver, 30)
                assert again[:10] == list(range(10, 20))
                assert sorted(again) == list(range(10, 40))
                assert in_order(again)
                # a child has nothing that would follow it, and what is closed goes by itself to all
                assert list(await log.places(children[:1], "earliest")) == children[:1]
                await sent(driver, await log.places([parent], "earliest"))
                spots = await log.places(list(standing), "latest")
                assert spots == {parent: "end", **dict.fromkeys(children, "latest")}
                assert not any(log.is_past(lane, spot) for lane, spot in spots.items())
                await sent(driver, spots)
                while {lane.name for lane in driver.ledgers} != {each.name for each in children}:
                    assert isinstance(await driver.step(), Opened)
                await driver.quiet()
                await made.put(10)
                assert sorted(await finished(driver, 10)) == list(range(40, 50))
                # what has ended stays out of it, but where it alone is meant
                assert set(await log.places(list(standing), "latest")) == set(children)
                assert await log.places([parent], "latest") == {parent: "end"}

    uvloop.run(main())


@pytest.mark.slow
def test_changes_are_gone_back_to_by_time_and_by_number(ministack, tmp_path):
    async def main():
        name = next(NAMES)
        await dynamodb_tables.create(ministack, name)
        await dynamodb_tables.put(ministack, name, [(f"key {n}", str(n)) for n in range(6)])
        store = await Store.open(tmp_path / "state" / "streamfaas.db")
        options = DynamoDbOptions(ministack.access, LOG, table=name)
        try:
            async with driven(dynamodb("shop/stock", options, store=store, emit=silent)) as driver:
                log = driver.source
                await driver.take(6)
                await driver.finish_all()
                lanes, came = list(driver.ledgers), list(driver.seen)
                await sent(driver, await log.places(lanes, came[0].timestamp_ms))
                again = await driver.take(6)
                assert [e.value for e in again] == [e.value for e in came]
                await driver.finish_all()
                number = log.known_by(came[4]).decode()
                (lane,) = {each.lane for each in came}
                spots = await log.at([lane], int(number))
                assert spots == {lane: number}
                with pytest.raises(Gone, match="or no record of this shard"):
                    await log.at([lane], 10**25)
                await sent(driver, spots)
                again = await driver.take(2)
                assert [e.value for e in again] == [e.value for e in came[4:]]
                await driver.finish_all()
                # nothing is as young as that: it is passed over, and what comes then is as old
                later = came[-1].timestamp_ms + 600_000
                await sent(driver, await log.places(lanes, later))
                while not driver.ledgers.keys() >= set(lanes):
                    await driver.step()
                await driver.quiet()
        finally:
            await store.close()

    uvloop.run(main())


@pytest.mark.slow
def test_what_cannot_be_sought_is_said_and_changes_nothing(kinesalite, tmp_path):
    async def main():
        async with clicks(kinesalite, tmp_path) as made:
            await made.put(5)
            async with driven(made.source()) as driver:
                await finished(driver, 5)
                log, (lane,) = driver.source, tuple(driver.ledgers)
                stood = log.standing()
                with pytest.raises(Refused, match="InvalidArgumentException"):
                    await log.at([lane], 3)
                with pytest.raises(Refused, match="name that by --partition"):
                    await log.at([lane, lane], 3)
                for spot, error in (
                    ("noon", "has no place noon"),
                    ("2026-01-31T08:00:00", "has no place 2026"),
                    ("end", "has no end yet: seek to latest"),
                ):
                    driver.let_go(lane)
                    with pytest.raises(Refused, match=error):
                        await log.seek({lane: spot})
                    await log.closed(lane)
                    assert isinstance(await driver.step(), Opened)
                with pytest.raises(Unreachable, match="has other shards by now"):
                    await log.seek({Lane("shop/clicks", "nothing"): "earliest"})
                assert log.standing() == stood
                await made.put(3)
                assert await finished(driver, 3) == [5, 6, 7]
            leases = LeaseOptions(made.server.access, "table", "worker")
            shared = made.source(LogOptions("trim_horizon", leases=leases))
            with pytest.raises(Refused, match="another name, another table"):
                shared.standing()

    uvloop.run(main())


@pytest.mark.slow
def test_who_does_not_know_whether_it_was_written_down_begins_anew(kinesalite, tmp_path):
    """The store alone knows then; all that is in memory is let go of."""

    async def main():
        async with clicks(kinesalite, tmp_path) as made:
            await made.put(5)
            async with driven(made.source()) as driver:
                await finished(driver, 5)
                log, (lane,) = driver.source, tuple(driver.ledgers)
                await log._keeper.write()  # what is done already must not be what is unheard
                put = log._keeper._marks.put

                async def unheard(marks):
                    await put(marks)
                    raise StoreError("no answer")

                log._keeper._marks.put = unheard
                driver.let_go(lane)
                with pytest.raises(Unreachable, match="no answer"):
                    await log.seek({lane: "earliest"})
                await log.closed(lane)
                with pytest.raises(Unreachable, match="no answer"):
                    await driver.step()
                log._keeper._marks.put = put
            async with driven(made.source()) as driver:
                assert await finished(driver, 5) == list(range(5))

    uvloop.run(main())

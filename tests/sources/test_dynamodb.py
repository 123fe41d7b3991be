"""Streams of tables: where they begin, what becomes of them, and what the service does to us."""

import itertools
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
import uvloop

import dynamodb_tables
from aws_door import RESET, TORN, door
from source_subjects import silent
from streamfaas.flow.errors import CannotSend, Gone, Refused
from streamfaas.sources import Closing
from streamfaas.sources.sharded import polling
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions, dynamodb
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.telemetry.signals import DaemonStepped
from streamfaas.testing.conformance import driven

TABLES = itertools.count()


class World:
    """A table behind a door, the store of a trigger, and what the trigger says."""

    def __init__(self, server, opened, store):
        self.server = server
        self.door = opened
        self.store = store
        self.table = f"changing-{next(TABLES)}"
        self.numbers = itertools.count()
        self.told = []

    def source(self, start="trim_horizon", **asked):
        log = LogOptions(
            start, poll_seconds=0.25, records_max=20, commit_seconds=0.02, look_seconds=0.5
        )
        asked = asked or {"table": self.table}
        options = DynamoDbOptions(self.door.server.access, log, **asked)
        return dynamodb("shop/stock", options, store=self.store, emit=self.told.append)

    def warned(self):
        return [each.detail for each in self.told if isinstance(each, DaemonStepped)]

    async def put(self, count):
        some = itertools.islice(self.numbers, count)
        await dynamodb_tables.put_many(
            self.server, self.table, [(f"key {n}", str(n)) for n in some]
        )

    async def arn(self):
        async with self.server.client("dynamodb") as client:
            told = await client.describe_table(TableName=self.table)
        return told["Table"]["LatestStreamArn"]


@asynccontextmanager
async def world(server, folder):
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        async with door(server) as opened:
            made = World(server, opened, store)
            await dynamodb_tables.create(server, made.table)
            yield made
    finally:
        await store.close()


def numbers(driver):
    return [int(json.loads(each.value)["NewImage"]["value"]["S"]) for each in driver.seen]


async def nothing_comes(driver, seconds=1.0):
    with anyio.move_on_after(seconds):
        await driver.take(1)
    assert driver.seen == []


@pytest.mark.slow
def test_latest_begins_at_birth_and_a_shard_that_had_nothing_since_keeps_that_over_a_crash(
    aws_server, tmp_path, monkeypatch
):
    monkeypatch.setattr("streamfaas.sources.sharded.reading.PASS_MARGIN_MS", 0)

    async def main():
        async with world(aws_server, tmp_path) as made:
            await made.put(30)
            await anyio.sleep(1.1)  # the service tells its time in seconds
            async with driven(made.source("latest")) as driver:
                await nothing_comes(driver)
            await made.put(30)  # while nobody looks
            async with driven(made.source("latest")) as driver:
                await driver.take(30)
                assert numbers(driver) == list(range(30, 60))
                await driver.finish_all()
            await made.put(5)
            async with driven(made.source("latest")) as driver:
                await driver.take(5)
                assert numbers(driver) == list(range(60, 65))

    uvloop.run(main())


@pytest.mark.slow
def test_changes_shortly_before_the_birth_may_come_after_such_a_crash_and_are_no_loss(
    moto, tmp_path
):
    async def main():
        async with world(moto, tmp_path) as made:
            await made.put(3)
            async with driven(made.source("latest")) as driver:
                await nothing_comes(driver, 0.6)
            await made.put(3)
            async with driven(made.source("latest")) as driver:
                await driver.take(6)
                assert numbers(driver) == list(range(6))

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("running", [True, False], ids=["while-it-runs", "while-it-is-down"])
def test_a_stream_that_was_turned_off_is_read_to_its_end_and_the_next_one_follows(
    running, ministack, tmp_path
):
    async def main():
        async with world(ministack, tmp_path) as made:
            await made.put(10)
            async with driven(made.source()) as driver:
                await driver.take(10)
                if running:
                    await driver.finish_all()
                    await off_and_on(made)
                    await ends(driver)
                    await driver.take(10)
                    assert numbers(driver) == list(range(20))
                    assert driver.seen[10].position > driver.seen[9].position
            if not running:  # nothing of the first is settled
                await off_and_on(made)
                async with driven(made.source()) as driver:
                    await driver.take(10)
                    await ends(driver)
                    await driver.take(10)
                    assert numbers(driver) == list(range(20))
        assert any("was turned off and on again" in each for each in made.warned())
        assert not any("lost" in each for each in made.warned())

    async def off_and_on(made):
        await dynamodb_tables.stream(ministack, made.table, on=False)
        await dynamodb_tables.stream(ministack, made.table, on=True)
        await made.put(10)

    uvloop.run(main())


@pytest.mark.slow
def test_a_table_that_was_dropped_and_made_again_is_read_anew(moto, tmp_path):
    """Moto answers for the stream that is gone with the one of the new table."""

    async def main():
        async with world(moto, tmp_path) as made:
            await made.put(10)
            async with driven(made.source()) as driver:
                await driver.take(10)
                await driver.finish_all()
            async with moto.client("dynamodb") as client:
                await client.delete_table(TableName=made.table)
            await dynamodb_tables.create(moto, made.table)
            await made.put(10)
            async with driven(made.source()) as driver:
                await driver.take(10)
                assert numbers(driver) == list(range(10, 20))
        assert any("was turned off and on again" in each for each in made.warned())

    uvloop.run(main())


async def ends(driver):
    """Steps until a shard is at its end and all of it is settled; its lane closes then."""
    with anyio.fail_after(30):
        while True:
            await driver.finish_all()
            match await driver.step():
                case Closing(lane):
                    del driver.ledgers[lane], driver.closing[lane]
                    driver.ready.discard(lane)
                    await driver.source.closed(lane)
                    return


@pytest.mark.slow
def test_a_stream_that_stays_off_degrades_its_trigger_once_it_has_been_read(ministack, tmp_path):
    async def main():
        async with world(ministack, tmp_path) as made:
            await made.put(10)
            await dynamodb_tables.stream(ministack, made.table, on=False)
            async with driven(made.source()) as driver:
                await driver.take(10)
                assert driver.source.view().state == "running"
                await ends(driver)
                view = driver.source.view()
                assert view.state == "degraded"
                assert view.reason == f"the stream of {made.table} was turned off"

    uvloop.run(main())


@pytest.mark.slow
def test_a_stream_can_be_named_by_its_arn_and_a_table_without_one_is_told(aws_server, tmp_path):
    async def main():
        async with world(aws_server, tmp_path) as made:
            await made.put(5)
            async with driven(made.source(stream=await made.arn())) as driver:
                await driver.take(5)
                assert numbers(driver) == list(range(5))
                view = driver.source.view()
                assert view.details["shows"] == "NEW_AND_OLD_IMAGES"
                with pytest.raises(CannotSend, match="put an item"):
                    async with driver.source.sender(""):
                        pass
            async with aws_server.client("dynamodb") as client:
                await client.create_table(
                    TableName=f"{made.table}-still",
                    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                    BillingMode="PAY_PER_REQUEST",
                )
            for table, said in ((f"{made.table}-still", "turn it on"), ("nowhere", "nowhere")):
                source = made.source(table=table)
                try:
                    with pytest.raises(Gone, match=said):
                        await source.open(lambda _work, _name: None)
                finally:
                    await source.close()

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ["LimitExceededException"] * 5,
        ["ExpiredIteratorException"] * 3,
        ["InternalFailure", RESET, TORN, RESET],
    ],
    ids=lambda faults: "-".join(dict.fromkeys(faults)),
)
def test_every_change_comes_once_and_in_order_whatever_goes_wrong_in_between(
    faults, ministack, tmp_path, monkeypatch
):
    monkeypatch.setattr(polling, "BACKOFF", replace(polling.BACKOFF, backoff_seconds=0.01))

    async def main():
        async with world(ministack, tmp_path) as made:
            await made.put(60)
            async with driven(made.source()) as driver:
                await driver.take(20)
                made.door.fail("GetRecords", *faults)
                await driver.take(40)
                assert numbers(driver) == list(range(60))

    uvloop.run(main())


@pytest.mark.slow
def test_what_retention_took_is_told_and_reading_goes_on_behind_it(
    ministack, tmp_path, monkeypatch
):
    monkeypatch.setattr(polling, "BACKOFF", replace(polling.BACKOFF, backoff_seconds=0.01))

    async def main():
        async with world(ministack, tmp_path) as made:
            await made.put(40)
            async with driven(made.source()) as driver:
                await driver.take(20)
                await driver.finish_all()
                made.door.fail("GetRecords", "TrimmedDataAccessException")
                await driver.take(40)  # all that there is, since nothing really went
                assert numbers(driver)[20:] == list(range(40))
                assert driver.seen[20].position >= 1 << 32
                (warning,) = made.warned()
                assert "lost to the stream's retention" in warning
            async with driven(made.source()) as driver:  # none of these are settled
                await driver.take(40)
                assert numbers(driver) == list(range(40))
                assert driver.seen[0].position >= 1 << 32

    uvloop.run(main())


@pytest.mark.slow
def test_all_pages_of_the_list_of_shards_are_asked_for(ministack, tmp_path):
    async def main():
        async with world(ministack, tmp_path) as made:
            arn = await made.arn()
            async with paged(arn, 250) as url:
                access = replace(ministack.access, endpoint_url=url)
                options = DynamoDbOptions(access, LogOptions("trim_horizon"), stream=arn)
                source = dynamodb("shop/stock", options, store=made.store, emit=silent)
                try:
                    await source.open(lambda _work, _name: None)
                    names = {lane.name for lane in source.view().lanes}
                finally:
                    await source.close()
        # of a chain of shards only the oldest is read; of 250 there are 125 chains
        assert names == {f"shardId-{number:020}" for number in range(0, 250, 2)}

    uvloop.run(main())


@asynccontextmanager
async def paged(arn, count):
    """Answers DescribeStream as the service does: 100 shards a page."""
    from aiohttp import web

    shards = [
        {
            "ShardId": f"shardId-{number:020}",
            "SequenceNumberRange": {"StartingSequenceNumber": f"{number:021}"},
        }
        | ({"ParentShardId": f"shardId-{number - 1:020}"} if number % 2 else {})
        for number in range(count)
    ]

    async def answer(request):
        asked = json.loads(await request.read())
        after = asked.get("ExclusiveStartShardId")
        first = next((i + 1 for i, s in enumerate(shards) if s["ShardId"] == after), 0)
        page = shards[first : first + min(asked.get("Limit", 100), 100)]
        told = {"StreamArn": arn, "StreamStatus": "ENABLED", "Shards": page}
        if first + len(page) < count:
            told["LastEvaluatedShardId"] = page[-1]["ShardId"]
        body = json.dumps({"StreamDescription": told})
        return web.Response(text=body, content_type="application/x-amz-json-1.0")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "fault", "kind"),
    [
        ("DescribeTable", "ExpiredTokenException", Refused),
        ("DescribeStream", "AccessDeniedException", Refused),
        ("DescribeStream", "ResourceNotFoundException", Gone),
    ],
)
def test_what_keeps_it_from_starting_has_its_type(operation, fault, kind, ministack, tmp_path):
    async def main():
        async with world(ministack, tmp_path) as made:
            made.door.fail(operation, *[fault] * 3)
            source = made.source()
            try:
                with pytest.raises(kind, match=operation):
                    await source.open(lambda _work, _name: None)
            finally:
                await source.close()

    uvloop.run(main())

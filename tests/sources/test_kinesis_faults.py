"""What the service does to us: nothing is lost by it, and what it is is said."""

import itertools
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
import uvloop

from aws_door import RESET, TORN, door
from source_subjects import silent
from streamfaas.flow.errors import Gone, Refused, Unreachable
from streamfaas.sources.sharded import polling
from streamfaas.sources.sharded.kinesis import KinesisOptions, kinesis
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.testing.conformance import driven

STREAMS = itertools.count()


@asynccontextmanager
async def stream(server, folder, records=40):
    """A door, and a source behind it, with so many records in its stream of one shard."""
    name = f"faults-{next(STREAMS)}"
    await server.create(name, 1)
    await server.put(name, [(f"key {n % 5}", b"%d" % n) for n in range(records)])
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        async with door(server) as opened:
            log = LogOptions("trim_horizon", records_max=10, commit_seconds=0.02)
            options = KinesisOptions(opened.server.access, name, log)

            def make():
                return kinesis("shop/clicks", options, store=store, emit=silent)

            yield opened, make
    finally:
        await store.close()


def values(driver):
    return [int(each.value) for each in driver.seen]


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ["ProvisionedThroughputExceededException"] * 5,
        ["ExpiredIteratorException"] * 3,
        ["InternalFailure", RESET, TORN, RESET],
    ],
    ids=lambda faults: "-".join(dict.fromkeys(faults)),
)
def test_every_record_comes_once_and_in_order_whatever_goes_wrong_in_between(
    faults, kinesalite, tmp_path, monkeypatch
):
    monkeypatch.setattr(polling, "BACKOFF", replace(polling.BACKOFF, backoff_seconds=0.01))

    async def main():
        async with stream(kinesalite, tmp_path) as (opened, make), driven(make()) as driver:
            await driver.take(10)
            opened.fail("GetRecords", *faults)
            await driver.take(30)
            assert values(driver) == list(range(40))

    uvloop.run(main())


@pytest.mark.slow
def test_a_shard_that_is_throttled_says_so_and_goes_on(kinesalite, tmp_path):
    async def main():
        async with stream(kinesalite, tmp_path) as (opened, make), driven(make()) as driver:
            await driver.take(10)
            # the client itself tries three times
            opened.fail("GetRecords", *["ProvisionedThroughputExceededException"] * 3)
            with anyio.move_on_after(20):
                while "Throughput" not in _note(driver.source):
                    with anyio.move_on_after(0.1):
                        await driver.step()
            seen = driver.source.view()
            assert "shardId-000000000000: GetRecords" in seen.reason
            assert "ProvisionedThroughputExceededException" in seen.reason
            (lane,) = seen.lanes.values()
            assert lane.lag is None  # it may have fallen behind meanwhile
            await driver.take(40 - len(driver.seen))
            assert values(driver) == list(range(40))
            assert not driver.source.view().reason

    uvloop.run(main())


def _note(source):
    return next(iter(source.view().lanes.values())).note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "fault", "kind"),
    [
        ("DescribeStreamSummary", "ExpiredTokenException", Refused),
        ("ListShards", "AccessDeniedException", Refused),
        ("DescribeStreamSummary", "ResourceNotFoundException", Gone),
        ("ListShards", RESET, Unreachable),
    ],
)
def test_what_keeps_it_from_starting_has_its_type_and_the_next_try_succeeds(
    operation, fault, kind, kinesalite, tmp_path
):
    async def main():
        async with stream(kinesalite, tmp_path) as (opened, make):
            opened.fail(operation, *[fault] * 3)
            source = make()
            try:
                with pytest.raises(kind, match=operation):
                    await source.open(lambda _work, _name: None)
            finally:
                await source.close()
            opened.next.clear()
            async with driven(make()) as driver:
                await driver.take(40)
                assert values(driver) == list(range(40))

    uvloop.run(main())


@pytest.mark.slow
def test_a_shard_that_nobody_answers_for_is_left_to_the_supervisor(
    kinesalite, tmp_path, monkeypatch
):
    monkeypatch.setattr(polling, "FAILURES_MAX", 1)
    monkeypatch.setattr(polling, "BACKOFF", replace(polling.BACKOFF, backoff_seconds=0.01))

    async def main():
        async with stream(kinesalite, tmp_path) as (opened, make):
            with pytest.raises(ExceptionGroup) as caught:
                async with driven(make()) as driver:
                    await driver.take(10)
                    opened.fail("GetRecords", *[RESET] * 60)
                    await driver.take(30)
            assert caught.group_contains(Unreachable, match="GetRecords")
            opened.next.clear()
            async with driven(make()) as driver:
                await driver.take(40)
                assert values(driver) == list(range(40))

    uvloop.run(main())

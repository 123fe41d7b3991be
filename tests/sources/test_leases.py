"""Sources that share a Kinesis stream by a table of leases, on real servers."""

from collections import Counter
from functools import partial

import pytest
import uvloop

from lease_nodes import fleet
from streamfaas.flow.errors import Mistaken
from streamfaas.flow.leases import LATEST, Lease
from streamfaas.sources.sharded.handed import EPOCH
from streamfaas.wire.lease_table import Lost

pytestmark = pytest.mark.slow


def times(made):
    return Counter(number for *_, number in made.seen)


async def has_elsewhere(node, owners):
    """Who has how many of the shards that a node knows others to read."""
    return Counter(node.source.view().details["elsewhere"].values()) == owners


def in_order_for_each_key(made):
    """However often something comes again: for the first time, in order."""
    firsts = {}
    for *_, key, number in made.seen:
        if number not in firsts.setdefault(key, []):
            firsts[key].append(number)
    for key, numbers in firsts.items():
        assert numbers == sorted(numbers), key


def test_who_joins_gets_its_share_and_nothing_is_run_twice(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 4) as made:
            await made.put(200)
            one = await made.node("one")
            await made.wait_owners({"one": 4})
            await made.wait_seen(range(200))
            two = await made.node("two")
            await made.wait_owners({"one": 2, "two": 2})
            await made.put(200)
            await made.wait_seen(range(400))
            assert {each[0] for each in made.seen[200:]} == {"one", "two"}
            await made.wait_for(partial(has_elsewhere, one, {"two": 2}))  # it looks now and then
            await two.stop()  # which lets go of its leases: nobody waits for them to expire
            await made.wait_owners({"one": 4})
            await made.put(100)
            await made.wait_seen(range(500))
            await one.stop()
            assert set(times(made).values()) == {1}
            assert await made.owners() == {"": 4}
            assert not one.warned()
            assert not two.warned()

    uvloop.run(main())


def test_what_a_dead_one_had_is_read_on_by_another(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 4) as made:
            one, two = await made.node("one"), await made.node("two")
            await made.wait_owners({"one": 2, "two": 2})
            await made.put(500)
            await made.wait_seen(range(100))
            await one.kill()
            before = len(made.seen)
            await made.put(500)
            await made.wait_seen(range(1_000))
            await made.wait_owners({"two": 4})
            assert {each[0] for each in made.seen[before:]} == {"two"}
            in_order_for_each_key(made)
            again = await made.node("one")
            await made.wait_owners({"one": 2, "two": 2})
            await made.put(100)
            await made.wait_seen(range(1_100))
            await again.stop()
            await two.stop()

    uvloop.run(main())


def test_shards_are_split_and_merged_among_several(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 2) as made:
            one, two = await made.node("one"), await made.node("two")
            await made.wait_owners({"one": 1, "two": 1})
            await made.put(100)
            await made.split("shardId-000000000000")
            await made.put(100)
            await made.split("shardId-000000000001")
            await made.put(100)
            await made.merge("shardId-000000000003", "shardId-000000000004")
            await made.put(100)
            await made.wait_seen(range(400))
            in_order_for_each_key(made)
            assert {each[0] for each in made.seen} == {"one", "two"}

            async def cleaned():
                rows = await made.rows()
                return not {"shardId-000000000000", "shardId-000000000001"} & rows.keys()

            await made.put(300)  # children that have nothing have not begun
            await made.wait_seen(range(700))
            await made.wait_for(cleaned)
            in_order_for_each_key(made)
            await one.stop()
            await two.stop()
            assert len([row for row in (await made.rows()).values() if not row.ended]) == 3

    uvloop.run(main())


def test_who_has_lost_a_lease_moves_no_checkpoint_and_reads_no_more(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 1) as made:
            one = await made.node("one")
            await made.put(50)
            await made.wait_seen(range(50))
            while True:  # it renews, and writes, meanwhile
                (row,) = (await made.rows()).values()
                try:
                    taken = await made.table.take(row, "thief")
                    break
                except Lost:
                    continue

            async def warned():
                return any("was taken by thief" in text for text in one.warned())

            await made.put(50)
            await made.wait_for(warned)
            assert await made.table.get(taken.key) == taken
            assert one.source.view().details["elsewhere"] == {taken.key: "thief"}
            assert not one.lanes
            await made.wait_owners({"one": 1})  # the thief does not renew
            await made.wait_seen(range(100))
            await one.stop()

    uvloop.run(main())


def test_positions_leap_where_somebody_else_has_read_meanwhile(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 1) as made:
            lives = []
            for name, count in (("one", 30), ("one", 20), ("two", 10), ("one", 5), ("one", 5)):
                node = await made.node(name)
                await made.put(count)
                await made.wait_seen(range(count))

                async def all_seen(node=node, count=count):
                    return len(node.positions) == count

                await made.wait_for(all_seen)
                await node.stop()
                lives.append(node.positions)
            assert lives[0] + lives[1] == list(range(50))
            assert lives[2] == list(range(10))  # its own store
            assert lives[3] + lives[4] == list(range(EPOCH, EPOCH + 10))
            assert set(times(made).values()) == {1}

    uvloop.run(main())


def test_what_the_library_began_at_the_latest_begins_where_we_take_it(
    kinesis_local, moto, tmp_path
):
    async def main():
        async with fleet(kinesis_local, moto, tmp_path, 1) as made:
            await made.put(20)
            row = Lease("shardId-000000000000", owner="10.0.0.7:0c8f7a3e", checkpoint=LATEST)
            await made.table.make(row)
            one = await made.node("one")
            await made.wait_owners({"one": 1})
            await made.put(20)
            await made.wait_seen(range(20, 40))
            await one.stop()
            assert set(times(made)) == set(range(20, 40))
            (row,) = (await made.rows()).values()
            assert row.begun
            assert row.switches == 0

    uvloop.run(main())


def test_a_table_of_another_stream_is_refused_and_left_as_it_is(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 2) as made:
            await made.put(50)
            one = await made.node("one")
            await made.wait_seen(range(50))
            await one.stop()  # nobody has its leases now
            before, name = await made.rows(), made.name
            made.name = f"{name}-other"
            await kinesalite.create(made.name, 2)
            store = await made.store("two")
            source = made.source("two", store)
            try:
                with pytest.raises(Mistaken, match=f"another stream .*{name}.* a table of its own"):
                    await source.open(lambda work, name: None)
            finally:
                await source.close()
                await store.close()
            assert await made.rows() == before

    uvloop.run(main())


def test_a_stream_that_was_made_again_is_read_from_its_beginning(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 2) as made:
            await made.put(50)
            one = await made.node("one")
            await made.wait_seen(range(50))
            await one.stop()
            async with kinesalite.client() as client:
                await client.delete_stream(StreamName=made.name)
                await client.get_waiter("stream_not_exists").wait(
                    StreamName=made.name, WaiterConfig={"Delay": 1}
                )
            await kinesalite.create(made.name, 2)
            await made.put(50)
            one = await made.node("one")
            await made.wait_seen(range(100))
            await one.stop()
            assert any("was deleted and made again" in text for text in one.warned())
            assert set(times(made).values()) == {1}

    uvloop.run(main())


def test_a_table_that_is_lost_is_made_anew_and_who_has_read_goes_on(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 2) as made:
            one = await made.node("one")
            await made.put(50)
            await made.wait_seen(range(50))
            await one.stop()
            for lease in await made.table.scan():
                await made.table.remove(lease)
            one = await made.node("one")
            await made.put(50)
            await made.wait_seen(range(100))
            await one.stop()
            assert any("has no leases, or not any more" in text for text in one.warned())
            for key, lease in (await made.rows()).items():  # another has made them, from the start
                await made.table.remove(lease)
                await made.table.make(Lease(key, stream=lease.stream))
            one = await made.node("one")
            await made.put(50)
            await made.wait_seen(range(150))
            await one.stop()
            assert sum("had no checkpoint any more" in text for text in one.warned()) == 2
            assert set(times(made).values()) == {1}

    uvloop.run(main())


def test_of_a_lost_table_each_makes_the_rows_that_it_has_read(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 4) as made:
            one = await made.node("one")
            await made.wait_owners({"one": 4})
            two = await made.node("two")
            await made.wait_owners({"one": 2, "two": 2})
            await made.put(200)
            await made.wait_seen(range(200))
            await one.stop()
            await two.stop()
            for lease in await made.table.scan():
                await made.table.remove(lease)
            two, one = await made.node("two"), await made.node("one")
            await made.put(100)
            await made.wait_seen(range(300))
            await one.stop()
            await two.stop()
            assert set(times(made).values()) == {1}

    uvloop.run(main())


def test_who_was_alone_goes_on_where_it_stood(kinesalite, moto, tmp_path):
    async def main():
        async with fleet(kinesalite, moto, tmp_path, 2) as made:
            await made.put(100)
            alone = await made.node("alone", shares=False)
            await made.wait_seen(range(100))
            await alone.stop()
            await made.put(50)
            other = await made.node("alone")
            await made.wait_seen(range(150))
            await other.stop()
            assert set(times(made).values()) == {1}

    uvloop.run(main())


def test_the_changes_of_a_table_are_shared_too(moto, tmp_path):
    async def main():
        async with fleet(moto, moto, tmp_path, items=True) as made:
            one = await made.node("one")
            await made.wait_owners({"one": 1})
            two = await made.node("two")
            await made.put(60)
            await made.wait_seen(range(60))
            await one.kill()
            await made.put(60)
            await made.wait_seen(range(120))
            await made.wait_owners({"two": 1})
            await two.stop()
            assert {each[0] for each in made.seen} == {"one", "two"}

    uvloop.run(main())


def test_a_table_that_takes_no_renewals_costs_the_leases_until_it_does(
    kinesalite, moto_faults, tmp_path
):
    async def main():
        async with fleet(kinesalite, moto_faults, tmp_path, 2) as made:
            one = await made.node("one")
            await made.put(60)
            await made.wait_seen(range(60))
            refused = {"service": "dynamodb", "operation": "UpdateItem"}
            async with moto_faults.of({**refused, "error": {"code": "ThrottlingException"}}):

                async def lost():
                    return sum("was not renewed" in text for text in one.warned()) == 2

                await made.wait_for(lost)
                before = len(made.seen)
                await made.put(60)

                async def closed():
                    return not one.lanes

                await made.wait_for(closed)
                assert one.source.lease_seconds > 0
                assert len(made.seen) == before
            await made.wait_seen(range(120))
            await one.stop()
            in_order_for_each_key(made)

    uvloop.run(main())

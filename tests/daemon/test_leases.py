"""Daemons that share a Kinesis stream by leases: killed, stopped for a while, and joined."""

import asyncio
import json
import signal
import textwrap
import time
from contextlib import ExitStack

import pytest

from daemon_process import DaemonProcess
from kinesis_project import produced
from kinesis_servers import active, split
from streamfaas.wire.lease_table import LeaseTable

HANDLER = """
    import base64, json, os, time

    def main(event, context):
        ids = [int(base64.b64decode(each["kinesis"]["data"])) for each in event["Records"]]
        keys = [each["kinesis"]["partitionKey"] for each in event["Records"]]
        shard = event["Records"][0]["eventID"].partition(":")[0]
        time.sleep(0.05)
        with open("/mnt/out/ledger.jsonl", "a") as ledger:
            ledger.write(json.dumps([os.environ["NODE"], shard, list(zip(keys, ids))]) + "\\n")
            ledger.flush()
            os.fsync(ledger.fileno())
        return {}
"""


def lanes(status):
    return len(status["triggers"]["clicks/clicks"]["lanes"])


class Sharing:
    """Daemons with state of their own that share a stream; what they ran, in its order, is in one
    ledger."""

    def __init__(self, folder, kinesis, dynamodb, stream):
        self.folder, self.kinesis, self.dynamodb, self.stream = folder, kinesis, dynamodb, stream
        self.failover = "3s"
        (folder / "code").mkdir()
        (folder / "out").mkdir()
        (folder / "code" / "app.py").write_text(textwrap.dedent(HANDLER))
        self.daemons = ExitStack()

    def daemon(self, name):
        own = self.folder / name
        own.mkdir()
        key = {"region": "us-east-1", "access_key_id": "a-key", "secret_access_key": "${SECRET}"}
        out = {"path": "../out", "bucket": "out", "prefix": "none/", "write": True}
        trigger = {
            "type": "kinesis",
            "connection": "stream",
            "stream": self.stream,
            "start": "earliest",
            "batch": {"size": 20},
            "leases": {
                "table": f"{self.stream}-leases",
                "connection": "table",
                "failover": self.failover,
            },
        }
        config = {
            "version": 1,
            "connections": {
                "stream": {"type": "aws", "endpoint_url": self.kinesis.url, **key},
                "table": {"type": "aws", "endpoint_url": self.dynamodb.url, **key},
            },
            "functions": {
                "clicks": {
                    "code": "../code",
                    "handler": "app.main",
                    "env": {"NODE": name},
                    "isolation": "best-effort",
                    "triggers": {
                        "clicks": trigger,
                        "out": {"type": "object-store", "via": "directory", **out},
                    },
                }
            },
        }
        (own / "streamfaas.yaml").write_text(json.dumps(config))
        env = {"SECRET": "a-secret"}
        return self.daemons.enter_context(DaemonProcess(own / "streamfaas.yaml", env=env))

    def two(self):
        """Two of them, that have two shards each."""
        one, two = self.daemon("one"), self.daemon("two")
        for each in (one, two):
            each.wait_for(lambda status: lanes(status) == 2, 60)
        return one, two

    def ran(self):
        """Who, shard, key and number, of all that was run."""
        ledger = self.folder / "out" / "ledger.jsonl"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        batches = [json.loads(line) for line in lines if line.endswith("]")]
        return [(who, shard, key, n) for who, shard, pairs in batches for key, n in pairs]

    def numbers(self):
        return {number for *_, number in self.ran()}

    def nodes(self, since=0):
        return {who for who, *_ in self.ran()[since:]}

    def worker(self, daemon):
        """What it is called in the table."""
        _, _, answer = daemon.request("GET", "/triggers/clicks/clicks")
        return json.loads(answer)["details"]["source"]["worker"]

    def has_leases(self, worker):
        """Of shards that are not at their end."""
        return any(row.owner == worker and not row.ended for row in self.rows().values())

    def rows(self):
        async def main():
            name = f"{self.stream}-leases"
            table = LeaseTable(self.dynamodb.access, name, call_seconds=20.0)
            try:
                await table.open()
                return {lease.key: lease for lease in await table.scan()}
            finally:
                await table.close()

        return asyncio.run(main())

    def resharded(self):
        """One shard is split, and two others are merged."""

        async def main():
            async with self.kinesis.client() as client:
                told = (await client.list_shards(StreamName=self.stream))["Shards"]
                told.sort(key=lambda each: int(each["HashKeyRange"]["StartingHashKey"]))
                await split(client, self.stream, told[0]["ShardId"])
                await client.merge_shards(
                    StreamName=self.stream,
                    ShardToMerge=told[1]["ShardId"],
                    AdjacentShardToMerge=told[2]["ShardId"],
                )
                await active(client, self.stream)

        asyncio.run(main())

    def in_order_for_each_key(self):
        """What comes again comes again; for the first time, all of a key comes in order."""
        last = {}
        seen = set()
        for *_, key, number in self.ran():
            if number not in seen:
                assert number > last.get(key, -1), f"{key}: {number} after {last[key]}"
                last[key] = number
                seen.add(number)


@pytest.fixture
def sharing(tmp_path, kinesalite, moto, request):
    stream = f"leased-{abs(hash(request.node.name)) % 10_000}"
    asyncio.run(kinesalite.create(stream, 4))
    made = Sharing(tmp_path, kinesalite, moto, stream)
    with made.daemons:
        yield made


@pytest.mark.slow
def test_what_a_killed_daemon_had_is_run_by_another_and_a_third_gets_its_share(sharing):
    """While one shard is split and two are merged: nothing is lost, and keys stay in order."""
    one, two = sharing.two()
    produced(sharing.kinesis, sharing.stream, range(1_500))
    two.wait_for(lambda _: sharing.nodes() == {"one", "two"}, 60)
    sharing.resharded()
    produced(sharing.kinesis, sharing.stream, range(1_500, 3_000))
    theirs = sharing.worker(one)
    one.process.kill()
    died = time.monotonic()
    one.wait()
    before = len(sharing.ran())
    assert sharing.numbers() < set(range(3_000))  # not all is done
    two.wait_for(lambda _: not sharing.has_leases(theirs), 60)
    seconds = time.monotonic() - died
    print(f"taken over {seconds:.1f} s after the kill, of a failover of {sharing.failover}")
    two.wait_for(lambda _: sharing.numbers() == set(range(3_000)), 90)
    assert sharing.nodes(before) == {"two"}
    sharing.in_order_for_each_key()

    three = sharing.daemon("three")
    three.wait_for(lambda status: lanes(status) == 2, 60)
    before = len(sharing.ran())
    produced(sharing.kinesis, sharing.stream, range(3_000, 3_500))
    two.wait_for(lambda _: sharing.numbers() == set(range(3_500)), 60)
    assert sharing.nodes(before) == {"two", "three"}
    sharing.in_order_for_each_key()
    assert two.stop() == 0
    assert three.stop() == 0
    assert len(sharing.ran()[before:]) == 500  # nothing ran twice
    assert {each.owner for each in sharing.rows().values() if not each.ended} == {""}


@pytest.mark.slow
def test_a_daemon_that_was_stopped_for_longer_than_its_leases_moves_no_checkpoint(sharing):
    one, two = sharing.two()
    produced(sharing.kinesis, sharing.stream, range(2_000))
    two.wait_for(lambda _: sharing.nodes() == {"one", "two"}, 60)
    one.signal(signal.SIGSTOP)
    try:
        two.wait_for(lambda _: sharing.numbers() == set(range(2_000)), 90)
        two.wait_for(lambda status: lanes(status) == 4)
        time.sleep(1.5)  # until its last checkpoints are written
        before = sharing.rows()
        assert len({lease.owner for lease in before.values()}) == 1
    finally:
        one.signal(signal.SIGCONT)
    one.wait_told("is not read here any more")
    after = sharing.rows()
    places = {key: (lease.checkpoint, lease.sub) for key, lease in before.items()}
    assert {key: (lease.checkpoint, lease.sub) for key, lease in after.items()} == places
    one.wait_for(lambda status: lanes(status) == 2, 60)
    produced(sharing.kinesis, sharing.stream, range(2_000, 2_300))
    two.wait_for(lambda _: sharing.numbers() == set(range(2_300)), 60)
    sharing.in_order_for_each_key()
    assert one.stop() == 0
    assert two.stop() == 0

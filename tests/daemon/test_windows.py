"""Tumbling windows through the whole daemon: what is counted in them, killed in the middle."""

import asyncio
import json
import shutil

import pytest

import dynamodb_tables
from daemon_process import DaemonProcess, write_project
from kinesis_project import produced, project
from kinesis_servers import active
from parts import CHECKOUT

pytestmark = pytest.mark.slow

COUNTING = """
import base64, json, os, time

def main(event, context):
    state = event["state"]
    ids = [int(base64.b64decode(each["kinesis"]["data"])) for each in event["Records"]]
    state["ids"] = state.get("ids", []) + ids
    time.sleep(0.005)
    if event["isFinalInvokeForWindow"]:
        with open(os.environ["LEDGER"], "a") as ledger:
            line = [event["shardId"], event["window"]["start"], event["window"]["end"], state["ids"]]
            ledger.write(json.dumps(line) + "\\n")
            ledger.flush()
            os.fsync(ledger.fileno())
    return {"state": state}
"""


def finals(folder):
    """By shard and window, what its last invocations were given: the same each time."""
    ledger = folder / "out" / "ledger.jsonl"
    found = {}
    for line in ledger.read_text().splitlines() if ledger.exists() else []:
        shard, start, end, ids = json.loads(line)
        assert found.setdefault((shard, start, end), ids) == ids
    return found


def test_each_of_ten_thousand_records_counts_once_over_kills(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("windows", 3))
    config = project(tmp_path, kinesalite, "windows", tumbling_window="2s", batch={"size": 100})
    (tmp_path / "code" / "app.py").write_text(COUNTING)
    env = {"SECRET": "a-secret"}
    produced(kinesalite, "windows", range(5_000))
    with DaemonProcess(config, env=env) as daemon:  # killed within a window
        daemon.wait_for(lambda status: status["triggers"]["clicks/clicks"]["records"] > 2_000, 60)
        daemon.process.kill()
        daemon.wait()
    produced(kinesalite, "windows", range(5_000, 10_000))
    with DaemonProcess(config, env=env) as daemon:  # and where windows end
        daemon.wait_for(lambda _: len(finals(tmp_path)) >= 2, 60)
        daemon.process.kill()
        daemon.wait()
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: sum(map(len, finals(tmp_path).values())) >= 10_000, 60)
        assert daemon.stop() == 0
        assert "lost" not in daemon.text
    counted = [each for ids in finals(tmp_path).values() for each in ids]
    assert sorted(counted) == list(range(10_000))


TELLING = """
def main(event, context):
    state, shard = event["state"], event["shardId"]
    state["records"] = state.get("records", 0) + len(event["Records"])
    print("told", shard[-1], event["isFinalInvokeForWindow"], state["records"])
    return {"state": state}
"""


def test_a_window_ends_where_its_shard_is_split_and_where_it_is_turned_off(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("split", 1))
    config = project(tmp_path, kinesalite, "split", tumbling_window="15m")
    (tmp_path / "code" / "app.py").write_text(TELLING)
    produced(kinesalite, "split", range(200))
    with DaemonProcess(config, env={"SECRET": "a-secret"}) as daemon:
        daemon.wait_told("told 0 False 200")
        asyncio.run(split(kinesalite, "split"))
        produced(kinesalite, "split", range(200, 400))
        daemon.wait_for(lambda status: status["triggers"]["clicks/clicks"]["records"] == 400, 60)
        # without windows from here on: those of the children end
        config.write_text(config.read_text().replace("15m", "0s"))
        _, _, told = daemon.request("POST", "/reload")
        assert "end at once" in json.loads(told)["changes"]["windows"]["clicks/clicks"]
        daemon.wait_told("told 1 True")
        daemon.wait_told("told 2 True")
        assert daemon.stop() == 0
        assert "lost" not in daemon.text
    lines = [
        line.partition("told ")[2].split() for line in daemon.text.splitlines() if "told " in line
    ]
    ended = lines.index(["0", "True", "200"])
    assert {shard for shard, *_ in lines[:ended]} == {"0"}
    assert {shard for shard, *_ in lines[ended + 1 :]} == {"1", "2"}
    last = {shard: int(count) for shard, _, count in lines[ended + 1 :]}
    assert sum(last.values()) == 200


async def split(kinesis, stream):
    async with kinesis.client() as client:
        (shard,) = (await client.list_shards(StreamName=stream))["Shards"]
        await client.split_shard(
            StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(1 << 127)
        )
        await active(client, stream)


TABLE = """
version: 1
state: {path: ./state}
connections:
  aws: {type: aws, region: us-east-1, endpoint_url: "%s"}
functions:
  stock:
    code: stock
    handler: app.main
    isolation: best-effort
    triggers:
      stock:
        {type: dynamodb, connection: aws, table: windows, start: earliest, batch: {size: 20}, tumbling_window: 2s}
"""
COUNTING_CHANGES = """
import json
def main(event, context):
    state, changes = event["state"], [each["dynamodb"] for each in event["Records"]]
    state["seen"] = state.get("seen", []) + [int(c["NewImage"]["value"]["S"]) for c in changes]
    if event["isFinalInvokeForWindow"]:
        print("final", json.dumps([event["shardId"], event["window"]["start"], state["seen"]]))
    return {"state": state}
"""


def printed(*daemons):
    """By lane and window, what its last invocations were given: the same each time."""
    windows = {}
    for daemon in daemons:
        for line in daemon.text.splitlines():
            if (mark := line.partition("| final "))[1]:
                lane, start, seen = json.loads(mark[2])
                assert windows.setdefault((lane, start), seen) == seen
    return windows


def test_each_change_of_a_table_counts_once_over_a_kill(tmp_path, ministack):
    def changed(numbers):
        items = [(f"item {number}", str(number)) for number in numbers]
        asyncio.run(dynamodb_tables.put_many(ministack, "windows", items))

    asyncio.run(dynamodb_tables.create(ministack, "windows"))
    config = write_project(tmp_path, TABLE % ministack.url, stock=COUNTING_CHANGES)
    env = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "a-secret"}
    changed(range(300))
    with DaemonProcess(config, env=env) as killed:
        killed.wait_for(lambda status: status["triggers"]["stock/stock"]["records"] > 40, 60)
        killed.process.kill()
        killed.wait()
    changed(range(300, 500))
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: sum(map(len, printed(killed, daemon).values())) >= 500, 60)
        assert daemon.stop() == 0
    counted = [each for seen in printed(killed, daemon).values() for each in seen]
    assert sorted(counted) == list(range(500))


KAFKA = """
version: 1
state: {path: ./state}
connections:
  main: {type: kafka, brokers: ["%s"]}
functions:
  counts:
    code: counts
    handler: app.main
    isolation: best-effort
    triggers:
      counts:
        type: kafka
        connection: main
        topics: [%s]
        start: earliest
        instance: one
        batch: {size: 50}
        tumbling_window: 3s
"""
COUNTING_KAFKA = """
import json
def main(event, context):
    state = event["state"]
    for lane, records in event["records"].items():
        state["seen"] = state.get("seen", []) + [record["offset"] for record in records]
    if event["isFinalInvokeForWindow"]:
        print("final", json.dumps([event["shardId"], event["window"]["start"], state["seen"]]))
    return {"state": state}
"""


@pytest.mark.kafka
def test_each_record_of_a_topic_counts_once_over_a_kill(tmp_path, kafka):
    async def produce(topic):
        for partition in range(2):
            await kafka.produce(topic, [b"%d" % n for n in range(1_000)], partition=partition)

    topic = asyncio.run(kafka.create_topic("windows", 2))
    config = write_project(tmp_path, KAFKA % (kafka.bootstrap, topic), counts=COUNTING_KAFKA)
    asyncio.run(produce(topic))
    with DaemonProcess(config) as killed:
        killed.wait_for(lambda status: status["triggers"]["counts/counts"]["records"] > 300, 60)
        killed.process.kill()
        killed.wait()
    asyncio.run(produce(topic))
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda _: sum(map(len, printed(killed, daemon).values())) >= 4_000, 60)
        assert daemon.stop() == 0
    for lane in (f"{topic}-0", f"{topic}-1"):
        windows = sorted(
            (start, seen) for (name, start), seen in printed(killed, daemon).items() if name == lane
        )
        assert [offset for _, seen in windows for offset in seen] == list(range(2_000))


def test_the_example_says_at_the_end_of_each_window_what_was_sold_in_it(tmp_path):
    """configs/windows.yaml as it stands, but for its haste."""
    config = tmp_path / "windows.yaml"
    text = (CHECKOUT / "configs" / "windows.yaml").read_text()
    hasty = text.replace("tumbling_window: 10s", "tumbling_window: 1s").replace(
        "window: 1s}", "window: 100ms}"
    )
    config.write_text(hasty)
    shutil.copytree(CHECKOUT / "configs" / "functions", tmp_path / "functions")
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda _: len(told(daemon)) >= 6, 30)
        trigger = daemon.status()["triggers"]["revenue/orders"]
        assert daemon.stop() == 0
    lines = told(daemon)
    for lane in ("orders-0", "orders-1"):
        windows = [(one["start"], one["end"]) for one in lines if one["lane"] == lane]
        assert windows == sorted(set(windows))
    assert all(one["orders"] <= 12 and one["total"] > 0 for one in lines)
    assert (trigger["failures"], trigger["set_aside"]) == (0, 0)
    assert any(lane["window"] for lane in trigger["lanes"])


def told(daemon):
    """What the function wrote of windows."""
    marks = (line.partition(" | {") for line in daemon.text.splitlines())
    return [json.loads("{" + rest) for _, mark, rest in marks if mark and '"lane"' in rest]

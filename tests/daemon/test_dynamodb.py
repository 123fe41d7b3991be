"""The stream of a table through the whole daemon, killed in the middle."""

import asyncio
import json
import shutil
import textwrap

import pytest

import dynamodb_tables
from daemon_process import DaemonProcess
from parts import CHECKOUT

ITEMS = 2_500

HANDLER = """
    import json, os, time

    def main(event, context):
        changes = [each["dynamodb"] for each in event["Records"]]
        pairs = [(c["Keys"]["id"]["S"], int(c["NewImage"]["value"]["S"])) for c in changes]
        time.sleep(0.005)
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(json.dumps(pairs) + "\\n")
            ledger.flush()
            os.fsync(ledger.fileno())
        return {}
"""


def project(folder, server, table):
    (folder / "code").mkdir()
    (folder / "out").mkdir()
    (folder / "code" / "app.py").write_text(textwrap.dedent(HANDLER))
    out = {
        "type": "object-store", "via": "directory", "path": "out", "bucket": "out",
        "prefix": "none/", "write": True,
    }  # fmt: skip
    stock = {
        "type": "dynamodb", "connection": "aws", "table": table, "start": "earliest",
        "parallel": {"per_shard": 3},
    }  # fmt: skip
    config = {
        "version": 1,
        "connections": {"aws": {"type": "aws", "region": "us-east-1", "endpoint_url": server.url}},
        "functions": {
            "stock": {
                "code": "code",
                "handler": "app.main",
                "env": {"LEDGER": "/mnt/out/ledger.jsonl"},
                "isolation": "best-effort",
                "triggers": {"stock": stock, "out": out},
            }
        },
    }
    path = folder / "streamfaas.yaml"
    path.write_text(json.dumps(config))  # which is YAML, too
    return path


def changed(server, table, numbers):
    items = [(f"item {number % ITEMS}", str(number)) for number in numbers]
    asyncio.run(dynamodb_tables.put_many(server, table, items))


def executed(folder):
    ledger = folder / "out" / "ledger.jsonl"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return [tuple(pair) for line in lines for pair in json.loads(line)]


@pytest.mark.slow
def test_ten_thousand_changes_reach_the_function_over_a_kill_in_order_for_each_item(
    tmp_path, ministack
):
    asyncio.run(dynamodb_tables.create(ministack, "through"))
    changed(ministack, "through", range(5_000))
    config = project(tmp_path, ministack, "through")
    env = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "a-secret"}
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: len(executed(tmp_path)) > 2_000, 60)
        daemon.process.kill()
        daemon.wait()
    assert len(executed(tmp_path)) < 10_000
    changed(ministack, "through", range(5_000, 10_000))
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: len({n for _, n in executed(tmp_path)}) == 10_000, 90)
        daemon.signal()
        assert daemon.wait() == 0
    found = executed(tmp_path)
    assert {number for _, number in found} == set(range(10_000))
    assert len(found) - 10_000 <= 5_000  # what was not marked as done when it was killed
    newest, first = {}, set()
    for item, number in found:
        if number not in first:  # what ran again after the kill has been in its place before
            assert number > newest.get(item, -1)
            newest[item] = number
            first.add(number)
    with DaemonProcess(config, env=env) as daemon:  # and nothing comes again after a stop
        daemon.wait_ready()
        daemon.signal()
        assert daemon.wait() == 0
    assert len(executed(tmp_path)) == len(found)


@pytest.mark.slow
def test_the_example_says_what_has_run_out_and_stops_at_what_it_cannot_read(tmp_path, moto):
    """configs/dynamodb.yaml as it stands: a bad item ends where bad items go, what is removed is
    not asked for, and all others are looked at."""
    config = tmp_path / "dynamodb.yaml"
    text = (CHECKOUT / "configs" / "dynamodb.yaml").read_text()
    config.write_text(text.replace("retries: {max: 5}", "retries: {max: 1, backoff: 10ms..20ms}"))
    shutil.copytree(CHECKOUT / "configs" / "functions", tmp_path / "functions")

    async def fill():
        await dynamodb_tables.create(moto, "stock")
        async with moto.client("dynamodb") as client:
            for number in range(20):
                left = {"N": str(number % 5)} if number != 7 else {"S": "some"}
                item = {"id": {"S": f"shirt {number}"}, "left": left}
                await client.put_item(TableName="stock", Item=item)
            for number in (3, 4):
                await client.delete_item(TableName="stock", Key={"id": {"S": f"shirt {number}"}})

    asyncio.run(fill())
    env = {"AWS_ENDPOINT_URL": moto.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
           "AWS_REGION": "us-east-1"}  # fmt: skip
    with DaemonProcess(config, env=env) as daemon:
        assert daemon.wait_for(
            lambda status: (
                (counted := status["triggers"]["stock/stock"])["records"] == 19
                and counted["set_aside"] == 1
                and counted["filtered"] == 2
            )
        )
        daemon.signal()
        assert daemon.wait() == 0
    (letter,) = map(json.loads, (tmp_path / "dead-stock.jsonl").read_text().splitlines())
    info = letter["DDBStreamBatchInfo"]
    assert info["batchSize"] == 1
    assert ":table/stock/stream/" in info["streamArn"]
    (record,) = letter["payload"]["Records"]
    assert record["dynamodb"]["SequenceNumber"] == info["startSequenceNumber"]
    assert record["dynamodb"]["Keys"] == {"id": {"S": "shirt 7"}}

"""A project whose function writes down what came to it from a Kinesis stream."""

import asyncio
import json
import textwrap

HANDLER = """
    import base64, json, os, time

    def main(event, context):
        at = os.environ["LEDGER"]
        shards = {each["eventID"].partition(":")[0] for each in event["Records"]}
        assert len(shards) == 1, shards
        ids = [base64.b64decode(each["kinesis"]["data"]).decode() for each in event["Records"]]
        keys = [each["kinesis"]["partitionKey"] for each in event["Records"]]
        time.sleep(0.005)
        with open(at, "a") as ledger:
            ledger.write(json.dumps([shards.pop(), list(zip(keys, ids))]) + "\\n")
            ledger.flush()
            os.fsync(ledger.fileno())
        return {}
"""


def project(folder, kinesis, stream, **trigger):
    (folder / "code").mkdir()
    (folder / "out").mkdir()
    (folder / "code" / "app.py").write_text(textwrap.dedent(HANDLER))
    asked = {"type": "kinesis", "connection": "aws", "stream": stream, "start": "earliest"}
    config = {
        "version": 1,
        "connections": {
            "aws": {
                "type": "aws",
                "region": "us-east-1",
                "endpoint_url": kinesis.url,
                "access_key_id": "a-key",
                "secret_access_key": "${SECRET}",
            }
        },
        "functions": {
            "clicks": {
                "code": "code",
                "handler": "app.main",
                "env": {"LEDGER": "/mnt/out/ledger.jsonl"},
                "isolation": "best-effort",
                "triggers": {
                    "clicks": {**asked, **trigger},
                    "out": {  # where the function may write
                        "type": "object-store",
                        "via": "directory",
                        "path": "out",
                        "bucket": "out",
                        "prefix": "none/",
                        "write": True,
                    },
                },
            }
        },
    }
    path = folder / "streamfaas.yaml"
    path.write_text(json.dumps(config))  # which is YAML, too
    return path


def executed(folder):
    """Shard, and pairs of key and id, of each batch that a handler has had."""
    ledger = folder / "out" / "ledger.jsonl"
    lines = ledger.read_text().split("\n")[:-1] if ledger.exists() else []  # the last: half written
    return [json.loads(line) for line in lines]


def ids(folder):
    return [each for _, pairs in executed(folder) for _, each in pairs]


def produced(kinesis, stream, numbers):
    records = [(f"key {number % 13}", b"%d" % number) for number in numbers]
    asyncio.run(kinesis.put(stream, records))

"""doctor asks a stream for itself."""

import asyncio
import json

import anyio
import uvloop

import dynamodb_tables
from kinesis_project import project
from streamfaas.config.check import check
from streamfaas.daemon.doctor import Check, aws, examine
from streamfaas.flow.leases import Lease
from streamfaas.wire.lease_table import LeaseTable


def findings(path, **environ):
    config, problems = check(
        path.read_text(), name=path.name, base_dir=path.parent, environ={"SECRET": "x", **environ}
    )
    assert config is not None, problems
    checks = aws.checks(config)

    async def main():
        return [found for each in checks for found in await each.perform()]

    return uvloop.run(main())


def test_a_stream_that_is_there_is_told_of_and_one_that_is_not_has_a_remedy(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("asked-for", 2))
    path = project(tmp_path, kinesalite, "asked-for")
    (found,) = findings(path)
    assert "stream asked-for: 2 shards open, 0 closed; keeps 24 h" in found.told
    path.write_text(path.read_text().replace("asked-for", "forgotten"))
    (found,) = findings(path)
    assert "ResourceNotFoundException" in found.told
    assert "`stream`" in found.remedy
    path.write_text(path.read_text().replace(kinesalite.url, "http://127.0.0.1:1"))
    (found,) = findings(path)
    assert "`endpoint_url`" in found.remedy


def test_a_tables_stream_is_told_of_with_what_its_changes_show(tmp_path, aws_server):
    asyncio.run(dynamodb_tables.create(aws_server, "told-of", "NEW_IMAGE"))
    path = project(tmp_path, aws_server, "told-of")
    text = path.read_text().replace('"type": "kinesis"', '"type": "dynamodb"')
    path.write_text(text.replace('"stream": "told-of"', '"table": "told-of"'))
    (found,) = findings(path)
    assert "changes of told-of: 1 shards open, 0 closed; keeps 24 h; NEW_IMAGE" in found.told
    path.write_text(path.read_text().replace("told-of", "forgotten"))
    (found,) = findings(path)
    assert "DescribeTable of forgotten" in found.told
    assert "turn its stream on" in found.remedy


def test_a_table_of_leases_is_looked_at(tmp_path, kinesalite, moto):
    asyncio.run(kinesalite.create("leased-asked-for", 2))
    config = json.loads(project(tmp_path, kinesalite, "leased-asked-for").read_text())
    connections = config["connections"]
    connections["table"] = {**connections["aws"], "endpoint_url": moto.url}
    trigger = config["functions"]["clicks"]["triggers"]["clicks"]
    trigger["leases"] = {"table": "doctors-leases", "connection": "table"}
    path = tmp_path / "streamfaas.yaml"
    path.write_text(json.dumps(config))
    told = [found.told for found in findings(path)]
    assert told[1] == "clicks/clicks leases: the table doctors-leases will be made"

    async def make(lease):
        table = LeaseTable(moto.access, "doctors-leases", call_seconds=20.0)
        try:
            await table.open()
            await table.ensure()
            await table.make(lease)
        finally:
            await table.close()

    asyncio.run(make(Lease("shardId-000000000000", owner="somebody")))
    told = [found.told for found in findings(path)]
    assert told[1] == "clicks/clicks leases in doctors-leases: 1 rows, by 1 workers"
    asyncio.run(make(Lease("shardId-000000000001", stream="arn:of:another 17")))
    found = findings(path)[1]
    assert found.code == "SF3070"
    assert "has the leases of another stream (arn:of:another)" in found.told
    assert "a table of its own" in found.remedy
    asyncio.run(dynamodb_tables.create(moto, "of-items"))
    path.write_text(path.read_text().replace("doctors-leases", "of-items"))
    found = findings(path)[1]
    assert "of-items is no table of leases" in found.told
    assert not found.remedy
    path.write_text(path.read_text().replace(moto.url, "http://127.0.0.1:1"))
    found = findings(path)[1]
    assert found.code == "SF3070"
    assert "`endpoint_url`" in found.remedy


def test_what_does_not_answer_in_time_is_named():
    check = Check("clicks/clicks", anyio.sleep_forever, seconds=0.01, code="SF3046")
    (found,) = uvloop.run(examine([check], str, str))
    assert found.told == "clicks/clicks: not done within 0 s"
    assert "is what it asks there?" in found.remedy

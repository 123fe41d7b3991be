"""doctor asks a stream for itself."""

import asyncio

import uvloop

import dynamodb_tables
from kinesis_project import project
from streamfaas.config.check import check
from streamfaas.daemon.doctor import aws


def findings(path, **environ):
    config, problems = check(
        path.read_text(), name=path.name, base_dir=path.parent, environ={"SECRET": "x", **environ}
    )
    assert config is not None, problems
    (one,) = aws.checks(config)

    async def main():
        return await one.perform()

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

"""doctor asks a stream for itself."""

import asyncio

import uvloop

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

"""doctor asks a bucket for itself."""

import json

import pytest
import uvloop

from streamfaas.config.check import check
from streamfaas.daemon.doctor import buckets


def findings(folder, url, bucket):
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "app.py").write_text("def main(event, context): pass\n")
    store = {"type": "aws", "region": "us-east-1", "endpoint_url": url, "access_key_id": "a",
             "secret_access_key": "${SECRET}"}  # fmt: skip
    listed = {"type": "object-store", "via": "poll", "connection": "store", "bucket": bucket}
    behind = {"type": "object-store", "via": "webhook", "bucket": bucket, "prefix": "in/",
              "reconcile": "10m", "store": "store"}  # fmt: skip
    alone = {"type": "object-store", "via": "webhook", "bucket": bucket}
    triggers = {"listed": listed, "behind": behind, "alone": alone}
    function = {"code": "code", "handler": "app.main", "triggers": triggers}
    text = json.dumps({"version": 1, "connections": {"store": store}, "functions": {"f": function}})
    config, problems = check(text, name="c", base_dir=folder, environ={"SECRET": "x"})
    assert config is not None, problems

    async def main():
        return [found for one in buckets.checks(config) for found in await one.perform()]

    return uvloop.run(main())


@pytest.mark.slow
def test_a_bucket_that_is_there_is_told_of_and_one_that_is_not_has_a_remedy(tmp_path, moto):
    async def make():
        async with moto.client("s3") as client:
            await client.create_bucket(Bucket="asked-for")
            await client.put_object(Bucket="asked-for", Key="a", Body=b"")

    uvloop.run(make())
    listed, behind = findings(tmp_path, moto.url, "asked-for")
    assert listed.told == "f/listed bucket asked-for: is listed, and has objects"
    assert behind.told == "f/behind bucket asked-for: is listed, and has no objects below in/"
    for found in findings(tmp_path, moto.url, "forgotten"):
        assert "NoSuchBucket" in found.told
        assert "`bucket`" in found.remedy
    for found in findings(tmp_path, "http://127.0.0.1:1", "asked-for"):
        assert "`endpoint_url`" in found.remedy

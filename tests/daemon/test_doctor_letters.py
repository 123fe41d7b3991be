"""doctor asks for queues, topics and buckets that letters go to, and sends nothing there."""

from __future__ import annotations

import pytest
import uvloop

from streamfaas.config.check import check
from streamfaas.daemon.doctor import Mark, letters

CONFIG = """
version: 1
connections:
  aws:
    {{type: aws, region: us-east-1, endpoint_url: "{url}", access_key_id: k, secret_access_key: "${{S}}"}}
functions:
  f:
    code: .
    handler: app.handler
    triggers:
      a: {{type: memory, topic: t, on_failure: {destination}}}
      b: {{type: memory, topic: t, on_failure: {destination}}}
"""
ARN = "arn:aws:sns:us-east-1:000000000000:letters-asked"
KINDS = {
    "sqs": "{type: sqs, connection: aws, queue: letters-asked}",
    "sns": f'{{type: sns, connection: aws, topic: "{ARN}"}}',
    "s3": "{type: s3, connection: aws, bucket: letters-asked}",
}


def findings(folder, url, kind) -> list[tuple[Mark, str, str]]:
    (folder / "app.py").write_text("def handler(event, context): ...\n")
    text = CONFIG.format(url=url, destination=KINDS[kind])
    config, problems = check(text, name="c.yaml", base_dir=folder, environ={"S": "x"})
    assert config is not None, problems

    async def main():
        (one,) = letters.checks(config)
        return [(each.mark, each.told, each.remedy) for each in await one.perform()]

    return uvloop.run(main())


async def made(server):
    async with server.client("sqs") as client:
        await client.create_queue(QueueName="letters-asked")
    async with server.client("sns") as client:
        await client.create_topic(Name="letters-asked")
    async with server.client("s3") as client:
        await client.create_bucket(Bucket="letters-asked")


@pytest.mark.slow
def test_what_is_not_there_has_a_remedy_and_what_is_is_told_of(tmp_path, ministack):
    for kind in KINDS:
        ((mark, _, remedy),) = findings(tmp_path, ministack.url, kind)
        assert (mark, remedy) == ("bad", "make it, or correct its name and `region`")
    uvloop.run(made(ministack))
    told = {kind: findings(tmp_path, ministack.url, kind)[0] for kind in KINDS}
    assert {kind: mark for kind, (mark, _, _) in told.items()} == {
        "sqs": "ok",
        "sns": "warn",
        "s3": "ok",
    }
    assert "takes letters of up to" in told["sqs"][1]
    assert "nobody has subscribed" in told["sns"][1]


def test_who_is_away_is_looked_for_at_its_address(tmp_path):
    ((mark, _, remedy),) = findings(tmp_path, "http://127.0.0.1:1", "s3")
    assert mark == "bad"
    assert "`endpoint_url`" in remedy

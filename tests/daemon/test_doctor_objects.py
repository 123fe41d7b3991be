"""doctor asks the queues that stores send their notifications to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from aws_servers import Aws
from object_scene import bucket
from parts import CHECKOUT
from streamfaas.config.check import check
from streamfaas.daemon.doctor import Finding, sqs


def findings(aws: Aws, queue: str) -> list[Finding]:
    text = (CHECKOUT / "configs" / "uploads.yaml").read_text()
    environ = {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": aws.region,
    }
    text = text.replace("queue: uploads", f"queue: {queue}")
    text = text.replace("    endpoint_url", "    access_key_id: test\n    endpoint_url")
    text = text.replace(
        "    endpoint_url", "    secret_access_key: ${AWS_SECRET_ACCESS_KEY}\n    endpoint_url"
    )
    config, problems = check(
        text, name="uploads.yaml", base_dir=CHECKOUT / "configs", environ=environ
    )
    assert config is not None, problems
    (one,) = sqs.checks(config)
    return list(uvloop.run(one.perform()))


@pytest.mark.slow
def test_a_queue_of_notifications_is_asked_for_itself(ministack: Aws, tmp_path: Path) -> None:
    async def made() -> str:
        async with bucket(ministack, "sqs") as (name, _, _):
            return name

    name = asyncio.run(made())
    (found,) = findings(ministack, name)
    assert f"uploads/uploads queue {name}" in found.told
    (found,) = findings(ministack, "not-there")
    assert "correct `queue`" in found.remedy

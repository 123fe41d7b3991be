"""Clients of AWS' services: what each costs."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import botocore
import pytest
from botocore.loaders import JSONFileLoader

from streamfaas.flow.errors import Unreachable
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

ACCESS = AwsAccess("us-east-1", "http://127.0.0.1:1", "a-key", "a-secret")


async def made(*services: str) -> list[str]:
    """What their clients call themselves; all of them are closed again."""
    async with AsyncExitStack() as life:
        clients = [await aws.client(service, ACCESS, life) for service in services]
        return [each.meta.service_model.service_name for each in clients]


@pytest.mark.slow
def test_what_describes_a_service_is_read_for_its_first_client_alone(monkeypatch):
    """It is megabytes, and nine tenths of what a client costs."""
    read: list[str] = []
    load = JSONFileLoader.load_file

    def loaded(self: JSONFileLoader, path: str) -> object:
        found = load(self, path)
        read.extend([path] if found is not None else [])
        return found

    monkeypatch.setattr(JSONFileLoader, "load_file", loaded)
    aws._loader.cache_clear()
    assert asyncio.run(made("kinesis")) == ["kinesis"]
    assert any("kinesis" in path for path in read)
    read.clear()
    assert asyncio.run(made("kinesis", "kinesis")) == ["kinesis", "kinesis"]
    assert not read
    assert asyncio.run(made("sqs", "sqs", "kinesis")) == ["sqs", "sqs", "kinesis"]
    assert len(read) == len(set(read))
    assert any("sqs" in path for path in read)


@pytest.mark.slow
def test_who_keeps_descriptions_of_his_own_has_them(monkeypatch, tmp_path):
    shutil.copytree(Path(botocore.__file__).parent / "data" / "kinesis", tmp_path / "of-our-own")
    with pytest.raises(Unreachable, match="Unknown service"):
        asyncio.run(made("of-our-own"))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    assert asyncio.run(made("of-our-own")) == ["of-our-own"]

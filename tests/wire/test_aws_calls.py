"""What is asked without the SDK is signed as by it, and left to it where that does not succeed."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

import queue_stub
from streamfaas.flow.errors import Refused
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.aws_calls import Calls
from streamfaas.wire.sqs import Queue

MOMENT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@lru_cache
def calls(url: str) -> Calls:
    """By a client of the SDK; only what it says of itself is asked for."""

    async def made() -> Calls:
        async with AsyncExitStack() as life:
            access = AwsAccess("eu-central-1", url, "test", "a-secret")
            return Calls(await aws.client("sqs", access, life), now=MOMENT.timetuple)

    return asyncio.run(made())


@given(st.binary(), VISIBLE, VISIBLE, st.none() | VISIBLE)
@pytest.mark.parametrize(
    "url",
    ["https://sqs.eu-central-1.amazonaws.com", "http://localhost:9324", "http://[::1]:1/a/path"],
)
def test_a_call_is_signed_as_the_sdk_signs_it(
    url: str, body: bytes, key: str, secret: str, token: str | None
) -> None:
    ours = calls(url)._headers("SendMessage", body, Credentials(key, secret, token))
    asked = {name: ours[name] for name in ("content-type", "x-amz-target")}
    request = AWSRequest("POST", url, data=body, headers=asked)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(auth, "get_current_datetime", lambda: MOMENT)
        auth.SigV4Auth(Credentials(key, secret, token), "sqs", "eu-central-1").add_auth(request)
    assert request.headers["Authorization"] == ours["authorization"]
    assert request.headers["X-Amz-Date"] == ours["x-amz-date"]


class Failing(queue_stub.Queue):
    """Says so many times what a test wants it to, and how it was asked."""

    said: bytes | None = None
    asked: int = 0

    def answer(self, operation: str, asked: Any) -> Any:
        if operation != "ReceiveMessage":
            return super().answer(operation, asked)
        self.asked += 1
        return self.said if self.asked == 1 else {}


@pytest.mark.parametrize("said", [b"<html>", b"[", b"{}"])
def test_what_does_not_succeed_at_once_is_asked_by_the_sdk(said: bytes) -> None:
    async def main() -> None:
        stub = Failing(1)
        stub.said = said
        async with queue_stub.serving(stub) as url:
            queue = Queue(AwsAccess("us-east-1", url, "test", "a-secret"), "bench")
            try:
                await queue.open()
                assert list(await queue.receive(1)) == []
                assert stub.asked == (1 if said == b"{}" else 2), "an empty queue is an answer"
            finally:
                await queue.close()

    asyncio.run(main())


@pytest.mark.slow
def test_who_has_no_credentials_is_told_so_by_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def main() -> None:
        async with queue_stub.serving(queue_stub.Queue(1)) as url:
            queue = Queue(AwsAccess("us-east-1", url), f"{url}/0/bench")
            try:
                await queue.open()
                with pytest.raises(Refused, match="credentials"):
                    await queue.receive(1)
            finally:
                await queue.close()

    asyncio.run(main())


def test_a_key_for_signing_is_of_its_day() -> None:
    moments = [time.gmtime(MOMENT.timestamp() + seconds) for seconds in (0, 1)]
    one = calls("http://127.0.0.1:1")
    one._now = moments.pop
    later, earlier = (one._headers("SendMessage", b"", Credentials("a", "b")) for _ in range(2))
    assert "20260131" in earlier["authorization"]
    assert "20260201" in later["authorization"]

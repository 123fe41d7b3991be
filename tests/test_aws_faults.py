from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest
import uvloop

from streamfaas.flow.errors import Busy, Refused, Unreachable
from streamfaas.wire import aws

RULES = {
    "throttled": ({"error": {"code": "ThrottlingException"}}, Busy),
    "denied": ({"error": {"code": "ExpiredToken", "status": 403}}, Refused),
    "failing": ({"error": {"code": "InternalFailure", "status": 500}}, Unreachable),
    "cut off": ({"reset": True}, Unreachable),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_door_lets_through_until_it_is_told_to_fail_and_after(aws_faults, name):
    faults, (rule, error) = aws_faults, RULES[name]

    async def main():
        async with AsyncExitStack() as life:
            client = await aws.client("sqs", faults.access, life)
            await client.list_queues()
            async with faults.of({"service": "sqs", "operation": "ListQueues", **rule}):
                with pytest.raises(aws.ERRORS) as caught:
                    await client.list_queues()
            assert isinstance(aws.translated(caught.value, "it"), error)
            await client.list_queues()
        assert "ListQueues" in {each["operation"] for each in await faults.fired()}
        assert await faults.fired() == []

    uvloop.run(main())


@pytest.mark.slow
def test_a_door_can_be_slow(ministack_faults):
    async def main():
        async with AsyncExitStack() as life:
            client = await aws.client("sqs", ministack_faults.access, life)
            async with ministack_faults.of({"service": "sqs", "timeout_ms": 60_000}):
                with anyio.move_on_after(0.5) as scope:
                    await client.list_queues()
                assert scope.cancelled_caught

    uvloop.run(main())

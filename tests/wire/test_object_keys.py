from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.letters import Letter
from streamfaas.wire.object_keys import object_key

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ID = "316aa6d0b7384b6488805f4a6bc81000"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:shop"


def of_batch(mapping="shop/orders", lane="orders-3", at="2025-11-25T16:35:32.042Z"):
    told = {"timestamp": at, "streamfaas": {"mapping": mapping, "lane": lane}}
    return Letter(ID, orjson.dumps(told))


def of_call(arn=f"{ARN}:$LATEST"):
    told = {"timestamp": "2025-11-25T16:35:32.042Z", "requestContext": {"functionArn": arn}}
    return Letter("no hex", orjson.dumps(told))


def test_a_batch_lies_under_its_mapping_and_its_lane_as_on_lambda():
    assert object_key(of_batch()) == (
        "aws/lambda/shop.orders/orders-3/2025/11/25/"
        "2025-11-25T16.35.32-316aa6d0-b738-4b64-8880-5f4a6bc81000"
    )


@pytest.mark.parametrize("arn", [ARN, f"{ARN}:$LATEST"])
def test_an_invocation_lies_under_its_function_as_on_lambda(arn):
    pattern = f"aws/lambda/async/shop/2025/11/25/2025-11-25T16\\.35\\.32-{UUID}"
    assert re.fullmatch(pattern, object_key(of_call(arn)))


@given(st.text(max_size=300))
def test_no_name_of_a_lane_makes_a_path_of_its_own(lane):
    key = object_key(of_batch(lane=lane))
    assert len(key.split("/")) == 8
    assert not {".", "..", ""} & set(key.split("/"))
    assert len(key.encode()) <= 1024
    assert key.isascii()
    assert key == object_key(of_batch(lane=lane))

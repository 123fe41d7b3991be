"""The events of tumbling windows, as AWS documents them."""

import json
from datetime import datetime

import pytest
from aws_lambda_powertools.utilities.parser.models import (
    DynamoDBStreamModel,
    KinesisDataStreamModel,
)

from parts import CHECKOUT, vectors
from streamfaas.flow.pane import Pane, Window
from streamfaas.wire.window_event import framed

GOLDEN = CHECKOUT / "tests" / "golden"
SAMPLES = ("kinesis-time-window", "dynamodb-time-window")
MODELS = {"kinesis": KinesisDataStreamModel, "dynamodb": DynamoDBStreamModel}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_event_in_a_window_is_told_as_in_the_samples(name):
    """A sample made again out of its records and what its window says."""
    path = vectors("event_shapes") / "samples" / f"{name}__go__{name}-event.json"
    sample = json.loads(path.read_text())
    records = json.dumps({"Records": sample["Records"]}).encode()
    window = Window(*(milliseconds(sample["window"][side]) for side in ("start", "end")))
    pane = Pane(window, json.dumps(sample["state"]).encode())
    made = json.loads(framed(records, pane, sample["shardId"], sample["eventSourceARN"]))
    assert made == sample
    assert list(made) == list(sample)


def milliseconds(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize("kind", ["kinesis", "dynamodb"])
def test_powertools_reads_an_event_in_a_window(kind):
    event = (GOLDEN / f"{kind}.json").read_bytes().strip()
    pane = Pane(Window(1_795_640_040_000, 1_795_640_100_000), b'{"count":2}')
    made = json.loads(framed(event, pane, "shardId-000000000006", "arn:aws:…"))
    assert made == json.loads((GOLDEN / f"{kind}_window.json").read_text())
    assert len(MODELS[kind].model_validate(made).Records) == len(json.loads(event)["Records"])


def test_the_members_of_a_window_stand_behind_the_records():
    pane = Pane(Window(1607497440000, 1607497560000), b'{"1": "state 1"}')
    event = framed(b'{"Records":[]}', pane, "shardId-000000000006", "arn:aws:kinesis:…")
    assert event.decode() == (
        '{"Records":[],"window":{"start":"2020-12-09T07:04:00Z","end":"2020-12-09T07:06:00Z"},'
        '"state":{"1": "state 1"},"shardId":"shardId-000000000006",'
        '"eventSourceARN":"arn:aws:kinesis:…",'
        '"isFinalInvokeForWindow":false,"isWindowTerminatedEarly":false}'
    )


def test_the_last_event_says_so_and_moments_that_are_no_seconds_are_told_exactly():
    pane = Pane(Window(1500, 3000), b"{}", final=True, early=True)
    event = json.loads(framed(b'{"records":{}}', pane, "orders-0", ""))
    assert event["window"] == {"start": "1970-01-01T00:00:01.500Z", "end": "1970-01-01T00:00:03Z"}
    assert event["isFinalInvokeForWindow"] is True
    assert event["isWindowTerminatedEarly"] is True

"""The event of DynamoDB's changes is Lambda's, whoever looked into them before."""

import base64
import json

import pytest
from aws_lambda_powertools.utilities.data_classes import DynamoDBStreamEvent
from aws_lambda_powertools.utilities.parser.models import DynamoDBStreamModel
from hypothesis import given
from hypothesis import strategies as st

from parts import CHECKOUT, vectors
from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane, run_of, run_of_records
from streamfaas.sources.sharded.dynamodb import DynamoDb
from streamfaas.sources.sharded.pages import Page, looked, told
from streamfaas.wire.dynamodb_event import dynamodb_batch_info, dynamodb_event, dynamodb_face
from streamfaas.wire.shards import Origin

DIALECT = DynamoDb()
ARN = "arn:aws:dynamodb:eu-central-1:000000000000:table/orders/stream/2026-11-25T20:54:58.585"
ORIGIN = Origin(ARN, "eu-central-1", "")
LANE = Lane("shop/orders", "shardId-00000001795640098585-f35f62ef")
GOLDEN = CHECKOUT / "tests" / "golden" / "dynamodb.json"
OLD = {"Id": {"N": "101"}, "Message": {"S": "New item!"}}
NEW = {"Id": {"N": "101"}, "Message": {"S": "This item has changed"}, "raw": {"B": "AAEqQQ=="}}


def change(number, name="INSERT", keys=None, old=None, new=None, seconds=1795640098, **beside):
    images = {"NewImage": new, "OldImage": old}
    return {
        "eventID": f"{number:032x}",
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": seconds,
            "Keys": keys or {"Id": {"N": "101"}},
            **{image: item for image, item in images.items() if item is not None},
            "SequenceNumber": f"{4421584500000000017450439091 + number}",
            "SizeBytes": 26,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        **beside,
    }


TTL = {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}}
CHANGES = [
    change(0, new=OLD),
    change(1, "MODIFY", old=OLD, new=NEW),
    change(2, "REMOVE", old=NEW, seconds=1795640099, **TTL),
]

TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.one_of(
        st.builds(lambda each: {"S": each}, TEXT),
        st.builds(lambda each: {"N": str(each)}, st.integers()),
        st.builds(lambda each: {"BOOL": each}, st.booleans()),
        st.just({"NULL": True}),
        st.builds(lambda each: {"B": base64.b64encode(each).decode()}, st.binary(max_size=9)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda each: {"L": each}, st.lists(inner, max_size=3)),
        st.builds(lambda each: {"M": each}, st.dictionaries(TEXT, inner, max_size=3)),
    ),
    max_leaves=6,
)
ITEMS = st.dictionaries(TEXT, VALUES, max_size=4)
TOLD = st.lists(
    st.builds(
        change,
        st.integers(0, 1 << 60),
        st.sampled_from(["INSERT", "MODIFY", "REMOVE"]),
        st.builds(lambda each: {"Id": {"S": each}}, TEXT),
        ITEMS,
        ITEMS,
        st.integers(1_000_000_000, 4_000_000_000),
    ),
    min_size=1,
    max_size=12,
)


def page_of(records, first=0):
    page = Page(first, records, DIALECT, DIALECT.overhead_bytes(ORIGIN))
    return run_of(LANE, page.first, page.last, page)


def sample(name):
    return json.loads((vectors("event_shapes") / "samples" / f"{name}.json").read_text())


def test_the_event_is_the_golden_one():
    assert json.loads(dynamodb_event(ORIGIN, CHANGES)) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_event_has_the_keys_of_the_sample_and_their_kinds(number):
    made = json.loads(dynamodb_event(ORIGIN, CHANGES))["Records"][number]
    given_ = sample("dynamodb__sam__DynamoDBUpdate")["Records"][number]
    made.pop("userIdentity", None)
    assert made.keys() == given_.keys()
    assert made["dynamodb"].keys() == given_["dynamodb"].keys()
    for key in ("eventSource", "eventVersion", "eventName"):
        assert made[key] == given_[key]
    for key, each in given_["dynamodb"].items():
        assert type(made["dynamodb"][key]) is type(each), key


@pytest.mark.parametrize(
    "name",
    [
        "dynamodb__go__dynamodb-event",
        "dynamodb__pt__dynamoStreamEvent",
        "dynamodb__sam__DynamoDBUpdate",
    ],
)
def test_a_sample_that_is_taken_apart_and_looked_into_comes_out_as_it_was(name):
    event = sample(name)
    records = [
        {key: each for key, each in record.items() if key != "eventSourceARN"}
        for record in event["Records"]
    ]
    seen = looked(DIALECT, Batch((page_of(records),)))
    again = told(DIALECT, Batch((run_of_records(seen),)))
    made = json.loads(dynamodb_event(ORIGIN, again))["Records"]
    assert made == [{**each, "eventSourceARN": ARN} for each in event["Records"]]


def test_powertools_reads_the_event_back():
    made = json.loads(dynamodb_event(ORIGIN, CHANGES))
    parsed = DynamoDBStreamModel.model_validate(made).Records
    assert [each.eventName for each in parsed] == ["INSERT", "MODIFY", "REMOVE"]
    assert parsed[2].userIdentity is not None
    assert parsed[2].userIdentity.principalId == "dynamodb.amazonaws.com"
    image = list(DynamoDBStreamEvent(made).records)[1].dynamodb
    assert image is not None
    assert image.new_image == {
        "Id": 101,
        "Message": "This item has changed",
        "raw": image.new_image["raw"],
    }
    assert image.keys == {"Id": 101}


@given(TOLD, st.integers(0, 1 << 40))
def test_looking_into_changes_alters_nothing_of_their_event(records, first):
    raw = Batch((page_of(records, first),))
    seen = looked(DIALECT, raw)
    again = Batch((run_of_records(seen),))
    assert told(DIALECT, again) == list(records)
    assert json.loads(dynamodb_event(ORIGIN, told(DIALECT, again))) == json.loads(
        dynamodb_event(ORIGIN, told(DIALECT, raw))
    )
    assert [each.position for each in seen] == list(range(first, first + len(records)))


@given(TOLD)
def test_an_event_is_as_large_as_it_was_taken_for(records):
    run = page_of(records)
    made = dynamodb_event(ORIGIN, records)
    assert abs(len(made) - run.event_bytes) <= 20 + 8 * len(records)
    assert len(made) <= run.event_bytes + 20


def test_the_changes_of_an_item_have_one_key_however_its_attributes_are_ordered():
    one = change(0, keys={"a": {"S": "x"}, "b": {"N": "1"}})
    two = change(1, "MODIFY", keys={"b": {"N": "1"}, "a": {"S": "x"}})
    other = change(2, keys={"a": {"S": "x"}, "b": {"N": "2"}})
    keys = [each.key for each in looked(DIALECT, Batch((page_of([one, two, other]),)))]
    assert keys[0] == keys[1] != keys[2]


def test_a_lost_batch_is_told_of_as_lambda_does():
    batch = Batch((page_of(CHANGES),))
    assert dynamodb_batch_info(batch, ORIGIN, told(DIALECT, batch)) == {
        "DDBStreamBatchInfo": {
            "shardId": LANE.name,
            "startSequenceNumber": "4421584500000000017450439091",
            "endSequenceNumber": "4421584500000000017450439093",
            "approximateArrivalOfFirstRecord": "2026-11-25T20:54:58Z",
            "approximateArrivalOfLastRecord": "2026-11-25T20:54:59Z",
            "batchSize": 3,
            "streamArn": ARN,
        }
    }


def test_a_filter_sees_the_change_and_what_is_said_of_it():
    (seen,) = looked(DIALECT, Batch((page_of(CHANGES[1:2]),)))
    metadata, data = dynamodb_face(seen)
    assert metadata["eventName"] == "MODIFY"
    assert "dynamodb" not in metadata
    assert json.loads(data)["NewImage"] == NEW

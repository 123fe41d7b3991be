from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from aws_lambda_powertools.utilities.data_classes import S3Event
from aws_lambda_powertools.utilities.parser.models import S3Model
from hypothesis import given
from hypothesis import strategies as st

from parts import CHECKOUT, vectors
from streamfaas.wire.s3_event import (
    CREATED,
    REMOVED,
    S3Change,
    encoded_key,
    matches,
    order_of,
    own_notification,
    s3_event,
)

GOLDEN = CHECKOUT / "tests" / "golden"


def change_of(
    name: str, key: bytes, sequencer: int, time_ms: int, size: int | None = None, etag: str = ""
) -> S3Change:
    return S3Change(
        "inbox",
        key,
        name,
        time_ms,
        sequencer=f"{sequencer:018X}",
        etag=etag or None,
        size=size,
        region="eu-central-1",
        configuration="photos",
    )


CREATION = change_of(
    CREATED,
    "in/Happy Face +1@ü.jpg".encode(),
    0x18A5B2C3D4E5F607,
    1_790_000_000_123,
    1024,
    "d41d8cd98f00b204e9800998ecf8427e",
)
REMOVAL = change_of(REMOVED, b"in/gone.jpg", 0x18A5B2C3D4E5F608, 1_790_000_000_000)
KEYS = st.binary(min_size=1, max_size=40).filter(lambda key: b"\0" not in key)


def event_of(*changes: S3Change) -> bytes:
    return s3_event(own_notification(change).record for change in changes)


@pytest.mark.parametrize(("change", "name"), [(CREATION, "s3_created"), (REMOVAL, "s3_removed")])
def test_the_event_is_the_golden_one(change, name):
    assert json.loads(event_of(change)) == json.loads((GOLDEN / f"{name}.json").read_text())


def test_the_same_change_gives_the_same_bytes_and_another_change_another_request():
    assert event_of(CREATION) == event_of(CREATION)
    ids = [
        record["responseElements"]["x-amz-request-id"]
        for record in json.loads(event_of(CREATION, REMOVAL))["Records"]
    ]
    assert len(set(ids)) == 2
    assert all(len(one) == 16 and one == one.upper() for one in ids)


def shape_of(value):
    """Keys in order, and types; lists by what their first element is."""
    match value:
        case dict():
            return [(key, shape_of(one)) for key, one in value.items()]
        case list():
            return [shape_of(value[0])] if value else []
        case _:
            return type(value).__name__


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("s3__pt__s3Event", CREATION),
        ("s3__pt__s3EventDeleteObject", REMOVAL),
        ("s3__sam__S3Put", CREATION),
        ("s3__sam__S3Delete", REMOVAL),
    ],
)
def test_the_event_has_the_keys_and_types_of_the_samples(name, change):
    path = vectors("event_shapes") / "samples" / f"{name}.json"
    sample = json.loads(path.read_text())
    made = json.loads(event_of(change))
    assert shape_of(made) == shape_of(sample)
    told, mine = sample["Records"][0], made["Records"][0]
    assert mine["eventName"] == told["eventName"]
    assert mine["eventSource"] == told["eventSource"]
    assert len(mine["eventTime"]) == len(told["eventTime"])
    assert len(mine["s3"]["object"]["sequencer"]) == len(told["s3"]["object"]["sequencer"])


def test_the_event_has_all_that_a_versioned_sample_has_but_the_version():
    for name in ("s3__go__s3-event", "s3__pt__s3EventDecodedKey"):
        sample = json.loads((vectors("event_shapes") / "samples" / f"{name}.json").read_text())
        described = sample["Records"][0]["s3"]["object"]
        described.pop("versionId")  # no bucket of ours has versions
        described.pop("urlDecodedKey", None)  # Java's library adds it
        assert dict(shape_of(json.loads(event_of(CREATION)))[0][1][0]) == dict(
            shape_of(sample)[0][1][0]
        )


@given(KEYS, st.integers(0, 1 << 62), st.integers(0, 1 << 50), st.integers(0, 4_000_000_000_000))
def test_powertools_reads_the_event_back(key, sequencer, size, time_ms):
    change = change_of(CREATED, key, sequencer, time_ms, size, "d" * 32)
    made = json.loads(event_of(change, change_of(REMOVED, key, sequencer + 1, time_ms)))
    created, removed = S3Model.model_validate(made).Records
    assert (created.s3.object.size, created.s3.object.eTag) == (size, "d" * 32)
    assert (removed.s3.object.size, removed.s3.object.eTag) == (None, None)
    assert int(created.eventTime.timestamp() * 1000 + 0.5) == time_ms
    assert created.s3.bucket.name == "inbox"
    assert int(created.s3.object.sequencer, 16) == sequencer
    if key == key.decode("utf-8", "replace").encode():
        assert S3Event(made).object_key == key.decode()


@given(KEYS)
def test_any_key_can_be_read_back_byte_for_byte(key):
    encoded = encoded_key(key)
    assert encoded.isascii()
    assert " " not in encoded
    assert unquote_to_bytes(encoded.replace("+", " ")) == key


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        (b"in/a.jpg", "in/a.jpg"),
        (b"a b", "a+b"),
        (b"a+b", "a%2Bb"),
        (b"a@b", "a%40b"),
        (b"100%/x", "100%25/x"),
        ("é/ü".encode(), "%C3%A9/%C3%BC"),
        (b"\xff\xfe", "%FF%FE"),
        (b"a\nb", "a%0Ab"),
        (b"(1)=2", "%281%29%3D2"),
    ],
)
def test_keys_are_encoded_as_s3_does(key, encoded):
    assert encoded_key(key) == encoded


@given(st.integers(0, (1 << 63) - 2))
def test_sequencers_rise_as_text(number):
    first, second = (
        json.loads(event_of(change_of(REMOVED, b"k", n, 0)))["Records"][0]["s3"]["object"]
        for n in (number, number + 1)
    )
    assert len(first["sequencer"]) == len(second["sequencer"])
    assert first["sequencer"] < second["sequencer"]


@pytest.mark.parametrize(
    ("pattern", "created", "removed"),
    [
        ("s3:ObjectCreated:*", True, False),
        ("ObjectCreated:*", True, False),
        ("s3:ObjectCreated:Put", True, False),
        ("ObjectCreated:Copy", False, False),
        ("ObjectRemoved:*", False, True),
        ("s3:ObjectRemoved:Delete", False, True),
        ("s3:*", True, True),
        ("*", True, True),
        ("ObjectCreated", False, False),
    ],
)
def test_patterns_match_by_their_beginning(pattern, created, removed):
    assert matches(pattern, CREATED) is created
    assert matches(pattern, REMOVED) is removed


def test_golden_files_are_read_by_somebody():
    assert {path.stem for path in Path(GOLDEN).glob("s3_*.json")} == {"s3_created", "s3_removed"}


@given(a=st.integers(0, 1 << 80), b=st.integers(0, 1 << 80), pads=st.integers(0, 5))
def test_sequencers_are_in_the_order_of_their_numbers(a, b, pads):
    first, second = order_of("0" * pads + f"{a:X}"), order_of(f"{b:x}")
    assert (first < second) == (a < b)
    assert (first == second) == (a == b)

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus, unquote_plus

import orjson
import pytest
from aws_lambda_powertools.utilities.parser.models import S3Model
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parts import CHECKOUT, vectors
from streamfaas.wire.s3_event import KEY_BYTES_MAX, Notification, s3_event
from streamfaas.wire.s3_fields import Malformed
from streamfaas.wire.s3_notifications import carrier_of, notifications

KEYS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    st.sampled_from(
        ["a b+c/ä.txt", "../../etc/passwd", "a%2Fb", "line\nbreak", "nul\0", "x" * 1024]
    ),
    st.text("a/ %+.é\n", min_size=1, max_size=100),
).filter(lambda key: len(key.encode()) <= KEY_BYTES_MAX)


def record(key: str, *, source: str = "aws:s3", **changes: object) -> dict[str, object]:
    """A record as stores tell it, its key as it is given."""
    described: dict[str, object] = {"key": key, "size": 3, "eTag": "e1", "sequencer": "0055AED6"}
    told: dict[str, object] = {
        "eventVersion": "2.1",
        "eventSource": source,
        "awsRegion": "eu-west-1",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:ME"},
        "requestParameters": {"sourceIPAddress": "192.0.2.7"},
        "responseElements": {"x-amz-request-id": "R1", "x-amz-id-2": "I2"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "all",
            "bucket": {
                "name": "uploads",
                "ownerIdentity": {"principalId": "OWNER"},
                "arn": "arn:aws:s3:::uploads",
            },
            "object": described,
        },
    }
    for name, value in changes.items():
        (described if name in {"size", "eTag", "sequencer", "versionId"} else told)[name] = value
    return told


def body(*records: object, **around: object) -> bytes:
    return json.dumps({**around, "Records": records}).encode()


def only(document: bytes | str) -> Notification:
    (found,) = notifications(document)
    return found


def told(found: Notification) -> dict[str, object]:
    return orjson.loads(found.record)


# -- keys


def aws(key: str) -> bytes:
    return body(record(quote_plus(key, safe="/")))


def localstack(key: str) -> bytes:
    return body(record(quote(key, safe="/")))


def moto(key: str) -> bytes:
    told = record(quote_plus(key))
    del told["userIdentity"]
    return body(told)


def minio(key: str) -> bytes:
    told = record(
        quote_plus(key), source="minio:s3", eventVersion="2.0", eventName="s3:ObjectCreated:Put",
        awsRegion="", source_={"host": "127.0.0.1", "port": "", "userAgent": "MinIO"},
    )  # fmt: skip
    return body(told, EventName="s3:ObjectCreated:Put", Key=f"uploads/{key}")


def rustfs(key: str) -> bytes:
    around = {"bucket_name": "uploads", "object_name": quote_plus(key), "event_name": "x"}
    inner = record(quote_plus(key), source="rustfs:s3", eventTime="2026-01-02T03:04:05.678901234Z")
    return body({**around, "data": inner}, EventName="s3:ObjectCreated:Put", Key=f"uploads/{key}")


def ceph(key: str) -> bytes:
    return body(
        record(key, source="ceph:s3", eventTime="2026-01-02 03:04:05.678901Z", awsRegion="")
    )


def bridged(key: str) -> bytes:
    return json.dumps(
        {
            "version": "0",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "account": "123456789012",
            "time": "2026-01-02T03:04:05Z",
            "region": "eu-west-1",
            "detail": {
                "bucket": {"name": "uploads"},
                "object": {"key": key, "size": 3, "etag": "e1", "sequencer": "0055AED6"},
                "reason": "PutObject",
            },
        }
    ).encode()


def seaweedfs(key: str) -> bytes:
    return json.dumps(
        {
            "key": f"/buckets/uploads/{key}",
            "event_type": "create",
            "message": {
                "new_entry": {
                    "name": key.rpartition("/")[2],
                    "attributes": {"file_size": 3, "mtime": 1767323045, "md5": "4QE="},
                },
                "new_parent_path": f"/buckets/uploads/{key}".rpartition("/")[0],
            },
        }
    ).encode()


def enveloped(key: str) -> bytes:
    return json.dumps({"Type": "Notification", "Message": aws(key).decode()}).encode()


def cloud_event(key: str) -> bytes:
    return json.dumps({"specversion": "1.0", "type": "x", "data": json.loads(aws(key))}).encode()


DIALECTS = [aws, localstack, moto, minio, rustfs, ceph, bridged, enveloped, cloud_event]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.__name__)
def test_every_key_of_every_dialect_is_found_and_told_as_s3_does(dialect):
    @settings(max_examples=60)
    @given(key=KEYS)
    @example("a%2Fb+c d/é.txt")
    def check(key):
        found = only(dialect(key))
        assert found.key == key.encode()
        assert (found.bucket, found.name, found.etag, found.size) == (
            *("uploads", "ObjectCreated:Put"),
            *("e1", 3),
        )
        assert found.sequencer == "0055AED6"
        assert found.time_ms in {1767323045678, 1767323045000}
        written = told(found)
        assert written["s3"]["object"]["key"] == quote_plus(key.encode(), safe="/")
        assert written["eventSource"] == "aws:s3"
        assert written["eventName"] == "ObjectCreated:Put"
        assert written["eventTime"].endswith("Z")
        S3Model.model_validate_json(s3_event([found.record]))

    check()


def test_a_file_below_the_buckets_of_seaweedfs_is_an_object():
    found = only(seaweedfs("in/a b+c%2F.txt"))
    assert (found.key, found.size, found.etag) == (b"in/a b+c%2F.txt", 3, "e101")
    assert found.time_ms == 1767323045000
    moved = json.loads(seaweedfs("in/a"))
    moved["message"]["old_entry"] = {"name": "a", "attributes": {}}
    moved["message"]["new_entry"]["name"] = "b"
    gone, come = notifications(json.dumps(moved))
    assert (gone.name, gone.key) == ("ObjectRemoved:Delete", b"in/a")
    assert (come.name, come.key) == ("ObjectCreated:Put", b"in/b")
    folder = json.loads(seaweedfs("in"))
    folder["message"]["new_entry"]["is_directory"] = True
    assert notifications(json.dumps(folder)) == ()
    assert notifications(seaweedfs(".uploads/1/0001.part")) == ()


def test_bytes_that_are_no_utf8_stay_what_they_are():
    found = only(body(record("in/%FF%00%2F+%zz")))
    assert found.key == b"in/\xff\0/ %zz"
    assert told(found)["s3"]["object"]["key"] == "in/%FF%00/+%25zz"


# -- what is not an event, and what is wrong


@pytest.mark.parametrize(
    "document",
    [
        b'{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"uploads","HostId":"H"}',
        b'{"Records":[]}',
        json.dumps({"Type": "Notification", "Message": '{"Event":"s3:TestEvent"}'}).encode(),
    ],
)
def test_a_test_event_is_nothing(document):
    assert notifications(document) == ()


@pytest.mark.parametrize(
    ("document", "where", "what"),
    [
        (b"", "", "no JSON"),
        (b"\xff", "", "no JSON"),
        (b"[" * 100_000, "", "no JSON"),
        (b"[]", "", "no JSON object"),
        (b"{}", "", "no notification"),
        (b'{"Records":{}}', "Records", "no list"),
        (b'{"Records":[1]}', "Records[0]", "no JSON object"),
        (body(record("a", s3=1)), "Records[0].s3", "no JSON object"),
        (body(record("a", eventName=7)), "Records[0].eventName", "no text"),
        (body(record("a", eventName="")), "Records[0].eventName", "no name"),
        (body(record("a", eventVersion="3.0")), "Records[0].eventVersion", "2.x"),
        (body(record("")), "Records[0].s3.object.key", "0 bytes"),
        (body(record("x" * 1025)), "Records[0].s3.object.key", "1,025 bytes"),
        (body(record("a"), record("b", size=-1)), "Records[1].s3.object.size", "no size"),
        (body(record("a", size="3")), "Records[0].s3.object.size", "no size"),
        (body(record("a", size=1 << 63)), "Records[0].s3.object.size", "no size"),
        (body(record("a", sequencer=["0"])), "Records[0].s3.object.sequencer", "no text"),
        (body(record("a", versionId="v" * 2000)), "Records[0].s3.object.versionId", "longer"),
        (json.dumps({"Type": "Notification", "Message": "x"}).encode(), "Message", "no JSON"),
        (b'{"detail-type":"Object Created","source":"my.own"}', "source", "aws.s3"),
        (b'{"detail-type":["x"],"source":"aws.s3","detail":{"object":{}}}', "detail-type", "none"),
        (b'{"event_type":"create","message":{},"key":"/buckets/a/b"}', "message", "neither"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document, where, what):
    with pytest.raises(Malformed) as caught:
        notifications(document)
    assert caught.value.where == where
    assert what in str(caught.value)


def test_what_nests_too_deeply_to_be_told_on_is_malformed():
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    told = record("a")
    told["s3"]["object"]["userMetadata"] = deep
    with pytest.raises(Malformed, match="cannot be told on"):
        notifications(body(told))


@pytest.mark.slow
def test_a_document_of_ten_megabytes_is_read():
    found = notifications(body(*(record(f"{n:01000d}") for n in range(7500))))
    assert len(found) == 7500


SHAPES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["aws:s3", "ceph:s3", "Notification", "%", "%2", "2.1", "/buckets/a/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
PLACES = [
    ("Records",), ("Records", 0), ("Records", 0, "s3"), ("Records", 0, "eventTime"),
    ("Records", 0, "eventName"), ("Records", 0, "eventSource"), ("Records", 0, "eventVersion"),
    ("Records", 0, "awsRegion"), ("Records", 0, "userIdentity"), ("Records", 0, "data"),
    ("Records", 0, "requestParameters"), ("Records", 0, "responseElements"),
    ("Records", 0, "glacierEventData"), ("Records", 0, "s3", "bucket"),
    ("Records", 0, "s3", "bucket", "name"), ("Records", 0, "s3", "bucket", "ownerIdentity"),
    ("Records", 0, "s3", "object"), ("Records", 0, "s3", "object", "key"),
    ("Records", 0, "s3", "object", "size"), ("Records", 0, "s3", "object", "eTag"),
    ("Records", 0, "s3", "object", "sequencer"), ("Records", 0, "s3", "object", "more"),
    ("detail",), ("detail", "object"), ("detail", "object", "key"), ("detail", "bucket", "name"),
    ("detail", "reason"), ("detail-type",), ("time",), ("source",), ("Type",), ("Message",),
    ("message",), ("message", "new_entry"), ("message", "new_entry", "name"), ("key",),
    ("message", "new_entry", "attributes"), ("message", "new_entry", "attributes", "mtime"),
    ("message", "new_entry", "attributes", "md5"), ("message", "new_parent_path"),
    ("message", "old_entry"), ("specversion",), ("data",), ("Event",),
]  # fmt: skip


@settings(max_examples=400)
@given(
    dialect=st.sampled_from([*DIALECTS, seaweedfs]),
    changes=st.lists(st.tuples(st.sampled_from(PLACES), SHAPES), max_size=3),
)
def test_whatever_comes_is_a_notification_or_malformed(dialect, changes):
    document = json.loads(dialect("in/a b"))
    for place, value in changes:
        at = document
        try:
            for step in place[:-1]:
                at = at[step]
            at[place[-1]] = value
        except (LookupError, TypeError):
            continue
    try:
        found = notifications(json.dumps(document))
    except Malformed as malformed:
        assert str(malformed)  # noqa: PT017 - one of two good ends
    else:
        for each in found:
            assert 1 <= len(each.key) <= KEY_BYTES_MAX
            assert told(each)["s3"]["bucket"]["name"] == each.bucket


@settings(max_examples=300)
@given(document=st.binary(max_size=200) | SHAPES.map(json.dumps))
def test_no_bytes_end_in_another_error(document):
    try:
        notifications(document)
    except Malformed as malformed:
        assert malformed.what  # noqa: PT017 - as above


@pytest.mark.parametrize(
    ("document", "carrier"),
    [
        (aws("a"), "sqs"),
        (enveloped("a"), "sns-sqs"),
        (bridged("a"), "eventbridge-sqs"),
        (b"no", ""),
        (b"[]", ""),
        (b"{}", ""),
    ],
)
def test_a_document_says_who_has_put_it_into_a_queue(document, carrier):
    assert carrier_of(document) == carrier


# -- what is told of it


def test_a_removal_has_neither_size_nor_entity_tag():
    found = only(body(record("a", eventName="ObjectRemoved:Delete", size=0, eTag="")))
    assert (found.size, found.etag) == (None, None)
    assert set(told(found)["s3"]["object"]) == {"key", "sequencer"}


def test_versions_are_those_of_s3():
    assert told(only(body(record("a", eventVersion="2.3"))))["eventVersion"] == "2.3"
    assert told(only(body(record("a", eventVersion="2.0"))))["eventVersion"] == "2.1"
    assert told(only(ceph("a")))["eventVersion"] == "2.1"


def test_sequencers_of_ceph_are_turned_into_an_order():
    """As a Ceph 16.2 wrote them, one third of a second apart."""
    written = ["9185076B7B94E436", "9285076BB32BE10F", "9285076BBCE04F22", "9285076B912CD934"]
    found = [only(body(record("a", source="ceph:s3", sequencer=each))) for each in written]
    sequencers = [each.sequencer for each in found]
    assert sequencers[0] == "6B07859136E4947B"
    assert sequencers == sorted(sequencers)
    assert told(only(minio("a")))["eventVersion"] == "2.1"


def test_what_else_a_store_says_of_the_object_stays():
    given = record("a", source="minio:s3")
    given["s3"]["object"] |= {"contentType": "image/png", "userMetadata": {"x": "1"}}
    given["glacierEventData"] = {"restoreEventData": {}}
    written = told(only(body(given)))
    assert written["s3"]["object"]["contentType"] == "image/png"
    assert written["glacierEventData"] == {"restoreEventData": {}}


def test_a_version_that_is_empty_is_none():
    assert only(body(record("a", versionId=""))).version_id is None
    assert only(body(record("a", versionId="v1"))).version_id == "v1"


@pytest.mark.parametrize(
    ("kind", "detail", "name"),
    [
        ("Object Created", {"reason": "CopyObject"}, "ObjectCreated:Copy"),
        ("Object Created", {"reason": "POST Object"}, "ObjectCreated:Post"),
        (
            "Object Created",
            {"reason": "CompleteMultipartUpload"},
            "ObjectCreated:CompleteMultipartUpload",
        ),
        ("Object Created", {}, "ObjectCreated:Put"),
        ("Object Deleted", {"deletion-type": "Permanently Deleted"}, "ObjectRemoved:Delete"),
        (
            "Object Deleted",
            {"deletion-type": "Delete Marker Created"},
            "ObjectRemoved:DeleteMarkerCreated",
        ),
        ("Object Deleted", {"reason": "Lifecycle Expiration"}, "LifecycleExpiration:Delete"),
        ("Object Tags Added", {}, "ObjectTagging:Put"),
        ("Object Restore Completed", {}, "ObjectRestore:Completed"),
    ],
)
def test_what_eventbridge_says_has_the_names_of_s3(kind, detail, name):
    document = json.loads(bridged("a"))
    del document["detail"]["reason"]
    document["detail-type"] = kind
    document["detail"] |= detail
    assert only(json.dumps(document)).name == name


# -- the outside judges

SAMPLES = sorted(path.name for path in (vectors("event_shapes") / "samples").glob("s3*.json"))


def sample(name: str) -> dict[str, object]:
    return json.loads((vectors("event_shapes") / "samples" / name).read_text())


@pytest.mark.parametrize("name", [each for each in SAMPLES if "sqs" not in each])
def test_each_published_sample_is_told_as_it_is(name):
    """But for what is normalised: two versions, a prefix, and one of the ways to encode a key."""
    document = sample(name)
    found = only(json.dumps(document))
    S3Model.model_validate_json(s3_event([found.record]))
    if "Records" not in document:
        return
    (expected,) = document["Records"]
    expected["eventVersion"] = expected["eventVersion"].replace("2.0", "2.1")
    expected["eventName"] = expected["eventName"].removeprefix("s3:")
    bucket, described = expected["s3"]["bucket"], expected["s3"]["object"]
    bucket["arn"] = f"arn:aws:s3:::{bucket['name']}"
    described["key"] = quote_plus(unquote_plus(described["key"]), safe="/")
    assert told(found) == expected


@pytest.mark.parametrize("name", [each for each in SAMPLES if "eventbridge" in each])
def test_what_eventbridge_publishes_is_told_as_a_record_of_s3(name):
    document = sample(name)
    found = only(json.dumps(document))
    assert (found.bucket, found.key) == ("example-bucket", b"IMG_m7fzo3.jpg")
    assert told(found)["eventTime"] == document["time"].replace("Z", ".000Z")
    assert told(found)["awsRegion"] == document["region"]
    created = "Created" in document["detail-type"] or "Completed" in document["detail-type"]
    assert (found.size == 184662) == created


def test_a_sample_of_a_queue_is_read():
    (message,) = sample("s3-in-sqs__pt__s3SqsEvent.json")["Records"]
    assert only(message["body"]).key == b"test.pdf"


def test_the_event_of_a_minio_message_is_the_golden_one():
    given = json.loads(minio("in/a b+c/ä.jpg"))
    given["Records"][0]["s3"]["object"]["contentType"] = "image/jpeg"
    event = s3_event([only(json.dumps(given)).record])
    golden = (CHECKOUT / "tests" / "golden" / "minio.json").read_text()
    assert json.loads(event) == json.loads(golden)

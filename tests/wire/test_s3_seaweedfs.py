"""What the filer of SeaweedFS posted (4.x, of November 2026), shortened, and what we make of it."""

import json
from base64 import b64encode

import pytest

from streamfaas.wire.s3_notifications import notifications

COMMITTED = 1795665001600878530


def base64(text):
    return b64encode(text.encode()).decode()


def entry(name, committed=COMMITTED, extended=None, **changed):
    attributes = {"file_size": 3, "mtime": 1795664998, "file_mode": 432, "crtime": 1795664998,
                  "mime": "text/plain; charset=utf-8", "md5": "kAFQmDzST7DWlj99KOF/cg=="}  # fmt: skip
    attributes |= changed.pop("attributes", {})
    told = {name: value for name, value in attributes.items() if value}  # as Go does
    said = {"Seaweed-X-Amz-ETag": "900150983cd24fb0d6963f7d28e17f72", "Seaweed-X-Amz-Owner": "t",
            "x-seaweedfs-write-id": "a8c3f16e", **(extended or {})}  # fmt: skip
    return {
        "name": name,
        "chunks": [{"size": 3, "fid": {"volume_id": 3, "file_key": 1}}],
        "attributes": told,
        "extended": {name: base64(value) for name, value in said.items()},
        "commit_ts_ns": committed,
        **changed,
    }


def told(path, old=None, new=None, parent=None):
    folder = path.rpartition("/")[0]
    message = {"old_entry": old, "new_entry": new, "delete_chunks": True, "signatures": [7]}
    if new is not None:
        message["new_parent_path"] = parent or folder
    document = {"key": path, "event_type": "any", "message": message}
    return notifications(json.dumps(document))


def known(found):
    return [(each.name, each.bucket, each.key.decode()) for each in found]


PUT, GONE = "ObjectCreated:Put", "ObjectRemoved:Delete"
PATH = "/buckets/uploads/in/a b+c%2F é.txt"
KEY = "in/a b+c%2F é.txt"


def test_what_is_put_has_its_place_its_tag_and_an_order():
    (found,) = told(PATH, new=entry("a b+c%2F é.txt"))
    assert known([found]) == [(PUT, "uploads", KEY)]
    assert (found.size, found.etag) == (3, "900150983cd24fb0d6963f7d28e17f72")
    assert found.time_ms == COMMITTED // 1_000_000
    again = entry("a b+c%2F é.txt", COMMITTED + 5, attributes={"mtime": 1795665002})
    (later,) = told(PATH, old=entry("a b+c%2F é.txt"), new=again)
    (gone,) = told(PATH, old=again)
    assert known([later, gone]) == [(PUT, "uploads", KEY), (GONE, "uploads", KEY)]
    assert found.sequencer < later.sequencer < gone.sequencer
    assert gone.size is None


def test_an_older_filer_tells_no_order_and_seconds():
    (found,) = told(PATH, new=entry("a b+c%2F é.txt", 0))
    assert (found.sequencer, found.time_ms) == ("", 1795664998000)


def test_an_object_of_no_content_has_a_size_all_the_same():
    (found,) = told("/buckets/uploads/empty", new=entry("empty", attributes={"file_size": 0}))
    assert found.size == 0


def test_tags_and_rights_are_no_event():
    tagged = entry("a", COMMITTED + 9, {"X-Amz-Tagging-a": "b"})
    assert told("/buckets/uploads/a", old=entry("a"), new=tagged) == ()
    written = entry("a", COMMITTED + 9, {"x-seaweedfs-write-id": "another"})
    assert known(told("/buckets/uploads/a", old=entry("a"), new=written)) == [(PUT, "uploads", "a")]


def test_what_was_uploaded_in_parts_says_so():
    parts = {"X-Seaweedfs-Upload-Id": "91f6", "Seaweed-X-Amz-ETag": "0c62823571cff39c8dddcc6a74e2569f-2"}  # fmt: skip
    (found,) = told("/buckets/uploads/mp", new=entry("mp", 1, parts, attributes={"md5": ""}))
    assert found.name == "ObjectCreated:CompleteMultipartUpload"
    assert found.etag == "0c62823571cff39c8dddcc6a74e2569f-2"


def test_versions_are_of_the_object_and_not_beside_it():
    place = "/buckets/versioned/k/a.versions/v_67"
    version = {"Seaweed-X-Amz-Version-Id": "67"}
    (found,) = told(place, new=entry("v_67", extended=version))
    assert known([found]) == [(PUT, "versioned", "k/a")]
    assert found.version_id == "67"
    older = entry("v_67", COMMITTED + 9, {**version, "Seaweed-X-Amz-Noncurrent-Since-Ns": "17"})
    assert told(place, old=entry("v_67", extended=version), new=older) == ()
    (gone,) = told(place, old=older)
    assert (gone.name, gone.key, gone.version_id) == (GONE, b"k/a", "67")
    marker = {**version, "Seaweed-X-Amz-Delete-Marker": "true"}
    (marked,) = told(place, new=entry("v_67", extended=marker))
    assert (marked.name, marked.key) == ("ObjectRemoved:DeleteMarkerCreated", b"k/a")
    # a folder that is called so is one
    (plain,) = told("/buckets/uploads/a.versions/v_67", new=entry("v_67"))
    assert plain.key == b"a.versions/v_67"


def test_a_file_that_is_moved_goes_and_comes():
    found = told(PATH, old=entry("a"), new=entry("b"), parent="/buckets/other")
    assert known(found) == [(GONE, "uploads", KEY), (PUT, "other", "b")]


@pytest.mark.parametrize(
    "path",
    [
        "/buckets",
        "/buckets/uploads",
        "/buckets/uploads/in",
        "/buckets/.system/owners",
        "/buckets/versioned/k/a.versions",
    ],
)
def test_folders_that_nobody_put_are_no_objects(path):
    folder = entry(path.rpartition("/")[2], is_directory=True, attributes={"mime": ""})
    assert told(path, new=folder) == ()


def test_a_folder_that_was_put_is_one():
    folder = entry("dir", is_directory=True, attributes={"mime": "httpd/unix-directory"})
    assert known(told("/buckets/uploads/dir", new=folder)) == [(PUT, "uploads", "dir/")]


def test_an_object_that_others_lie_below_of_stays_what_it_is():
    both = entry("a", COMMITTED + 9, {"x-seaweedfs-prefix-object": "true"}, is_directory=True)
    assert told("/buckets/uploads/a", old=entry("a"), new=both) == ()
    assert known(told("/buckets/uploads/a", old=both)) == [(GONE, "uploads", "a")]


@pytest.mark.parametrize(
    "path",
    [
        "/buckets/.system/owners/t/uploads",
        "/buckets/uploads/.uploads/91f6/0001_f2c8.part",
        "/etc/iam/identity.json",
    ],
)
def test_what_is_hidden_or_elsewhere_is_no_object(path):
    assert told(path, new=entry(path.rpartition("/")[2])) == ()

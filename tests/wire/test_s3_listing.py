import time
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.errors import Refused
from streamfaas.wire.s3_listing import Listed, page

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
KEYS = st.lists(st.binary(min_size=1, max_size=40), unique=True, max_size=20).map(sorted)


def answer(*entries, more=None, name="photos", encoding="url", space=SPACE, truncated=None):
    """As S3 writes it."""
    parts = [
        f"<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        f"<ETag>&quot;abc-2&quot;</ETag><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key, size in entries
    ]
    told = truncated or ("false" if more is None else "true")
    token = "" if more is None else f"<NextContinuationToken>{more}</NextContinuationToken>"
    encoded = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{space}><Name>{name}</Name>'
        f"<Prefix></Prefix><KeyCount>{len(entries)}</KeyCount><MaxKeys>1000</MaxKeys>{encoded}"
        f"<IsTruncated>{told}</IsTruncated>{token}{''.join(parts)}</ListBucketResult>"
    ).encode()


@given(keys=KEYS, encode=st.sampled_from([quote, quote_plus, lambda key: quote(key, safe="")]))
def test_keys_of_any_bytes_come_back_however_the_store_encodes_them(keys, encode):
    found = page(answer(*((encode(key), 7) for key in keys)), "photos")
    assert [each.key for each in found.objects] == keys


def test_an_object_is_told_in_full():
    found = page(answer(("in/a%20b%2B1+c", 12), more="next"), "photos")
    assert found.objects == (Listed(b"in/a b+1 c", 12, "abc-2", 1_767_323_045_000),)
    assert found.next == "next"


def test_a_store_that_does_not_encode_keys_is_taken_at_its_word():
    plain = answer((escape("a+b%20c ü"), 1), encoding=None, space="")
    assert page(plain, "photos").objects[0].key == "a+b%20c ü".encode()


def test_the_last_page_has_no_next():
    assert page(answer(), "photos") == ((), "")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "is no XML"),
        (b"<html><body>Welcome</body></html>", "is <html>"),
        (b"<html><p>Welcome</html>", "is no XML"),
        (
            b"<Error><Code>AccessDenied</Code><Message>No\n way</Message></Error>",
            "is <Error>, AccessDenied: No way",
        ),
        (b"<ListAllMyBucketsResult/>", "is <ListAllMyBucketsResult>"),
        (answer(name="others"), "is one of the bucket others"),
        (answer(truncated="true"), "goes on, and does not say where"),
        (answer(more=""), "goes on, and does not say where"),
        (answer(truncated="maybe"), "does not say whether it is whole"),
        (b"<ListBucketResult><Name>photos</Name></ListBucketResult>", "whether it is whole"),
        (answer(("", 1)), "it has no key"),
        (answer(("a", -1)), "its size is -1"),
        (answer(("a", 1 << 63)), "its size is 9223372036854775808"),
        (answer(("a", "x")), "cannot be read"),
        (answer(("a", 1)).replace(b"2026-01", b"2026-99"), "cannot be read"),
        (answer(("a", 1))[:-20], "is no XML"),
    ],
)
def test_what_is_no_whole_page_of_the_bucket_is_refused(body, told):
    with pytest.raises(Refused, match="photos: ") as raised:
        page(body, "photos")
    assert told in str(raised.value)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_refused(body):
    with pytest.raises(Refused, match=r"^photos: "):
        page(body, "photos")


def test_entities_do_not_swell():
    bomb = b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 1000 + b'">'
    bomb += b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a;" * 1000) for n in range(3))
    bomb += b"]><ListBucketResult>" + b"&a0;&a1;&a2;" * 10_000 + b"</ListBucketResult>"
    began = time.thread_time()
    with pytest.raises(Refused):
        page(bomb, "photos")
    assert time.thread_time() - began < 60  # no time is promised; swollen, it would not end

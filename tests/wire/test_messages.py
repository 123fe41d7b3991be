from __future__ import annotations

import re

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.letters import Attribute, Letter
from streamfaas.wire.messages import message

ALLOWED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
"""What SQS says that a message may hold."""

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("\ufffe\uffff\x00\x1b"))


@given(TEXTS, TEXTS)
def test_any_document_is_sent_as_what_a_queue_takes_and_means_the_same(text, beside):
    letter = Letter("1", orjson.dumps({"a": text}), attributes=(Attribute("b", "String", beside),))
    sent = message(letter)
    assert orjson.loads(sent.body) == {"a": text}
    assert ALLOWED.fullmatch(sent.body)
    values = [told["StringValue"] for told in sent.attributes.values()]
    assert all(value and ALLOWED.fullmatch(value) for value in values)
    assert ("b" in sent.attributes) == bool(beside)


def test_a_message_has_its_id_its_hops_and_what_goes_beside_it():
    code = Attribute("ErrorCode", "Number", "200")
    sent = message(Letter("abc", b"{}", None, 3, (code,)))
    assert sent.attributes == {
        "streamfaas-id": {"DataType": "String", "StringValue": "abc"},
        "streamfaas-hops": {"DataType": "Number", "StringValue": "3"},
        "ErrorCode": {"DataType": "Number", "StringValue": "200"},
    }


def test_the_size_is_that_of_the_body_and_of_all_beside_it():
    sent = message(Letter("abc", '"é"'.encode()))
    beside = "streamfaas-idStringabcstreamfaas-hopsNumber1"
    assert sent.size_bytes == 4 + len(beside)

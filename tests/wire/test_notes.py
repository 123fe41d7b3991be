from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.letters import Attribute, Letter
from streamfaas.wire.notes import PAYLOADS, RESPONSE_BYTES_MAX, note

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)
ENVELOPES = st.fixed_dictionaries(
    {"version": st.just("1.0"), "requestContext": JSON},
    optional=dict.fromkeys(PAYLOADS, JSON),
)


@given(ENVELOPES)
def test_a_note_has_all_that_is_small_and_says_where_the_whole_is(envelope):
    letter = Letter("1", orjson.dumps(envelope), b"k", 3)
    told = note(letter, "/aside.jsonl")
    document = orjson.loads(told.document)
    assert document.pop("streamfaas") == {
        "id": "1",
        "hops": 3,
        "whole": {"place": "/aside.jsonl", "bytes": len(letter.document)},
    }
    response = envelope.get("responsePayload")
    assert document.pop("responsePayload", None) == response
    assert document == {k: v for k, v in envelope.items() if k not in PAYLOADS}
    assert (told.id, told.key, told.hops) == ("1", b"k", 3)


def test_an_answer_that_is_large_is_not_told():
    letter = Letter("1", orjson.dumps({"responsePayload": "x" * RESPONSE_BYTES_MAX}))
    assert "responsePayload" not in orjson.loads(note(letter, "f").document)


def test_of_a_dead_letter_which_is_an_event_alone_nothing_is_told_but_where_it_is():
    beside = (Attribute("RequestID", "String", "r"),)
    for event in ({"requestContext": {"large": "x"}}, ["x"], "x"):
        told = note(Letter("1", orjson.dumps(event), attributes=beside), "f")
        assert orjson.loads(told.document).keys() == {"streamfaas"}
        assert told.attributes == beside

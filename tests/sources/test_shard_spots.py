"""Places of a shard in words: what is told of a mark can be gone to, and is where that stands."""

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.sources.sharded.reading import AFTER, AT, FIRST
from streamfaas.sources.sharded.spots import END, LATEST, is_past, marked, time_text, told
from streamfaas.store.shards import Mark

BLANK = Mark("shard", "life", 7 << 32, "", "", 0, 0, False, 5)
TIMES = st.integers(0, 2**42)
NUMBERS = st.integers(0, 10**56).map(str)
SPOTS = st.one_of(st.sampled_from(["earliest", END]), TIMES.map(time_text), NUMBERS)


@given(SPOTS, st.booleans())
def test_a_mark_that_stands_at_a_spot_says_so_and_is_not_before_it(spot, timestamps):
    mark = marked(spot, BLANK, timestamps=timestamps)
    at_all = spot == time_text(0)  # since ever is the beginning
    assert told(mark) == ("earliest" if at_all else spot)
    assert is_past(mark, spot)
    assert mark.position == BLANK.position
    assert (mark.kind == "AT_TIMESTAMP") <= timestamps


@given(NUMBERS, NUMBERS, st.sampled_from([AT, AFTER]))
def test_numbers_are_compared_as_numbers(one, two, kind):
    mark = BLANK._replace(kind=kind, sequence=one)
    assert is_past(mark, two) is (int(one) >= int(two))


@given(TIMES, TIMES)
def test_a_time_is_compared_with_when_the_last_record_came(one, two):
    mark = BLANK._replace(kind=AFTER, sequence="1", at_ms=one)
    assert is_past(mark, time_text(two)) is (one >= two)


def test_nothing_of_what_is_to_come_is_passed_and_all_of_what_has_ended_is():
    begun = BLANK._replace(kind=FIRST)
    assert not is_past(begun, "5")
    assert not is_past(begun, LATEST)
    assert is_past(BLANK._replace(ended=True), "5")
    assert is_past(BLANK._replace(ended=True), LATEST)


def test_what_follows_and_what_lies_within_an_aggregate_is_told():
    assert told(BLANK._replace(kind=AFTER, sequence="12")) == "after 12"
    assert told(BLANK._replace(kind=AT, sequence="12", sub=3)) == "12.3"

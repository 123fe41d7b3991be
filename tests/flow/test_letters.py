import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.letters import HOPS_HEADER, Letter, hops_of
from streamfaas.flow.record import Lane, Record

LANE = Lane("f/t", "t-0")


def record(*headers):
    return Record(LANE, 0, b"", headers=tuple((name, value) for name, value in headers))


@given(st.lists(st.lists(st.integers(0, 9999), max_size=3), max_size=5))
def test_the_farthest_record_counts(told):
    records = [record(*((HOPS_HEADER, b"%d" % hops) for hops in each)) for each in told]
    assert hops_of(records) == max((hops for each in told for hops in each), default=0)


@given(st.binary(max_size=8))
def test_a_header_may_say_anything(value):
    assert 0 <= hops_of([record((HOPS_HEADER, value))]) <= 9999


def test_a_header_of_another_name_says_nothing():
    assert hops_of([record(("hops", b"7"), ("Streamfaas-Hops", b"7"))]) == 0


@pytest.mark.parametrize("wrong", [{"id": ""}, {"document": b"{\n}"}, {"hops": 0}])
def test_a_letter_has_an_id_one_line_and_has_gone_somewhere(wrong):
    Letter("1", b"{}")
    with pytest.raises(AssertionError):
        Letter(**{"id": "1", "document": b"{}", **wrong})

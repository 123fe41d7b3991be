from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flow_runs import LANE, logs, positions, record, run, stretch
from streamfaas.flow.record import Record
from streamfaas.flow.sift import sorted_out, spared, strand_of, without


@given(logs(), st.data())
def test_every_position_goes_to_one_strand_and_every_wanted_record_to_its_own(log, data):
    places = st.none() | st.integers(0, 3)
    for arrived in log:
        held = arrived.payload.between(arrived.first, arrived.last)
        where = {one.position: data.draw(places) for one in held}

        pieces = sorted_out(arrived, held, lambda one, where=where: where[one.position])

        assert stretch(piece for _, piece in pieces) == stretch([arrived])
        for strand, piece in pieces:
            assert all(where[p] == strand for p in positions([piece]))
        wanted = [p for p, strand in where.items() if strand is not None]
        assert positions(piece for _, piece in pieces) == wanted


@given(logs(), st.lists(st.tuples(st.integers(0, 90), st.integers(0, 20)), max_size=4))
def test_what_letters_speak_of_is_not_run_again_and_still_accounted_for(log, wanted):
    ranges, at = [], 0
    for first, length in sorted(wanted):
        if first >= at:
            ranges.append((first, first + length))
            at = first + length + 1
    kept = {p for first, last in ranges for p in range(first, last + 1)}
    for arrived in log:
        pieces = spared(arrived, ranges)

        assert stretch(pieces) == stretch([arrived])
        assert positions(pieces) == [p for p in positions([arrived]) if p not in kept]


def of_positions(chosen):
    """As rising stretches, some of neighbours as one."""
    found = []
    for position in sorted(chosen):
        if found and found[-1][1] + 1 == position and position % 3:
            found[-1] = (found[-1][0], position)
        else:
            found.append((position, position))
    return found


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_what_is_left_of_stretches_is_what_others_have_not(mine, gone):
    left = without(of_positions(mine), of_positions(gone))

    assert [p for first, last in left for p in range(first, last + 1)] == sorted(mine - gone)


@given(st.binary(max_size=20), st.integers(1, 50))
def test_equal_keys_go_to_one_strand(key, strands):
    one, other = (Record(LANE, at, b"x", key) for at in (1, 2))

    assert strand_of(one, strands) == strand_of(other, strands) < strands


def test_keys_are_spread_and_records_without_one_stay_together():
    used = {strand_of(Record(LANE, n, b"x", b"key-%d" % n), 8) for n in range(200)}

    assert used == set(range(8))
    assert strand_of(record(3), 8) == 0


def test_a_run_of_nothing_is_only_finished_with():
    ((strand, piece),) = sorted_out(run(3, 7, positions=()), (), lambda one: 1)

    assert (strand, piece.first, piece.last, piece.count) == (0, 3, 7, 0)

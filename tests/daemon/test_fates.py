import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.daemon.fates import ANSWERED, ASIDE, FILTERED, SUCCEEDED, WAITING, Fates
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.record import Lane, Record, run_of_records
from streamfaas.sources import Sent
from streamfaas.sources.memory import Memory, MemoryOptions
from streamfaas.telemetry import signals

LANE, OTHER, ELSEWHERE = Lane("f/t", "topic-0"), Lane("f/t", "topic-1"), Lane("g/t", "topic-0")
OK, FAILED = Success(b""), Failure(Fault.FUNCTION, "E", "m")


def ended(first, last, outcome=OK, lane=LANE, request_id="id"):
    count = last - first + 1
    return signals.InvocationEnded(request_id, "f", lane, count, first, last, 0, outcome)


def fates(*positions, lane=LANE):
    made = Fates("f/t", lambda: 0.0)
    for position in positions:
        made.add(Sent("", lane, position))
    return made


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 30)), st.integers(-1, 31))
def test_an_event_of_a_log_has_succeeded_once_it_was_answered_and_its_lane_is_beyond_it(
    sent, ran, settled
):
    made = fates(*sorted(sent))
    for position in ran:
        made.hear(ended(position, position))
        made.hear(ended(position, position, FAILED, lane=OTHER))
        made.hear(ended(position, position, FAILED, lane=ELSEWHERE))
    made.settle(lambda lane: settled if lane == LANE and settled >= 0 else None)
    for fate in made.all:
        answered = fate.sent.position in ran
        expected = WAITING if not answered else ANSWERED
        if answered and 0 <= fate.sent.position <= settled:
            expected = SUCCEEDED
        assert fate.state == expected


def test_a_report_of_some_failed_records_takes_their_success_back():
    made = fates(3, 4)
    made.hear(ended(0, 9))
    made.hear(signals.LaneRetrying(LANE, 4, 4, 1, 1.0, False, ""))
    made.settle(lambda _lane: 3)
    assert [fate.state for fate in made.all] == [SUCCEEDED, WAITING]
    assert [fate.fails for fate in made.all] == [False, True]
    made.hear(ended(4, 4))
    made.settle(lambda _lane: 9)
    assert [fate.state for fate in made.all] == [SUCCEEDED, SUCCEEDED]


def test_what_was_set_aside_has_not_succeeded_though_its_lane_goes_on():
    made = fates(3)
    assert made.hear(ended(0, 9, FAILED)) == made.all
    made.hear(signals.BatchSplit(LANE, 0, 9, (5, 5)))
    made.hear(ended(3, 3, FAILED))
    made.hear(signals.BatchSetAside(LANE, 3, 3, 1, "Skipped", "dead.jsonl"))
    made.settle(lambda _lane: 9)
    assert made.count(ASIDE) == 1
    assert made.hear(ended(3, 3)) == []


def test_what_a_filter_leaves_out_is_not_waited_for():
    made = Fates("f/t", lambda: 0.0)
    made.add(Sent("", LANE, 3), filtered=True)
    assert made.count(FILTERED) == 1
    assert not list(made.open)


def test_an_asynchronous_invocation_is_known_by_its_request_id_in_whatever_slot_it_runs():
    made = Fates("f/t", lambda: 0.0)
    made.add(Sent("abc"), request_id="abc")
    assert made.hear(ended(7, 7, FAILED, request_id="other")) == []
    assert made.hear(ended(8, 8, FAILED, request_id="abc")) == made.all
    made.hear(signals.LaneRetrying(OTHER, 8, 8, 1, 60.0, False, ""))
    assert made.all[0].fails
    made.hear(ended(8, 8, OK, lane=OTHER, request_id="abc"))
    assert made.settle(lambda _lane: None) == made.all


def test_a_file_is_known_by_its_key_until_its_position_is():
    source = Memory("f/t", MemoryOptions("topic"), clock=lambda: 0.0, emit=lambda _signal: None)
    made = Fates("f/t", lambda: 0.0, known_by=lambda record: record.key)
    made.add(Sent("a.txt", key=b"a.txt"))
    for number, key in enumerate((b"b.txt", b"a.txt")):
        batch = Batch((run_of_records((Record(LANE, number, b"", key),)),))
        told = ended(number, number, FAILED)
        made.saw(told, source, batch)
        assert bool(made.hear(told)) == (key == b"a.txt")
    assert made.all[0].position == 1


def test_what_happens_before_it_is_known_where_an_event_lies_is_heard_after_that():
    made = Fates("f/t", lambda: 0.0)
    made.begin()
    assert made.hear(ended(0, 9)) == []
    made.add(Sent("", LANE, 3))
    early = made.ready()
    assert [signal.first for signal in early] == [0]
    assert made.hear(early[0]) == made.all
    assert made.ready() == ()


def test_what_is_known_by_its_key_is_filtered_when_it_is_read_be_that_before_it_is_known():
    made = Fates("f/t", lambda: 0.0, known_by=lambda record: record.key)
    late = made.add(Sent("shard:1", LANE, key=b"1"))
    assert made.filtered(Record(ELSEWHERE, 0, b"", b"1")) is None
    assert made.filtered(Record(LANE, 0, b"", b"1")) is late
    assert made.filtered(Record(LANE, 1, b"", b"2")) is None
    made.add(Sent("shard:2", LANE, key=b"2"))
    assert [fate.state for fate in made.all] == [FILTERED, FILTERED]


def test_a_file_may_be_run_before_it_is_known_that_it_is_there():
    source = Memory("f/t", MemoryOptions("topic"), clock=lambda: 0.0, emit=lambda _signal: None)
    made = Fates("f/t", lambda: 0.0, known_by=lambda record: record.key)
    made.begin()
    told = ended(7, 7)
    made.saw(told, source, Batch((run_of_records((Record(LANE, 7, b"", b"a.txt"),)),)))
    assert made.hear(told) == []
    made.add(Sent("a.txt", key=b"a.txt"))
    assert [made.hear(each) for each in made.ready()] == [made.all]


@given(st.sets(st.integers(0, 3)), st.booleans())
def test_what_a_queue_reports_as_failed_has_not_succeeded_though_the_answer_came(failed, reports):
    """Its lane is never beyond a place: only the answer tells."""
    source = Memory("f/t", MemoryOptions("topic"), clock=lambda: 0.0, emit=lambda _signal: None)
    made = Fates("f/t", lambda: 0.0, known_by=lambda record: record.key, reports=lambda: reports)
    keys = [b"%d" % number for number in range(4)]
    for key in keys:
        made.add(Sent("", key=key))
    batch = Batch((run_of_records(tuple(Record(LANE, n, b"", key) for n, key in enumerate(keys))),))
    named = [{"itemIdentifier": {"partition": LANE.name, "offset": n}} for n in sorted(failed)]
    told = ended(0, 3, Success(orjson.dumps({"batchItemFailures": named})))
    made.saw(told, source, batch)
    made.hear(told)
    made.settle(lambda _lane: None)
    lost = failed if reports else set()
    assert [fate.state for fate in made.all] == [
        WAITING if number in lost else SUCCEEDED for number in range(4)
    ]
    assert [fate.failed for fate in made.all] == [number in lost for number in range(4)]


def test_what_a_queue_reports_as_failed_is_told_to_be_set_aside():
    source = Memory("f/t", MemoryOptions("topic"), clock=lambda: 0.0, emit=lambda _signal: None)
    made = Fates("f/t", lambda: 0.0, known_by=lambda record: record.key, reports=lambda: True)
    made.add(Sent("", key=b"1"))
    told = ended(0, 0, Success(b"not a report"))
    made.saw(told, source, Batch((run_of_records((Record(LANE, 0, b"", b"1"),)),)))
    made.hear(told)
    made.hear(signals.BatchSetAside(LANE, 0, 0, 1, "RetryAttemptsExhausted", "dead.jsonl"))
    assert made.settle(lambda _lane: None) == []
    assert made.count(ASIDE) == 1

"""What is received makes batches, and what went back is remembered."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import Instant, Lane, Record
from streamfaas.sources.sqs.gathering import APART_MAX, Gathering
from streamfaas.sources.sqs.message import Message, position_of, receives_of
from streamfaas.sources.sqs.returned import KNOWN_MAX, SHOWN_MAX, Returned

LANE = Lane("shop/orders", "slot-0")


def message(position, group=None, deliveries=0, weight=100, *, wanted=True, alone=False):
    return Message(
        id=f"m{position}",
        receipt=f"r{position}",
        record=Record(LANE, position, b"x", weight=weight),
        group=group,
        deliveries=deliveries,
        receives=deliveries + 1,
        wanted=wanted,
        alone=alone,
        since=Instant(0.0),
        until=Instant(30.0),
    )


arrivals = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 3),
        st.integers(1, 5_000),
        st.booleans(),
        st.floats(0, 2),
    ),
    max_size=60,
)


@given(
    arrivals,
    st.booleans(),
    st.booleans(),
    st.integers(1, 12),
    st.sampled_from([0.0, 1.0]),
    st.data(),
)
def test_everything_comes_out_once_in_batches_that_belong_together(
    came, fifo, apart, size, window, data
):
    policy = BatchPolicy(size, 10_000, 0.0 if fifo else window)
    gathering = Gathering(policy, fifo=fifo, apart=apart)
    now, batches, added = 0.0, [], []

    def take(busy):
        due = gathering.due(busy)
        batch = gathering.take(Instant(now), busy)
        assert bool(batch) == (due is not None and due <= now)
        assert not {each.group for each in batch} & set(busy) or not fifo
        if batch:
            batches.append(batch)
        return batch

    for position, (group, deliveries, weight, wanted, pause) in enumerate(came):
        now += pause
        one = message(position, group, 0 if fifo else deliveries, weight, wanted=wanted)
        added.append(one)
        gathering.add(one, Instant(now))
        if data.draw(st.booleans()):
            take(data.draw(st.sampled_from([(), ("a",), ("a", "b")])) if fifo else ())
        assert gathering.batches >= (len(gathering) > 0)
    now += 10
    while take(()):
        pass
    assert len(gathering) == 0
    assert sorted(each.position for batch in batches for each in batch) == list(range(len(came)))
    for batch in batches:
        places = [each.position for each in batch]
        assert places == sorted(places)
        assert len({each.group if fifo else each.deliveries for each in batch}) == 1
        past = batch[0].deliveries
        limit = max(1, min(size, APART_MAX) >> past) if apart and past else size
        assert sum(each.wanted for each in batch) <= max(1, limit)
        assert len(batch) == 1 or sum(each.record.weight for each in batch) <= 10_000
    if fifo:
        order = defaultdict(list)
        for batch in batches:
            order[batch[0].group] += [each.position for each in batch]
        assert all(places == sorted(places) for places in order.values())


def test_a_batch_waits_for_its_window_unless_it_is_full():
    gathering = Gathering(BatchPolicy(3, 10_000, 5.0), fifo=False, apart=True)
    gathering.add(message(1), Instant(1.0))
    assert gathering.due(()) == 6.0
    assert (gathering.batches, gathering.shortfall) == (1, 2)
    assert gathering.take(Instant(5.9), ()) == ()
    for position in (2, 3):
        gathering.add(message(position), Instant(2.0))
    assert gathering.shortfall == 0
    assert len(gathering.take(Instant(2.0), ())) == 3


def test_what_nobody_wants_makes_no_batch_fuller_and_goes_with_it():
    gathering = Gathering(BatchPolicy(2, 10_000, 5.0), fifo=False, apart=True)
    for position in range(5):
        gathering.add(message(position, wanted=position in {1, 4}), Instant(0.0))
    assert [each.position for each in gathering.take(Instant(0.0), ())] == [0, 1, 2, 3, 4]


def test_what_failed_together_comes_apart_each_time_a_little_more():
    gathering = Gathering(BatchPolicy(10, 1_000_000), fifo=False, apart=True)
    assert [gathering.limit(failures) for failures in range(5)] == [10, 5, 2, 1, 1]
    large = Gathering(BatchPolicy(10_000, 1_000_000), fifo=False, apart=True)
    assert [large.limit(failures) for failures in range(6)] == [10_000, 8, 4, 2, 1, 1]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_what_is_to_go_alone_does(came, fifo, apart):
    gathering = Gathering(BatchPolicy(10, 10_000), fifo=fifo, apart=apart)
    for position, (deliveries, alone) in enumerate(came):
        one = message(position, "a" if fifo else None, deliveries, alone=alone)
        gathering.add(one, Instant(0.0))
    places = []
    while batch := gathering.take(Instant(1.0), ()):
        assert len(batch) == 1 or not any(each.alone for each in batch)
        places += [each.position for each in batch]
    assert sorted(places) == list(range(len(came)))
    assert not fifo or places == sorted(places)


# -- positions


def told(id_, sent=None, sequence=None, receives="1"):
    attributes = {"ApproximateReceiveCount": receives}
    if sent is not None:
        attributes["SentTimestamp"] = str(sent)
    if sequence is not None:
        attributes["SequenceNumber"] = sequence
    return {"MessageId": id_, "Attributes": attributes}


@given(st.uuids(), st.integers(1_600_000_000_000, 2_000_000_000_000), st.integers(1, 10_000))
def test_a_message_stands_at_the_same_place_in_each_life_after_what_was_sent_before(
    id_, sent, later
):
    place = position_of(told(str(id_), sent))
    assert place == position_of(told(str(id_), sent, receives="7"))
    assert 0 <= place < 1 << 63
    assert position_of(told("another", sent + later)) > place
    assert receives_of(told(str(id_), sent, receives="7")) == 7


@given(st.integers(0, 10**19), st.integers(1, 1 << 40))
def test_messages_of_a_group_stand_as_the_queue_has_them(first, step):
    base = 1 << 64  # as SQS has them, of 20 digits
    places = [position_of(told("m", 1, str(base + first % (1 << 62) + n * step))) for n in (0, 1)]
    assert places[0] < places[1] < 1 << 63


# -- what went back


def test_what_went_back_without_having_run_does_not_count():
    returned = Returned(fifo=False)
    one = message(1)
    assert returned.deliveries(one.id, 3) == 2
    returned.unrun([one])
    returned.unrun([one])
    assert returned.deliveries(one.id, 3) == 0
    assert returned.deliveries(one.id, 4) == 1
    returned.finished([one])
    assert returned.deliveries(one.id, 4) == 3


def test_what_failed_is_shown_until_it_is_done_or_must_be_elsewhere():
    returned = Returned(fifo=False)
    failed = [message(1), message(2, deliveries=4)]
    returned.failed(failed, Instant(10.0), "why", until=Instant(100.0))
    held = returned.held(Instant(6.0))
    assert {key: (each.attempt, each.reason, each.at) for key, each in held.items()} == {
        "m1": (1, "why", 10.0),
        "m2": (5, "why", 10.0),
    }
    returned.finished([message(1)])
    assert set(returned.held(Instant(99.0))) == {"m2"}
    assert not returned.held(Instant(101.0))


def test_what_the_queue_moves_is_shown_until_it_may_do_so():
    returned = Returned(fifo=False)
    failed = [message(1), message(2, deliveries=4)]
    returned.failed(failed, Instant(10.0), "why", Instant(100.0), moved={"m2"})
    assert set(returned.held(Instant(9.0))) == {"m1", "m2"}
    assert set(returned.held(Instant(10.0))) == {"m1"}
    in_order = Returned(fifo=True)
    batch = [message(position, "a") for position in range(2)]
    in_order.failed(batch, Instant(10.0), "why", Instant(100.0))
    in_order.failed(batch[:1], Instant(11.0), "why", Instant(100.0), moved={"m0"})
    in_order.finished(batch[1:])
    assert not in_order.suspects(Instant(12.0)), "those behind it wait no longer for it"


def test_a_group_is_suspect_until_as_many_are_done_as_failed_together():
    returned = Returned(fifo=True)
    batch = [message(position, "a") for position in range(3)]
    returned.failed(batch, Instant(10.0), "why", Instant(100.0))
    returned.failed(batch[:1], Instant(12.0), "why", Instant(100.0))
    assert set(returned.held(Instant(12.0))) == {"a"}
    for each in batch:
        assert returned.suspects(Instant(13.0))
        returned.finished([each])
    assert not returned.suspects(Instant(13.0))
    returned.failed(batch, Instant(10.0), "why", Instant(100.0))
    assert not returned.suspects(Instant(101.0)), "it is elsewhere by now"


def test_what_is_remembered_is_bounded():
    returned = Returned(fifo=False)
    many = [message(position) for position in range(KNOWN_MAX + 5)]
    returned.unrun(many)
    returned.failed(many, Instant(1.0), "why", Instant(90.0))
    assert returned.deliveries("m0", 2) == 1
    assert returned.deliveries(many[-1].id, 2) == 0
    assert len(returned.held(Instant(0.0))) == SHOWN_MAX

"""What waits to be sent: bounded, counted, and nobody waits for it."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.telemetry.otlp.outlet import FULL, Outlet, Sent
from streamfaas.telemetry.otlp.settings import Bounds

SMALL = Bounds(waiting_max=20, batch_max=5, delay_seconds=0.001)


class Far:
    """A collector that answers as it is told, or only once it may."""

    def __init__(self, *answers, shut=False):
        self.answers = list(answers)
        self.open = threading.Event()
        self.asked = threading.Semaphore(0)
        if not shut:
            self.open.set()
        self.batches = []
        self.told = []

    def send(self, items):
        self.asked.release()
        assert self.open.wait(20)
        self.batches.append(items)
        answer = self.answers.pop(0) if self.answers else Sent()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell(self, reason, lost):
        self.told.append((reason, lost))

    def outlet(self, bounds=SMALL):
        return Outlet("test", self.send, bounds, self.tell)


def end(outlet):
    outlet.finish()
    assert outlet.join(20)


ANSWERS = st.one_of(
    st.just(Sent()),
    st.builds(Sent, st.integers(0, 9), st.just("no")),
    st.just(ValueError("broken")),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 8), max_size=60), st.lists(ANSWERS, max_size=10))
def test_everything_is_sent_or_counted_as_lost_and_never_does_more_wait_than_may(sizes, answers):
    far = Far(*answers)
    outlet = far.outlet()
    for size in sizes:
        outlet.put(size, size)
        assert outlet.held <= SMALL.waiting_max
    end(outlet)
    assert outlet.held == 0
    assert outlet.sent + outlet.dropped == sum(sizes)
    for batch in far.batches:
        assert len(batch) == 1 or sum(batch) <= SMALL.batch_max
    # in the order in which they came
    sent = [size for batch in far.batches for size in batch]
    rest = iter(sizes)
    assert all(size in rest for size in sent)


def test_where_nothing_is_taken_what_comes_is_dropped_and_told_once():
    far = Far(shut=True)
    outlet = far.outlet()
    outlet.put(0)
    assert far.asked.acquire(timeout=20)  # on its way, and it stays there
    for number in range(10_000):
        outlet.put(number)
    assert outlet.held == SMALL.waiting_max
    assert outlet.dropped == 10_000 - SMALL.waiting_max
    assert far.told == [(FULL, 1)]
    assert outlet.view()["failing"] == FULL
    far.open.set()
    end(outlet)
    assert outlet.sent == 1 + SMALL.waiting_max
    assert far.told == [(FULL, 1), ("", outlet.dropped)]


def test_a_failure_is_told_once_and_its_healing_with_all_that_was_lost():
    far = Far(Sent(2, "401 Unauthorized"), Sent(3, "500"), Sent())
    outlet = far.outlet(Bounds(100, 3, 0.0))
    for number in range(9):
        outlet.put(number)
    end(outlet)
    assert (far.told[0][0], far.told[-1][0]) == ("401 Unauthorized", "")
    assert len(far.told) == 2
    assert far.told[-1][1] == outlet.dropped
    assert outlet.view() == {"sent": 9 - outlet.dropped, "dropped": outlet.dropped, "waiting": 0, "failing": ""}  # fmt: skip


def test_what_fails_again_within_a_minute_is_not_told_again():
    far = Far(*[Sent(1, "no"), Sent()] * 20)
    outlet = far.outlet(Bounds(100, 1, 0.0))
    for number in range(40):
        outlet.put(number)
    end(outlet)
    assert [reason for reason, _ in far.told] == ["no", ""]
    assert outlet.dropped == 20


def test_a_sender_that_breaks_loses_its_batch_and_no_more():
    far = Far(RuntimeError("what is this?"))
    outlet = far.outlet(Bounds(100, 1, 0.0))
    outlet.put("a")
    outlet.put("b")
    end(outlet)
    assert (outlet.sent, outlet.dropped) == (1, 1)
    assert far.told[0] == ("RuntimeError: what is this?", 1)


def test_the_end_does_not_wait_for_a_pause_that_a_collector_asked_for():
    far = Far(Sent(1, "429 Too Many Requests", pause_seconds=200.0))
    outlet = far.outlet(Bounds(100, 1, 0.0))
    outlet.put("a")
    assert far.asked.acquire(timeout=20)
    outlet.put("b")
    end(outlet)
    assert (outlet.sent, outlet.dropped) == (1, 1)


def test_what_is_not_sent_in_the_time_there_is_is_counted():
    far = Far(shut=True)
    outlet = far.outlet(Bounds(100, 5, 0.0))
    for number in range(12):
        outlet.put(number)
    assert far.asked.acquire(timeout=20)
    outlet.finish()
    assert not outlet.join(0.0)
    outlet.give_up()
    assert outlet.dropped == 12
    outlet.put("late")
    assert outlet.dropped == 13
    far.open.set()
    assert outlet.join(20)
    assert (outlet.sent, outlet.dropped, outlet.held) == (0, 13, 0)


def test_one_thing_that_is_larger_than_all_that_may_wait_is_sent_alone():
    far = Far()
    outlet = far.outlet()
    outlet.put("large", 1_000)
    end(outlet)
    assert far.batches == [["large"]]
    assert outlet.sent == 1_000

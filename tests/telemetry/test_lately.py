"""Rates of the last minute agree with counting all that was told, whenever one asks."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.record import Lane
from streamfaas.telemetry import signals
from streamfaas.telemetry.lately import (
    BOUNDS,
    MARKS_MAX,
    RATE_SECONDS,
    STEP,
    TICK_SECONDS,
    Lately,
    percentile,
)

LANE = Lane("f/t", "topic-0")
PLACES = dict


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def ended(outcome, *, lane=LANE, records=10):
    return signals.InvocationEnded("id", "f", lane, records, 0, 9, 0, outcome)


def ran(seconds, *, cold=False, fault=None):
    report = Report("w", seconds, 0.5 if cold else None)
    return Success(b"", None, report) if fault is None else Failure(fault, "T", "m", report=report)


def made():
    clock = Clock()
    return Lately(clock=clock, wall_clock=lambda: 5.0, cpu_clock=lambda: clock.now / 4), clock


CALLS = st.tuples(
    st.floats(0.0, 3.0),
    st.floats(2e-4, 1000.0),
    st.sampled_from([None, None, Fault.FUNCTION, Fault.TIMEOUT, Fault.THROTTLED]),
)


@settings(max_examples=60)
@given(st.lists(CALLS, max_size=120))
def test_what_is_shown_is_what_was_told_in_the_window(calls):
    lately, clock = made()
    told, next_tick, ticks = [], clock.now + TICK_SECONDS, [clock.now]
    for pause, seconds, fault in calls:
        clock.now += pause
        while next_tick <= clock.now:
            now, clock.now = clock.now, next_tick
            lately.tick(PLACES)
            ticks.append(next_tick)
            clock.now, next_tick = now, next_tick + TICK_SECONDS
        lately(ended(ran(seconds, fault=fault)))
        if fault is not Fault.THROTTLED:
            told.append((clock.now, seconds, fault))
    clock.now += 0.5
    shown = lately.trigger("f/t")
    assert shown == lately.function("f")
    short = next((at for at in reversed(ticks) if at <= clock.now - RATE_SECONDS), ticks[0])
    oldest = ticks[-MARKS_MAX:][0]
    quick = sum(at >= short for at, *_ in told)
    assert shown["invocations_per_second"] == pytest.approx(quick / (clock.now - short))
    assert shown["records_per_second"] == pytest.approx(10 * quick / (clock.now - short))
    whole = [(seconds, fault) for at, seconds, fault in told if at >= oldest]
    failed = sum(fault is not None for _, fault in whole)
    assert shown["errors_percent"] == pytest.approx(100 * failed / len(whole) if whole else 0)
    for share, name in ((0.5, "p50_seconds"), (0.99, "p99_seconds")):
        ordered = sorted(seconds for seconds, _ in whole)
        if not ordered:
            assert shown[name] is None
        else:
            exact = ordered[math.ceil(share * len(ordered)) - 1]
            assert exact / STEP <= shown[name] <= exact * STEP


@given(st.integers(0, len(BOUNDS)), st.integers(1, 10**9))
def test_a_percentile_of_one_bucket_lies_in_it(at, count):
    counts = [0] * (len(BOUNDS) + 1)
    counts[at] = count
    found = percentile(counts, 0.5)
    assert found <= BOUNDS[min(at, len(BOUNDS) - 1)]
    assert not at or at >= len(BOUNDS) or found >= BOUNDS[at - 1]


def test_direct_calls_and_cold_starts_belong_to_the_function():
    lately, clock = made()
    lately(ended(ran(0.1, cold=True)))
    lately(ended(ran(0.1, cold=True), lane=None))
    lately(ended(ran(0.1), lane=Lane("other/t", "topic-0")))
    assert lately.function("f")["cold_starts_per_hour"] == 2
    assert lately.trigger("f/t")["cold_starts_per_hour"] == 1
    clock.now += 3601
    assert lately.function("f")["cold_starts_per_hour"] == 0
    assert lately.function("nobody")["p50_seconds"] is None


def test_a_lane_is_caught_up_when_its_lag_over_the_gain_has_passed():
    lately, clock = made()
    for step in range(6):
        lately.tick(lambda step=step: {"f/t": {"topic-0": (step * 1000, 5000 - step * 600)}})
        for _ in range(4):
            clock.now += 2
            lately.tick(PLACES)
        clock.now += 2
    lane = lately.lane("f/t", "topic-0", 6000, 1400)
    assert lane["done_per_second"] == pytest.approx(100)
    assert lane["came_per_second"] == pytest.approx(40)
    assert lane["caught_up_in_seconds"] == pytest.approx(1400 / 60)
    assert lately.lane("f/t", "topic-0", 6000, 0)["caught_up_in_seconds"] == 0
    assert lately.lane("f/t", "topic-1", 5, 5)["done_per_second"] is None


def test_a_lane_that_falls_behind_is_never_caught_up_and_one_sent_back_has_no_rate():
    lately, clock = made()
    for position in (0, 10, 20):
        lately.tick(lambda position=position: {"f/t": {"a": (position, 100 + 9 * position)}})
        for _ in range(4):
            lately.tick(PLACES)
        clock.now += 10
    assert lately.lane("f/t", "a", 30, 370)["caught_up_in_seconds"] is None
    assert lately.lane("f/t", "a", 30, 370)["came_per_second"] == pytest.approx(10)
    lately.tick(lambda: {"f/t": {"a": (5, 300)}})
    assert lately.lane("f/t", "a", 5, 300)["done_per_second"] is None


def test_a_lane_whose_positions_leap_has_no_rate_until_that_is_past():
    lately, clock = made()
    for position in (7, 1 << 32, (1 << 32) + 50, (1 << 32) + 100, (1 << 32) + 150):
        lately.tick(lambda position=position: {"f/t": {"a": (position, 0)}})
        if position == 1 << 32:
            assert lately.lane("f/t", "a", position, 0)["done_per_second"] is None
        for _ in range(4):
            lately.tick(PLACES)
        clock.now += 10
    assert lately.lane("f/t", "a", (1 << 32) + 200, 0)["done_per_second"] == pytest.approx(5)


def test_a_rate_decays_as_soon_as_nothing_more_is_done():
    lately, clock = made()
    for position in (0, 1000):
        lately.tick(lambda position=position: {"f/t": {"a": (position, 0)}})
        for _ in range(4):
            lately.tick(PLACES)
        clock.now += 10
    rates = []
    for _ in range(3):
        rates.append(lately.lane("f/t", "a", 1000, 0)["done_per_second"])
        clock.now += 10
    assert rates == pytest.approx([50, 1000 / 30, 25])


def test_what_is_done_of_in_a_moment_is_no_backlog_that_is_never_caught_up():
    lately, clock = made()
    lately.tick(lambda: {"f/t": {"a": (0, 5)}})
    clock.now += 10
    assert lately.lane("f/t", "a", 2000, 60)["caught_up_in_seconds"] == pytest.approx(0.3)
    assert lately.lane("f/t", "a", 2000, 1001)["caught_up_in_seconds"] is None
    assert lately.lane("f/t", "a", 0, 5)["caught_up_in_seconds"] is None


def test_a_source_is_unwell_from_when_it_stopped_running_until_it_runs_again():
    lately, clock = made()

    def told(state):
        lately(signals.SourceChanged("f/t", state, ""))
        clock.now += 7
        return lately.unwell_seconds("f/t")

    assert [told(state) for state in ("connecting", "degraded", "running")] == [None] * 3
    assert [told(state) for state in ("degraded", "connecting", "degraded", "running")] == [
        7, 14, 21, None,
    ]  # fmt: skip


def test_the_last_errors_are_kept_the_newest_first():
    lately, _ = made()
    for number in range(9):
        outcome = Failure(Fault.FUNCTION, "KeyError", str(number) * 1000)
        lately(ended(outcome))
    errors = lately.errors("f/t")
    assert [error["message"][0] for error in errors] == ["8", "7", "6", "5", "4"]
    assert {len(error["message"]) for error in errors} == {400}
    assert lately.errors("f/u") == []


def test_the_processor_time_is_that_of_the_last_seconds():
    lately, clock = made()
    for _ in range(20):
        clock.now += 2
        lately.tick(PLACES)
    assert lately.cpu == pytest.approx(0.25)

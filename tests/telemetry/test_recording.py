from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.trace import Context
from streamfaas.telemetry.recorder import Recorder, Sampling
from streamfaas.telemetry.recording import Ends, Origin
from streamfaas.telemetry.spans import SpanKind


@given(st.integers(1, 5), st.integers(0, 30))
def test_of_a_series_the_ends_are_kept_and_the_rest_is_counted(most, count):
    ends = Ends(most)
    for number in range(count):
        ends.add(number)
    kept = list(ends)
    assert len(kept) + ends.left_out == len(ends) == count
    assert kept[:most] == list(range(min(most, count)))
    assert kept[most:] == list(range(max(most, count - most), count))


ALL = Sampling(ratio=1.0)


def called(outcome, *, parent=None, sampling=ALL):
    """What is kept of a call by hand, and the context that its function was given."""
    traces = []
    recorder = Recorder(sampling, traces.append)
    with recorder.call(Origin("f"), parent) as recording:
        context = recording.attempt("an-id")
        recording.tried(None, outcome)
    return traces, context


def test_a_call_by_hand_is_one_span_of_its_own():
    (found,), context = called(Success(b""))
    (span,) = found.spans
    assert (span.name, span.kind, span.parent_id) == ("f", SpanKind.SERVER, 0)
    assert (found.trace_id, span.span_id) == (context.trace_id, context.span_id)
    assert span.attributes["faas.trigger"] == "other"
    assert "streamfaas.attempt" not in span.attributes


def test_a_callers_trace_goes_on_and_his_decision_holds():
    for sampled in (True, False):
        parent = Context(77, 88, sampled)
        traces, context = called(Success(b""), parent=parent, sampling=Sampling(ratio=not sampled))
        assert (context.trace_id, context.sampled) == (77, sampled)
        assert bool(traces) == sampled
        if sampled:
            assert traces[0].spans[0].parent_id == 88


def test_where_the_sampler_does_not_follow_callers_the_ratio_decides():
    sampling = Sampling(ratio=1.0, follows=False)
    traces, context = called(Success(b""), parent=Context(77, 88), sampling=sampling)
    assert context == Context(77, context.span_id, sampled=True)
    assert len(traces) == 1


def test_sampling_may_change_while_the_daemon_runs():
    traces = []
    recorder = Recorder(Sampling(ratio=0.0), traces.append)
    for sampling in (Sampling(ratio=1.0), Sampling(ratio=0.0)):
        with recorder.call(Origin("f"), None) as recording:
            recording.attempt("an-id")
            recorder.sample(sampling)
    assert [found.kept for found in traces] == ["sampled"]


def test_an_error_type_that_is_no_proper_text_is_made_one():
    bad = Failure(Fault.FUNCTION, "\ud800" + "x" * 1000, "")
    (found,), _ = called(bad, sampling=Sampling())
    assert found.spans[0].error.encode() == b"\\ud800" + b"x" * 199


def test_all_keepers_are_given_what_is_kept():
    one, two = [], []
    recorder = Recorder(Sampling(ratio=1.0), one.append)
    recorder.keepers.append(two.append)
    with recorder.call(Origin("f"), None) as recording:
        recording.attempt("an-id")
        assert len(recorder.going()) == 1
    assert one == two
    assert len(one) == 1
    assert recorder.going() == []

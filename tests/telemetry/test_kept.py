from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.telemetry.kept import KeptTraces, size_bytes
from streamfaas.telemetry.spans import Span, SpanKind, Trace


def made(number, kept="sampled", spans=1):
    span = Span("f", SpanKind.SERVER, 1, 0, number, number, {})
    return Trace(number, kept, (span,) * spans)


reasons = st.sampled_from(["sampled", "sampled", "sampled", "error", "slow"])


@given(st.lists(st.tuples(reasons, st.integers(1, 20))), st.integers(0, 8), st.integers(0, 60))
def test_what_is_held_stays_within_its_bounds_and_the_rest_is_counted(asked, most, thousands):
    kept = KeptTraces(most, bytes_max=thousands * 1000)
    for number, (reason, spans) in enumerate(asked, 1):
        kept(made(number, reason, spans))
        held = kept.newest_first()
        assert len(held) == len(kept) <= most
        assert sum(map(size_bytes, held)) == kept.held_bytes <= thousands * 1000
        assert len(held) + kept.dropped == number
        ids = [trace.trace_id for trace in held]
        assert ids == sorted(ids, reverse=True)


def test_what_is_sampled_does_not_drive_out_what_failed():
    kept = KeptTraces(10)
    kept(made(1, "error"))
    for number in range(2, 100):
        kept(made(number))
    assert [trace.trace_id for trace in kept.newest_first()] == [*range(99, 90, -1), 1]

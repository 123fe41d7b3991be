"""The last lines of each function."""

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.telemetry.recent import LINE_COST_BYTES, Recent
from streamfaas.telemetry.signals import DaemonStepped, LogWritten


def line(function, number, text="x"):
    return LogWritten(function, f"{function}#1", "an-id", text, False, number)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=300)), max_size=60),
    st.integers(0, 5_000),
)
def test_of_each_function_the_newest_that_fit_are_there(written, bytes_max):
    recent = Recent(bytes_max)
    lines = [line(function, at, text) for at, (function, text) in enumerate(written)]
    for each in lines:
        recent(each)
    recent(DaemonStepped("ready"))
    kept = list(recent.newest_first())
    assert kept == sorted(kept, key=lambda each: -each.time_ns)
    for function in "abc":
        own = [each for each in lines if each.function == function]
        held = list(recent.newest_first(function))
        assert held == own[::-1][: len(held)]
        assert [each for each in kept if each.function == function] == held
        assert sum(len(each.line) + LINE_COST_BYTES for each in held) <= bytes_max
        if len(held) < len(own):
            more = [*held, own[::-1][len(held)]]
            assert sum(len(each.line) + LINE_COST_BYTES for each in more) > bytes_max


def test_a_function_that_has_said_nothing_has_no_lines():
    assert list(Recent(1_000).newest_first("a")) == []

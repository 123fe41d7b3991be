from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.config.tracing import Traces
from streamfaas.daemon.sampling import ARGUMENT, LINKS, SAMPLER, sampling_of
from streamfaas.telemetry.recorder import Sampling

TRACES = Traces(sample=0.25, always_sample=["errors", "slow>2s", "slow>500ms"], max_links=7)
ASKED = Sampling(ratio=0.25, errors=True, slow_seconds=0.5, follows=True, links_max=7)


def told(**environ):
    sampling, notes = sampling_of(TRACES, environ)
    return sampling, list(notes)


def test_without_variables_the_file_counts():
    assert told() == (ASKED, [])
    assert sampling_of(Traces(always_sample=[]), {})[0] == Sampling(0.05, errors=False)


@pytest.mark.parametrize(
    ("environ", "ratio", "follows", "note"),
    [
        ({SAMPLER: "always_on"}, 1, False, "sample 1, as OTEL_TRACES_SAMPLER says"),
        ({SAMPLER: "always_off"}, 0, False, "sample 0, as OTEL_TRACES_SAMPLER says"),
        ({SAMPLER: "parentbased_always_on"}, 1, True, "sample 1, as OTEL_TRACES_SAMPLER says"),
        ({SAMPLER: "parentbased_always_off"}, 0, True, "sample 0, as OTEL_TRACES_SAMPLER says"),
        (
            {SAMPLER: "traceidratio", ARGUMENT: "0.5"}, 0.5, False,
            "sample 0.5, as OTEL_TRACES_SAMPLER_ARG says",
        ),
        (
            {SAMPLER: "parentbased_traceidratio", ARGUMENT: " 0.5 "}, 0.5, True,
            "sample 0.5, as OTEL_TRACES_SAMPLER_ARG says",
        ),
        (
            {SAMPLER: "traceidratio"}, 1, False,
            "sample 1, as OTEL_TRACES_SAMPLER says without OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            {SAMPLER: "traceidratio", ARGUMENT: "2"}, 0.25, False,
            "OTEL_TRACES_SAMPLER_ARG='2' is no number from 0 to 1: sample 0.25",
        ),
        (
            {SAMPLER: "xray"}, 0.25, True,
            "OTEL_TRACES_SAMPLER='xray' is not known: sample 0.25",
        ),
        (
            {ARGUMENT: "0.5"}, 0.25, True,
            "OTEL_TRACES_SAMPLER_ARG is ignored: it is OTEL_TRACES_SAMPLER's, which is not set",
        ),
    ],
)  # fmt: skip
def test_the_samplers_variables_win_over_the_file(environ, ratio, follows, note):
    sampling, notes = told(**environ)
    assert (sampling.ratio, sampling.follows) == (ratio, follows)
    assert notes == [note]
    assert (sampling.errors, sampling.slow_seconds, sampling.links_max) == (True, 0.5, 7)


def test_the_limit_of_links_wins_over_the_file_as_far_as_workers_can_tell_them():
    assert told(**{LINKS: "3"})[0].links_max == 3
    assert told(**{LINKS: "9" * 30})[0].links_max == 2_000
    sampling, notes = told(**{LINKS: "-1"})
    assert sampling == ASKED
    assert notes == ["OTEL_SPAN_LINK_COUNT_LIMIT='-1' is no whole number: up to 7 links"]


@given(st.text(), st.text(), st.text())
def test_whatever_the_variables_say_there_is_a_sampling(sampler, argument, links):
    sampling, notes = told(**{SAMPLER: sampler, ARGUMENT: argument, LINKS: links})
    assert 0 <= sampling.ratio <= 1
    assert len(notes) <= 2

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flow_runs import LANE
from streamfaas.flow import trace
from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Record, run_of_records
from streamfaas.flow.trace import Context

trace_ids = st.integers(1, 2**128 - 1)
span_ids = st.integers(1, 2**64 - 1)
contexts = st.builds(Context, trace_ids, span_ids, st.booleans())
few_contexts = st.builds(Context, st.integers(1, 9), span_ids, st.booleans())

ONE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(contexts)
def test_what_is_written_is_read_again(context):
    assert trace.parse(context.traceparent) == context
    assert trace.parse(context.traceparent.encode()) == context


@given(contexts)
def test_x_ray_and_w3c_name_the_same_trace_and_span(context):
    _, trace_id, span_id, flags = context.traceparent.split("-")
    fields = dict(field.split("=") for field in context.xray.split(";"))
    assert fields["Root"].replace("-", "") == "1" + trace_id
    assert fields["Parent"] == span_id
    assert int(fields["Sampled"]) == int(flags)


headers = st.one_of(
    st.text(),
    st.binary(),
    st.from_regex(r"[0-9a-fA-F]{2}-[0-9a-fA-F]{32}-[0-9a-fA-F]{16}-[0-9a-fA-F]{2}(-x)?\Z"),
    st.tuples(st.sampled_from(ONE), st.characters(), contexts).map(
        lambda drawn: drawn[2].traceparent.replace(drawn[0], drawn[1])
    ),
)


@given(headers)
def test_any_header_is_a_context_or_none(header):
    found = trace.parse(header)
    if found is not None:
        assert 0 < found.trace_id < 1 << 128
        assert 0 < found.span_id < 1 << 64


@given(headers.filter(lambda header: isinstance(header, str) and header.isascii()))
def test_what_we_take_opentelemetry_takes_too_and_understands_alike(header):
    found = trace.parse(header)
    if found is None:
        return
    carried = TraceContextTextMapPropagator().extract({"traceparent": header})
    (span,) = carried.values()
    theirs = span.get_span_context()
    ours = (found.trace_id, found.span_id, found.sampled)
    assert ours == (theirs.trace_id, theirs.span_id, theirs.trace_flags.sampled)


@pytest.mark.parametrize(
    "header",
    [
        None, "", b"", "00", ONE.upper(), f" {ONE}", f"{ONE} ", f"{ONE}\n", f"{ONE}-00", f"{ONE}0",
        ONE.replace("00-", "ff-", 1), ONE[:-1], ONE.replace("-", "_"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        ONE.replace("00-", "01-", 1) + ".x", ONE.replace("00-", "01-", 1) + "-" + "x" * 600,
    ],
)  # fmt: skip
def test_a_header_that_is_written_badly_is_ignored(header):
    assert trace.parse(header) is None


def test_a_later_version_may_say_more():
    later = ONE.replace("00-", "cc-", 1)
    assert trace.parse(later) == trace.parse(ONE)
    assert trace.parse(f"{later}-what-will-be") == trace.parse(ONE)


@given(trace_ids, st.floats(0, 1))
def test_the_sample_is_the_one_that_opentelemetry_would_draw(trace_id, ratio):
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
    ours = trace.is_within(trace_id, trace.ratio_bound(ratio))
    assert ours == (theirs is Decision.RECORD_AND_SAMPLE)


def test_all_or_nothing_is_all_or_nothing():
    assert trace.is_within(2**128 - 1, trace.ratio_bound(1.0))
    assert not trace.is_within(1 << 64, trace.ratio_bound(0.0))


@given(st.lists(few_contexts), st.integers(0, 5))
def test_links_are_one_of_each_trace_and_sampled_ones_go_first(found, most):
    links = trace.linked(found, most)
    ids = [context.trace_id for context in links.contexts]
    assert len(set(ids)) == len(ids) <= most
    assert len(ids) + links.dropped == len({context.trace_id for context in found})
    assert set(links.contexts) <= set(found)
    flags = [context.sampled for context in links.contexts]
    assert flags == sorted(flags, reverse=True)
    sampled = {context.trace_id for context in found if context.sampled}
    if links.dropped:
        assert sum(flags) == min(len(sampled), most)


@given(st.lists(contexts, max_size=20), st.integers(0, 2**32 - 1))
def test_what_a_worker_hands_back_is_read_as_it_was_packed(found, dropped):
    section = dropped.to_bytes(4, "little") + b"".join(each.packed for each in found)
    assert trace.handed_back(section) == trace.Links(tuple(found), dropped)


@given(st.binary(max_size=200))
def test_whatever_a_worker_hands_back_is_read_as_contexts_or_nothing(section):
    for context in trace.handed_back(section).contexts:
        assert trace.parse(context.traceparent) == context


def record(position, *headers):
    return Record(LANE, position, b"", headers=headers)


def test_the_producers_of_a_batch_are_those_of_its_records_that_were_looked_at():
    contexts = [Context(number, number, True) for number in (1, 2, 3)]
    told = [("traceparent", each.traceparent.encode()) for each in contexts]
    run = run_of_records(
        (record(0, told[0]), record(1, ("other", b"x")), record(2, told[1], told[2]),
         record(3, ("traceparent", b"nonsense")), record(4, told[0]))
    )  # fmt: skip
    whole = Batch((run,))
    assert list(trace.producers(whole)) == [contexts[0], contexts[2], contexts[0]]
    _, tail = whole.cut(2)
    assert list(trace.producers(tail)) == [contexts[2], contexts[0]]

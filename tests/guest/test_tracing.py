from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guest_parts import event_builder
from kafka_batches import Written, batch
from streamfaas.flow import trace
from streamfaas.flow.trace import Context
from streamfaas.guest.python import tracing

ONE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
contexts = st.builds(
    Context, st.integers(1, 12), st.one_of(st.just(1), st.integers(1, 2**64 - 1)), st.booleans()
)
headers = st.one_of(
    contexts.map(lambda context: context.traceparent.encode()),
    st.binary(max_size=60),
    st.from_regex(rb"[0-9a-fA-F]{2}-[0-9a-fA-F]{32}-[0-9a-fA-F]{16}-[0-9a-fA-F]{2}(-x)?\Z"),
    st.tuples(st.sampled_from(sorted(set(ONE))), st.binary(max_size=2)).map(
        lambda drawn: ONE.replace(bytes([drawn[0]]), drawn[1], 1)
    ),
)
records = st.lists(
    st.lists(st.tuples(st.sampled_from(["traceparent", "other"]), headers), max_size=3),
    min_size=1,
    max_size=20,
)


def event_of(told):
    """The event that a worker builds of records with these headers."""
    written = [Written(at, 1, 0, None, b"", tuple(each)) for at, each in enumerate(told)]
    describe = {"topic": "t", "partition": 0, "first": 0, "last": 99, "servers": "", "checked": 0}
    event, _ = event_builder().build(memoryview(batch(written)), describe)
    return event


@given(records)
def test_a_worker_finds_in_raw_records_what_the_daemon_would_find_in_them(told):
    found = [trace.of_headers(tuple(each)) for each in told]
    ours = trace.linked([each for each in found if each is not None], tracing.LINKS_MAX)
    theirs = trace.handed_back(tracing.producers(event_of(told)))
    assert theirs == ours


def test_more_than_an_answer_can_hold_is_counted():
    made = [Context(number, number, sampled=number == 9) for number in range(1, 10)]
    event = event_of([[("traceparent", each.traceparent.encode())] for each in made])
    links = trace.handed_back(tracing.producers(event, 3))
    assert links == trace.Links((made[8], made[0], made[1]), 6)


def test_what_can_be_handed_back_fits_into_a_header_and_is_what_the_daemon_knows():
    assert tracing.LINKS_MAX == trace.LINKS_MAX
    assert tracing.CONTEXT_BYTES == trace.PACKED_BYTES
    assert 4 + tracing.LINKS_MAX * tracing.CONTEXT_BYTES < 1 << 16


anything = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["records", "headers", "traceparent", "t"]), inner),
    ),
    max_leaves=8,
)


@given(anything)
def test_whatever_a_handler_has_made_of_its_event_nothing_is_raised(event):
    assert isinstance(tracing.producers(event), bytes)
    assert isinstance(tracing.producers({"records": {"t-0": [event]}}), bytes)
    assert isinstance(tracing.producers({"records": {"t-0": [{"headers": [event]}]}}), bytes)

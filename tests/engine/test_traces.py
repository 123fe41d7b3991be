from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_scene import BAD, WALL, Scene, scene
from listed import LANE
from streamfaas.flow import trace
from streamfaas.flow.outcome import Report, Success
from streamfaas.flow.record import Record, run_of_records
from streamfaas.flow.trace import Context
from streamfaas.telemetry import names
from streamfaas.telemetry.recorder import Sampling
from streamfaas.telemetry.recording import ATTEMPTS_MAX, Origin
from streamfaas.telemetry.spans import SpanKind

ALL, NONE = Sampling(ratio=1.0), Sampling(ratio=0.0)
ORIGIN = Origin("f", "arn:f", "kafka", "", "a-group", 128 << 20)
FINE = Success(b"null", report=Report("f#1", 0.1))


def traced(answer, *, count=10, sampling=ALL, offer=None, policy=None, **asked):
    """The scene of a lane that has finished with so many records."""

    async def body(s):
        offer(s) if offer else s.offer(count)
        await s.run_out()

    policy = {"origin": ORIGIN, **(policy or {})}
    return scene(body, answer, sampling=sampling, policy=policy, **asked)


def of_kind(found, kind):
    return [span for span in found.spans if span.kind is kind]


def process(found):
    return next(span for span in found.spans if names.ATTEMPTS in span.attributes)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.sets(st.integers(0, 29)),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([ALL, NONE, Sampling(ratio=1.0, errors=False)]),
)
def test_whatever_fails_a_trace_is_a_tree_of_all_that_was_tried(bad, heals, bisects, queue, how):
    def answer(values, attempt):
        return BAD if bad & set(values) and attempt < heals + 1 else FINE

    retry = {"bisect": bisects and not queue}
    done = traced(answer, count=30, retries=3, retry=retry, sampling=how, queue=queue)
    attempts = 0
    for found in done.traces:
        by_id = {span.span_id: span for span in found.spans}
        assert len(by_id) == len(found.spans)
        roots = [span for span in found.spans if not span.parent_id]
        assert len(roots) == 1
        for at, span in enumerate(found.spans):
            assert 0 < span.span_id < 1 << 64
            assert span.start_ns <= span.end_ns
            if span.parent_id:
                parent = by_id[span.parent_id]
                assert parent in found.spans[:at]
                assert parent.start_ns <= span.start_ns
                assert parent.kind is SpanKind.CLIENT or span.end_ns <= parent.end_ns
        servers = of_kind(found, SpanKind.SERVER)
        tried = len(servers) + process(found).attributes.get(names.ATTEMPTS_LEFT_OUT, 0)
        assert process(found).attributes[names.ATTEMPTS] == tried
        failing = any(span.error for span in found.spans)
        assert found.kept == ("error" if failing and how.errors else "sampled")
        attempts += tried
    failed = sum(bool(bad & set(values) and at <= heals) for _, values, at in done.calls)
    assert attempts == len(done.calls) if how is not NONE else attempts >= failed
    assert done.recorder.going() == []


@pytest.mark.parametrize(
    ("kind", "place", "partition"),
    [("kafka", "", "0"), ("kinesis", "a-stream", "topic-0"), ("directory", "a-bucket", None)],
)
def test_a_partition_is_told_where_there_is_one(kind, place, partition):
    origin = Origin("f", "arn:f", kind, place)
    done = traced(lambda values, attempt: FINE, policy={"origin": origin})
    told = {span.attributes.get(names.PARTITION) for span in done.traces[0].spans}
    assert told == {partition}
    assert process(done.traces[0]).attributes[names.DESTINATION] == (place or "topic")


def test_a_batch_that_goes_well_is_received_processed_run_and_settled():
    done = traced(lambda values, attempt: FINE, window=2.0, size=20)
    (found,) = done.traces
    assert [(span.name, span.kind) for span in found.spans] == [
        ("receive topic", SpanKind.CLIENT),
        ("process topic", SpanKind.CONSUMER),
        ("f", SpanKind.SERVER),
        ("settle topic", SpanKind.CLIENT),
    ]
    receive, process, server, settle = found.spans
    assert receive.start_ns == WALL * 1e9
    assert receive.end_ns == process.start_ns == (WALL + 2) * 1e9
    assert [span.parent_id for span in found.spans] == [
        0, receive.span_id, process.span_id, process.span_id]  # fmt: skip
    assert {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "topic",
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "a-group",
        "messaging.batch.message_count": 10,
    }.items() <= process.attributes.items()
    (call,) = done.signals[:1]
    assert server.attributes == {
        "faas.name": "f",
        "faas.version": "$LATEST",
        "faas.max_memory": 128 << 20,
        "faas.trigger": "pubsub",
        "faas.invocation_id": call.request_id,
        "faas.coldstart": False,
        "faas.instance": "f#1",
        "aws.lambda.invoked_arn": "arn:f",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 10,
        "streamfaas.outcome": "success",
        "streamfaas.attempt": 1,
        "streamfaas.offset.first": 0,
        "streamfaas.offset.last": 9,
        "streamfaas.batch.bisected": False,
    }
    assert settle.attributes["messaging.kafka.offset"] == 9
    assert call.context == Context(found.trace_id, server.span_id, sampled=True)
    assert done.contexts == [call.context]


def test_what_goes_well_and_is_not_of_the_sample_is_not_kept():
    done = traced(lambda values, attempt: FINE, count=100, sampling=NONE)
    assert done.traces == []
    assert {context.sampled for context in done.contexts} == {False}
    assert {signal.context for signal in done.signals} == {None}
    ids = {context.trace_id for context in done.contexts}
    assert len(ids) == len(done.contexts) == 10


def test_what_fails_is_kept_and_its_function_is_told_so_when_it_is_tried_again():
    done = traced(lambda values, attempt: FINE if attempt else BAD, sampling=NONE)
    (found,) = done.traces
    first, again = of_kind(found, SpanKind.SERVER)
    assert (first.error, again.error) == ("KeyError", "")
    assert first.attributes["error.type"] == "KeyError"
    assert first.attributes["streamfaas.outcome"] == "function"
    assert again.attributes["streamfaas.attempt"] == 2
    assert [context.sampled for context in done.contexts] == [False, True]
    assert [event.name for event in process(found).events] == ["retry"]
    assert process(found).error == ""
    assert found.kept == "error"


def test_what_is_slow_is_kept():
    async def slowly():
        await anyio.sleep(3)
        return FINE

    def answer(values, attempt):
        return slowly() if 5 in values else FINE

    done = traced(answer, count=30, sampling=Sampling(slow_seconds=2.0))
    (found,) = done.traces
    assert found.kept == "slow"
    assert process(found).end_ns - process(found).start_ns == 3e9


def test_the_parts_of_a_batch_that_is_halved_stay_in_its_trace():
    def answer(values, attempt):
        return BAD if 3 in values else FINE

    done = traced(answer, retries=2, retry={"bisect": True}, sampling=NONE)
    (found,) = done.traces
    servers = of_kind(found, SpanKind.SERVER)
    assert len(servers) == len(done.calls)
    assert {span.attributes["streamfaas.batch.bisected"] for span in servers} == {False, True}
    told = [event.name for event in process(found).events]
    assert told.count("split") >= 3
    assert told[-1] == "set aside"
    assert process(found).error == "RetryAttemptsExhausted"
    (send,) = of_kind(found, SpanKind.PRODUCER)
    assert send.name == "send kept"
    (letter,) = done.kept.letters
    told = {name: value for name, _, value in letter.attributes}
    assert trace.parse(told["traceparent"]) == Context(found.trace_id, send.span_id, sampled=True)


def test_a_trace_holds_no_word_of_the_function_or_of_records():
    done = traced(lambda values, attempt: FINE if attempt > 1 else BAD)
    (found,) = done.traces
    assert BAD.message not in repr(found)


def test_a_lane_that_is_blocked_for_hours_keeps_the_first_attempts_and_the_last():
    seen = []

    async def body(s):
        s.offer(10)

        async def look():
            await anyio.sleep(60)
            seen.extend(s.recorder.going())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await s.run_out()

    done = scene(
        body,
        lambda values, attempt: BAD if attempt < 100 else FINE,
        sampling=NONE,
        policy={"origin": ORIGIN},
        retry={"backoff_seconds_max": 1.0},
    )
    (found,) = done.traces
    servers = of_kind(found, SpanKind.SERVER)
    told = process(found).attributes
    assert told[names.ATTEMPTS] == len(servers) + told[names.ATTEMPTS_LEFT_OUT] == 101
    numbers = [span.attributes[names.ATTEMPT] for span in servers]
    assert numbers == [*range(1, ATTEMPTS_MAX + 1), *range(102 - ATTEMPTS_MAX, 102)]
    assert len(process(found).events) + told[names.EVENTS_LEFT_OUT] == 100
    (before,) = seen
    assert before.trace_id == found.trace_id
    assert before.kept == "error"
    assert 50 < process(before).attributes[names.ATTEMPTS] < 70
    assert process(before).error == "KeyError"


def test_an_attempt_that_is_cut_off_is_told_as_such():
    async def body(s):
        s.offer(10)
        await s.run_until(lambda: s.calls and anyio.current_time() > 5)

    async def for_ever():
        await anyio.sleep_forever()

    done = scene(body, lambda values, attempt: for_ever(), sampling=ALL)
    (found,) = done.traces
    (server,) = of_kind(found, SpanKind.SERVER)
    assert server.error == "cut off"
    assert done.recorder.going() == []


def carrying(*contexts):
    return tuple(
        Record(
            LANE, at, b"%d" % at,
            headers=() if each is None else (("traceparent", each.traceparent.encode()),),
        )
        for at, each in enumerate(contexts)
    )  # fmt: skip


def test_a_batch_is_linked_to_its_producers_once_each_up_to_the_limit():
    contexts = [Context(number // 2 + 1, number + 1, sampled=number > 5) for number in range(10)]
    records = carrying(None, *contexts, None)

    def offer(s):
        s.lane.offer(run_of_records(records))

    sampling = Sampling(ratio=1.0, links_max=4)
    done = traced(lambda values, attempt: FINE, size=20, offer=offer, sampling=sampling)
    (found,) = done.traces
    links = process(found).links
    assert [(link.trace_id, link.sampled) for link in links] == [
        (4, True), (5, True), (1, False), (2, False)]  # fmt: skip
    assert process(found).attributes[names.LINKS_DROPPED] == 1


def test_contexts_that_a_worker_found_in_raw_records_are_links_too():
    one, two = Context(7, 1, sampled=True), Context(8, 2)
    section = (3).to_bytes(4, "little") + one.packed + two.packed
    fine = Success(b"null", report=Report("f#1", 0.1, producers=section))
    done = traced(lambda values, attempt: fine)
    (found,) = done.traces
    assert [(link.trace_id, link.span_id) for link in process(found).links] == [(7, 1), (8, 2)]
    assert process(found).attributes[names.LINKS_DROPPED] == 3


def test_a_strand_of_its_own_has_traces_of_its_own():
    def offer(s: Scene):
        s.put(*[b"%d" % (at % 7) for at in range(40)])

    done = traced(lambda values, attempt: FINE, offer=offer, size=5, policy={"strands": 3})
    assert len({found.trace_id for found in done.traces}) == len(done.traces) == len(done.calls)


def test_a_lane_that_rests_does_not_hold_what_it_has_run():
    done = traced(lambda values, attempt: FINE)
    (strand,) = done.lane.strands
    assert strand.trace.batch is None

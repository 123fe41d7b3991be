"""One batch of a real topic, from its producers to its destination, as a collector has it."""

import json

import anyio
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from daemon_process import DaemonProcess, write_project
from otlp_sink import Sink, attributes
from streamfaas.flow import trace
from streamfaas.telemetry import names

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

CONFIG = """
version: 1
shutdown: {grace: 5s}
telemetry:
  traces: {sample: 1}
  otlp: %s
connections:
  main: {type: kafka, brokers: ["%s"]}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: kafka
        connection: main
        topics: [%s]
        start: earliest
        batch: {size: 10, window: 200ms}
        on_success: {type: kafka, connection: main, topic: %s}
"""

TELLS_ITS_CONTEXT = """
import os
def main(event, context):
    print("[INFO] taking them")
    return os.environ["TRACEPARENT"]
"""

RECORDS = 10


async def order(broker, sink):
    """Ten records, by two requests to a shop that has OpenTelemetry; where they go, and where the
    answers to them will."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{sink.endpoint}/v1/traces")))
    tracer = provider.get_tracer("shop")
    orders, done = [await broker.create_topic(stem) for stem in ("orders", "done")]
    async with broker.producer() as producer:
        for request in range(2):
            with tracer.start_as_current_span(f"buy {request}", kind=SpanKind.SERVER):
                for number in range(RECORDS // 2):
                    with tracer.start_as_current_span("create orders", kind=SpanKind.PRODUCER):
                        carried = {}
                        inject(carried)
                        headers = [(name, text.encode()) for name, text in carried.items()]
                        await producer.send_and_wait(orders, b"%d" % number, headers=headers)
    provider.shutdown()
    return orders, done


async def first_of(broker, topic):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        with anyio.fail_after(30):
            return await consumer.getone()
    finally:
        await consumer.stop()


def tree(spans, parent=b"", depth=0):
    """Names of spans, each indented below its parent."""
    lines = []
    for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
        if span.parent_span_id == parent:
            lines += ["  " * depth + span.name, *tree(spans, span.span_id, depth + 1)]
    return lines


def test_a_batch_is_one_tree_from_its_producers_to_its_destination(tmp_path, kafka):
    with Sink() as sink:
        orders, done = uvloop.run(order(kafka, sink))
        text = CONFIG % (sink.endpoint, kafka.bootstrap, orders, done)
        config = write_project(tmp_path, text, orders=TELLS_ITS_CONTEXT)
        with DaemonProcess(config, env={"OTEL_BSP_SCHEDULE_DELAY": "200"}) as daemon:
            daemon.wait_for(lambda s: s["triggers"]["orders/stream"]["records"] == RECORDS)
            assert daemon.stop() == 0
        message = uvloop.run(first_of(kafka, done))
        spans, records = sink.spans(), sink.records()

    sending = f"send {done}"
    created = {span.span_id: span for span in spans if span.name == "create orders"}
    assert len(created) == RECORDS
    theirs = {span.trace_id for span in created.values()}
    ours = [span for span in spans if span.trace_id not in theirs]
    assert len({span.trace_id for span in ours}) == 1
    assert tree(ours) == [
        f"receive {orders}",
        f"  process {orders}",
        "    orders",
        f"    {sending}",
        f"    settle {orders}",
    ]
    by_name = {span.name: span for span in ours}

    # one link for each trace of theirs, to a span that they have
    process = by_name[f"process {orders}"]
    assert {link.trace_id for link in process.links} == theirs
    assert {link.span_id for link in process.links} <= created.keys()
    told = attributes(process.attributes)
    assert told[names.SYSTEM] == "kafka"
    assert told[names.DESTINATION] == orders
    assert told[names.PARTITION] == "0"
    assert told[names.BATCH_MESSAGES] == RECORDS
    assert (told[names.FIRST_OFFSET], told[names.LAST_OFFSET]) == (0, RECORDS - 1)
    assert told[names.LINKS_DROPPED] == process.dropped_links_count == 0

    # the function was told its span
    attempt = by_name["orders"]
    answer = json.loads(message.value)["responsePayload"]
    context = trace.parse(answer)
    assert context.trace_id.to_bytes(16, "big") == attempt.trace_id
    assert context.span_id.to_bytes(8, "big") == attempt.span_id
    told = attributes(attempt.attributes)
    assert (told[names.TRIGGER], told[names.COLDSTART], told[names.ATTEMPT]) == ("pubsub", True, 1)

    # and so was whoever reads the answers
    context = trace.parse(dict(message.headers)["traceparent"])
    assert context.span_id.to_bytes(8, "big") == by_name[sending].span_id

    # its lines are of the same trace and the same request
    lines = [each for each in records if each.body.string_value == "[INFO] taking them"]
    assert [each.trace_id for each in lines] == [attempt.trace_id]
    assert attributes(lines[0].attributes)[names.INVOCATION_ID] == told[names.INVOCATION_ID]

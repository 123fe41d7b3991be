"""The trace of a real Kafka batch: from a producer of OpenTelemetry's to a topic of dead letters."""

import json

import anyio
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from daemon_process import DaemonProcess, write_project

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
telemetry: {traces: {sample: 1}}
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
        group: traced
        batch: {size: 40, window: 2s}
        retries: {max: 0}
        on_failure: {type: kafka, connection: main, topic: %s}
"""

FAILS_AT_7 = """
def main(event, context):
    if any(r["offset"] == 7 for rs in event["records"].values() for r in rs):
        raise ValueError("poison")
"""


async def produced(kafka):
    """A topic with 40 records of two traces, another topic, and the spans that sent them."""
    orders, dead = [await kafka.create_topic(stem) for stem in ("orders", "dead")]
    tracer = TracerProvider().get_tracer("shop")
    senders = []
    async with kafka.producer(linger_ms=200) as producer:
        waiting = []
        for trace in range(2):
            with tracer.start_as_current_span("send orders") as span:
                senders.append(span.get_span_context())
                carrier = {}
                TraceContextTextMapPropagator().inject(carrier)
                headers = [(name, value.encode()) for name, value in carrier.items()]
                for number in range(20):
                    value = b"%d" % (trace * 20 + number)
                    waiting.append(await producer.send(orders, value, headers=headers))
        for one in waiting:
            await one
    return orders, dead, senders


async def letters(kafka, topic):
    """The first record of a topic."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        with anyio.fail_after(30):
            return await consumer.getone()
    finally:
        await consumer.stop()


def test_a_batch_is_linked_to_its_producers_and_its_letter_goes_on(tmp_path, kafka):
    orders, dead, senders = uvloop.run(produced(kafka))
    config = write_project(tmp_path, CONFIG % (kafka.bootstrap, orders, dead), orders=FAILS_AT_7)
    with DaemonProcess(config) as daemon:

        def over(status):
            trigger = status["triggers"]["orders/stream"]
            return trigger["records"] + trigger["set_aside"] == 40

        daemon.wait_for(over, 60)
        letter = uvloop.run(letters(kafka, dead))
        _, trace_id, span_id, flags = dict(letter.headers)["traceparent"].decode().split("-")
        assert flags == "01"
        daemon.wait_for(lambda status: not shown(daemon, trace_id)["going"])
        found = shown(daemon, trace_id)
        assert daemon.stop() == 0
    spans = found["spans"]
    process = next(span for span in spans if span["name"] == f"process {orders}")
    told = {(link["trace_id"], link["span_id"]) for link in process["links"]}
    assert told <= {(f"{each.trace_id:032x}", f"{each.span_id:016x}") for each in senders}
    if process["attributes"]["messaging.batch.message_count"] == 40:
        assert len(told) == 2
    assert process["attributes"]["messaging.system"] == "kafka"
    assert process["attributes"]["messaging.consumer.group.name"] == "traced"
    (send,) = [span for span in spans if span["kind"] == "producer"]
    assert send["span_id"] == span_id
    assert send["attributes"]["messaging.system"] == "kafka"
    settled = [span["attributes"]["messaging.kafka.offset"] for span in spans
               if span["name"] == f"settle {orders}"]  # fmt: skip
    assert 7 in settled
    assert settled == sorted(settled)


def shown(daemon, trace_id):
    return json.loads(daemon.request("GET", f"/traces/{trace_id}")[2])

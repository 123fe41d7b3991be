"""A real collector on loopback, well and unwell, and what is made of its answers."""

import logging
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from certificates import make_certificate
from otlp_sink import Sink, attributes
from streamfaas.telemetry import names
from streamfaas.telemetry.otlp.outlet import Sent
from streamfaas.telemetry.otlp.resource import resource, scope
from streamfaas.telemetry.otlp.senders import Sender, hush
from streamfaas.telemetry.otlp.settings import Asked, settings
from streamfaas.telemetry.otlp.spans import readable_spans
from streamfaas.telemetry.spans import Span, SpanEvent, SpanKind, SpanLink, Trace


def trace(number=1, links=0, **more):
    process = Span(
        name="process orders",
        kind=SpanKind.CONSUMER,
        span_id=number * 10,
        parent_id=0,
        start_ns=1_000,
        end_ns=9_000,
        attributes={names.PARTITION: "0", names.BATCH_MESSAGES: 3, **more},
        links=tuple(SpanLink(7_000 + at, 8_000 + at, at % 2 == 0) for at in range(links)),
        events=(SpanEvent("streamfaas.split", 5_000, {names.PART_RECORDS: ["1", "2"]}),),
    )
    attempt = Span(
        "f", SpanKind.SERVER, number * 10 + 1, number * 10, 2_000, 3_000, {names.COLDSTART: True}, error="timeout"
    )  # fmt: skip
    return Trace(number, "sampled", (process, attempt))


def sender(endpoint, *, protocol="http/protobuf", timeout=10.0, **asked):
    hush()
    found = settings(Asked(endpoint, protocol, timeout_seconds=timeout, **asked), {})
    return Sender(
        found.targets["traces"],
        lambda traces: readable_spans(traces, resource("full"), scope()),
    )


@pytest.fixture
def sink():
    with Sink() as made:
        yield made


@pytest.fixture
def to(sink):
    made = sender(sink.endpoint, timeout=0.5)
    yield made
    made.close()


def test_a_trace_comes_as_the_tree_that_it_was(sink, to):
    assert to.send([trace(1), trace(2)]) == Sent()
    process, attempt, *_ = spans = sink.spans()
    assert len(spans) == 4
    assert process.trace_id == (1).to_bytes(16, "big")
    assert process.parent_span_id == b""
    assert attempt.parent_span_id == process.span_id
    assert (process.name, process.kind) == ("process orders", 5)  # CONSUMER
    assert (process.start_time_unix_nano, process.end_time_unix_nano) == (1_000, 9_000)
    assert attributes(process.attributes) == {names.PARTITION: "0", names.BATCH_MESSAGES: 3}
    (event,) = process.events
    assert (event.name, event.time_unix_nano) == ("streamfaas.split", 5_000)
    assert attributes(event.attributes) == {names.PART_RECORDS: ["1", "2"]}
    assert (attempt.status.code, attempt.status.message) == (2, "timeout")
    assert process.status.code == 0
    (whole,) = sink.of("traces")[0].resource_spans
    assert whole.schema_url == whole.scope_spans[0].schema_url == names.SCHEMA_URL
    assert attributes(whole.resource.attributes)[names.ISOLATION] == "full"


def test_no_link_is_lost_without_its_being_said(sink, to):
    """The SDK's own limit is 128."""
    assert to.send([trace(1, links=512)]) == Sent()
    assert to.send([trace(2, links=512, **{names.LINKS_DROPPED: 40})]) == Sent()
    found = [(len(each.links), each.dropped_links_count) for each in sink.spans() if each.links]
    assert found == [(512, 0), (512, 40)]
    assert sink.spans()[0].links[3].span_id == (8_003).to_bytes(8, "big")


def test_text_that_is_no_text_for_others_is_written_out(sink, to):
    assert to.send([trace(1, **{names.LANE: "a\udcff"})]) == Sent()
    assert attributes(sink.spans()[0].attributes)[names.LANE] == "a\\udcff"


@pytest.mark.parametrize(
    ("conduct", "sent"),
    [
        (("status", 401, {}), Sent(2, "401 Unauthorized")),
        (("status", 400, {}), Sent(2, "400 Bad Request")),
        (("status", 500, {}), Sent(2, "500 Internal Server Error")),
        (("status", 503, {}), Sent(2, "503 Service Unavailable")),
        (("status", 302, {"location": "/elsewhere"}), Sent(2, "302 Found")),
        (("status", 429, {"retry-after": "100"}), Sent(2, "429 Too Many Requests", 100.0)),
        (("status", 429, {"retry-after": "soon"}), Sent(2, "429 Too Many Requests")),
        (("drop",), Sent(2, "the connection broke off")),
        (("hang", 10.0), Sent(2, "no answer in time")),
        (("partial", 1, "too old"), Sent(1, "rejected: too old")),
        (("partial", 0, "beware"), Sent()),
        (("slow", 0.05), Sent()),
    ],
)
def test_what_a_collector_does_is_told_in_a_few_words(sink, to, conduct, sent):
    sink.conduct = conduct
    assert to.send([trace()]) == sent
    sink.conduct = None
    assert to.send([trace()]) == Sent()


def test_where_nobody_listens_the_system_says_why():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    to = sender(f"http://127.0.0.1:{port}", timeout=0.5)
    assert to.send([trace()]) == Sent(2, "Connection refused")
    to.close()


def test_what_was_refused_for_a_moment_is_sent_again_in_the_time_there_is(sink):
    to = sender(sink.endpoint, timeout=20.0)
    sink.conduct = [("status", 503, {"retry-after": "0"}), ("drop",)]
    assert to.send([trace()]) == Sent()
    assert sink.tried == 3
    to.close()


def test_the_sdk_writes_nothing_of_its_own(sink, to, capfd, caplog):
    sink.conduct = ("status", 500, {})
    to.send([trace()])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("opentelemetry").propagate is False


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_headers_and_compression_are_as_asked(sink, compression):
    to = sender(sink.endpoint, headers={"X-Tenant": "us"}, compression=compression)
    assert to.send([trace()]) == Sent()
    to.close()
    assert sink.headers[0]["x-tenant"] == "us"
    assert len(sink.spans()) == 2


def test_over_tls_only_to_a_collector_that_is_trusted(tmp_path):
    make_certificate(tmp_path, "own", "-nodes", "-addext", "subjectAltName=IP:127.0.0.1")
    ca = str(tmp_path / "own.pem")
    with Sink((ca, tmp_path / "own.key")) as sink:
        to = sender(sink.endpoint, ca=ca)
        assert to.send([trace()]) == Sent()
        to.close()
        to = sender(sink.endpoint, timeout=0.5)
        lost = to.send([trace()])
        to.close()
        assert lost.lost == 2
        assert "certificate verify failed" in lost.reason
        assert len(sink.spans()) == 2


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.requests = []
        self.refuses = False

    def Export(self, request, context):
        if self.refuses:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        self.requests.append((request, dict(context.invocation_metadata())))
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.mark.slow
def test_by_grpc_too():
    with ThreadPoolExecutor(1) as threads:
        server, collector = grpc.server(threads), Collector()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        to = sender(
            f"http://127.0.0.1:{port}",
            protocol="grpc",
            headers={"X-Tenant": "us"},
            compression="gzip",
        )
        assert to.send([trace()]) == Sent()
        ((request, metadata),) = collector.requests
        assert len(request.resource_spans[0].scope_spans[0].spans) == 2
        assert metadata["x-tenant"] == "us"
        collector.refuses = True
        lost = to.send([trace()])
        assert lost.lost == 2
        assert "UNAUTHENTICATED" in lost.reason
        assert "who are you?" in lost.reason
        to.close()
        server.stop(None).wait()

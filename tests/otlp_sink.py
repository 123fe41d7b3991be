"""A collector on loopback: takes what is sent by OTLP over HTTP, keeps it, and misbehaves when it
is told to."""

import contextlib
import gzip
import socket
import ssl
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

KINDS = {
    "/v1/traces": ("traces", traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse, "rejected_spans"),
    "/v1/metrics": ("metrics", metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse, "rejected_data_points"),
    "/v1/logs": ("logs", logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse, "rejected_log_records"),
}  # fmt: skip


class Sink:
    """A context manager. `conduct` says what becomes of the next requests: `("status", 401, {})`,
    `("drop",)`, `("hang", seconds)`, `("partial", 3, "why")`, `("slow", seconds)`, or None; or a list
    of them, each for one request. `tls` is a certificate and its key."""

    def __init__(self, tls=()):
        self.conduct = None
        self.requests = []
        self.headers = []
        self.tried = 0
        self._lock = threading.Lock()
        self._connections = set()
        self._ended = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                with sink._lock:
                    sink._connections.add(self.connection)

            def finish(self):
                with sink._lock:
                    sink._connections.discard(self.connection)
                super().finish()

            def do_POST(self):
                sink._take(self)

            def log_message(self, *_arguments):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_arguments):
                pass  # who went away, or did not trust us

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.port = self._server.server_address[1]
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._ended.set()
        self._server.shutdown()
        with self._lock:  # who waits for the next request
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def wait_for(self, condition, seconds=20.0):
        """Until `condition(self)` holds; what it gave."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition(self):
                return found
            time.sleep(0.01)
        raise AssertionError(f"waited {seconds} s; here are {[kind for kind, _ in self.requests]}")

    # -- what came

    def of(self, signal):
        with self._lock:
            return [request for kind, request in self.requests if kind == signal]

    def spans(self):
        return [
            span
            for request in self.of("traces")
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def records(self):
        return [
            record
            for request in self.of("logs")
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def exports(self):
        """Each export of metrics, as metrics by name."""
        return [
            {metric.name: metric for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
            for request in self.of("metrics")
        ]  # fmt: skip

    # -- how it answers

    def _take(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        with self._lock:
            self.tried += 1
        kind, request, response, rejected = KINDS[handler.path]
        answer = response()
        conduct = self.conduct
        if isinstance(conduct, list):
            with self._lock:
                conduct = conduct.pop(0) if conduct else None
        match conduct:
            case ("status", status, headers):
                return self._answer(handler, status, b"", headers)
            case ("drop",):
                handler.close_connection = True
                return None
            case ("hang", seconds):
                self._ended.wait(seconds)
                handler.close_connection = True
                return None
            case ("slow", seconds):
                self._ended.wait(seconds)
            case ("partial", count, why):
                setattr(answer.partial_success, rejected, count)
                answer.partial_success.error_message = why
        encoding = handler.headers.get("content-encoding", "none")
        body = {"gzip": gzip.decompress, "deflate": zlib.decompress, "none": bytes}[encoding](body)
        with self._lock:
            self.requests.append((kind, request.FromString(body)))
            self.headers.append(dict(handler.headers))
        return self._answer(handler, 200, answer.SerializeToString(), {})

    def _answer(self, handler, status, body, headers):
        handler.send_response(status)
        for name, text in {"content-type": "application/x-protobuf", **headers}.items():
            handler.send_header(name, text)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(OSError):  # who waited no longer
            handler.wfile.write(body)


def attributes(values):
    """Attributes as a dict of plain values."""
    return {each.key: plain(each.value) for each in values}


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


def points(metric):
    """The points of a metric, by their attributes: numbers, or whole points of a histogram."""
    kind = metric.WhichOneof("data")
    return {
        frozenset(attributes(point.attributes).items()): point
        if kind == "histogram"
        else getattr(point, point.WhichOneof("value"))
        for point in getattr(metric, kind).data_points
    }

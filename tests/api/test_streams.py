import threading

import anyio
import pytest

from streamfaas.api.server import Bounds, Response
from streaming import UnixConnection, listening, served


class Streams:
    """Answers each request with a stream, and counts those that are told."""

    def __init__(self, *bits, then_wait=False):
        self.bits = bits
        self.then_wait = then_wait
        self.begun = 0
        self.closed = threading.Semaphore(0)

    async def handle(self, request):
        if request.path == "/plain":
            return Response.json(200, {})
        self.begun += 1
        return Response(200, self.stream(), {"x-kind": "stream"})

    async def stream(self):
        try:
            for bit in self.bits:
                yield bit
            if self.then_wait:
                await anyio.sleep_forever()
        finally:
            self.closed.release()


def test_a_stream_comes_in_chunks_and_ends_its_connection(tmp_path):
    streams = Streams(b"one\n", b"two\n")

    def client():
        with listening(tmp_path / "s") as response:
            assert response.headers["x-kind"] == "stream"
            assert response.headers["transfer-encoding"] == "chunked"
            return response.read()

    assert served(tmp_path / "s", streams.handle, Bounds(), client) == b"one\ntwo\n"
    assert streams.closed.acquire(timeout=5)


def test_what_is_told_arrives_while_the_stream_goes_on(tmp_path):
    streams = Streams(b"one\n", then_wait=True)

    def client():
        with listening(tmp_path / "s") as response:
            return response.readline()

    assert served(tmp_path / "s", streams.handle, Bounds(), client) == b"one\n"


def test_a_stream_is_closed_when_its_listener_goes_though_it_tells_nothing(tmp_path):
    streams = Streams(then_wait=True)

    def client():
        with listening(tmp_path / "s"):
            pass
        assert streams.closed.acquire(timeout=5)

    served(tmp_path / "s", streams.handle, Bounds(), client)


def test_streams_take_no_place_of_those_who_ask(tmp_path):
    streams = Streams(b"one\n", then_wait=True)

    def client():
        with (
            listening(tmp_path / "s") as first,
            listening(tmp_path / "s") as second,
            listening(tmp_path / "s") as third,
        ):
            assert [each.readline() for each in (first, second, third)] == [b"one\n"] * 3
            connection = UnixConnection(tmp_path / "s")
            connection.request("GET", "/plain")
            status = connection.getresponse().status
            connection.close()
        return status

    bounds = Bounds(connections_max=1, streams_max=3)
    assert served(tmp_path / "s", streams.handle, bounds, client) == 200


def test_one_stream_more_than_there_are_places_is_refused_until_one_ends(tmp_path):
    streams = Streams(b"one\n", then_wait=True)
    path = tmp_path / "s"

    def client():
        with listening(path) as first:
            assert first.readline() == b"one\n"
            with listening(path) as refused:
                assert refused.status == 503
                assert b"too many listen" in refused.read()
        assert streams.closed.acquire(timeout=5)
        with listening(path) as another:
            assert another.readline() == b"one\n"

    served(path, streams.handle, Bounds(streams_max=1), client)


def test_who_reads_nothing_for_too_long_is_sent_away(tmp_path):
    streams = Streams(*[b"x" * 1_000_000] * 100)

    def client():
        with listening(tmp_path / "s"):
            assert streams.closed.acquire(timeout=5)

    served(tmp_path / "s", streams.handle, Bounds(stream_seconds=0.1), client)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_what_a_listener_says_meanwhile_is_not_heard(tmp_path, method):
    streams = Streams(b"one\n", then_wait=True)

    def client():
        connection = UnixConnection(tmp_path / "s")
        connection.request(method, "/stream")
        response = connection.getresponse()
        if method == "GET":
            assert response.readline() == b"one\n"
            connection.sock.sendall(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000)
        connection.close()
        return streams.begun

    assert served(tmp_path / "s", streams.handle, Bounds(), client) == 1

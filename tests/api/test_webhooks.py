import http.client
import socket
from contextlib import closing

import pytest

from server_process import free_port
from streamfaas.api.addresses import bound
from streamfaas.api.webhooks import BOUNDS, webhooks
from streamfaas.flow.errors import ConfigError
from streamfaas.wire.inbound import Answer
from streaming import beside

MOST = 1_000


class Echo:
    """A desk that takes what says it may, and says what came."""

    def admit(self, head):
        if head.headers.get("x-refuse"):
            return Answer(403, "not you")
        return MOST

    async def take(self, head, body):
        return Answer(200, f"{head.method} {head.query} {len(body)}")


def serving(client):
    """Runs `client(port)` in a thread while it is served; gives back its result."""
    port = free_port()
    desks = {"/in": Echo(), "/later": Answer(503, "not yet", 5)}
    served = webhooks(f"127.0.0.1:{port}", lambda path: desks.get(path, Answer(404, "no trigger")))
    return beside(served, lambda: client(port))


def ask(port, path="/in", body=b"", method="POST", **headers):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())


def raw(port, *parts):
    """What is answered to these bytes, until the end."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        for part in parts:
            connection.sendall(part)
        got = b""
        while data := connection.recv(65536):
            got += data
        return got


def test_what_is_posted_goes_to_the_desk_of_its_path_on_one_connection_after_another():
    def client(port):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            for number in range(3):
                connection.request("POST", "/in?token=x", b"y" * number)
                assert connection.getresponse().read() == b"POST token=x %d\n" % number
        assert ask(port, "/else")[:2] == (404, b"no trigger\n")
        status, _, headers = ask(port, "/later")
        assert (status, headers["retry-after"]) == (503, "5")

    serving(client)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_nobody_wants_is_not_read_and_the_answer_arrives(chunked):
    def client(port):
        body = (b"x" * 65536 for _ in range(160)) if chunked else b"x" * 10_485_760
        status, told, answered = ask(port, body=body)
        assert (status, answered["connection"]) == (413, "close")
        assert b"1000" in told
        assert ask(port, body=b"x" * 10_000, **{"x-refuse": "1"})[:2] == (403, b"not you\n")

    serving(client)


def test_who_asks_before_it_sends_a_body_is_refused_before_it_does():
    def client(port):
        head = b"POST /in HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n"
        refused = raw(port, head + b"x-refuse: 1\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 403")
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(head + b"\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 100")
            connection.sendall(b"12345")
            assert b"POST  5" in connection.recv(4096)

    serving(client)


@pytest.mark.parametrize(
    "lengths",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
    ],
)
def test_two_lengths_of_one_body_are_refused_and_the_connection_ends(lengths):
    def client(port):
        head = b"POST /in HTTP/1.1\r\nhost: x\r\n" + lengths
        answer = raw(port, head + b"\r\n5\r\n12345\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"\r\nconnection: close\r\n" in answer.lower()

    serving(client)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"POST /in HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        b"POST /in HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nyy\r\n",
        b"POST /in HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nyyyyy\r\n",
        b"POST /in HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"9" * 400 + b"\r\n\r\n",
        b"POST /in HTTP/1.1\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000,
        b"GET http://evil.example/in HTTP/9.9\r\n\r\n",
        b"\n" * 100_000,
    ],
    ids=range(11),
)
def test_garbage_is_refused_and_the_next_one_is_served(garbage):
    def client(port):
        try:
            answer = raw(port, garbage)
        except OSError:  # closed over what was still being sent
            answer = b""
        assert answer[9:12] in {b"", b"400", b"404", b"413", b"431", b"501"}
        assert ask(port)[0] == 200

    serving(client)


def test_half_requests_and_idle_connections_keep_nobody_out():
    def client(port):
        half = b"POST /in HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"
        many = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(300)]
        assert len(many) > BOUNDS.connections_max
        for each in many[::2]:
            each.sendall(half)
        status = ask(port, body=b"x")[0]
        for each in many:
            each.close()
        return status

    assert serving(client) == 200


def test_an_address_that_is_taken_is_told_with_how_to_mend_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as raised:
            webhooks(address, lambda _path: Answer(404)).open()
        with pytest.raises(OSError, match="in use"):
            bound(address, 1)
    (problem,) = raised.value.problems
    assert problem.message == f"cannot listen on {address}: Address already in use"
    assert problem.hint

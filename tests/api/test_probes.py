import http.client
import socket
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server_process import free_port
from streamfaas.api.probes import BOUNDS, probes
from streamfaas.api.server import Response
from streamfaas.flow.errors import ConfigError
from streaming import beside


def echo(request):
    return Response(200, request.accept.encode(), {"content-type": "text/plain"})


def serving(client, host="127.0.0.1"):
    """Runs `client(port)` in a thread while probes are answered; gives back its result."""
    port = free_port(host.strip("[]"))
    served = probes(f"{host}:{port}", {"/livez": echo, "/metrics": echo})
    return beside(served, lambda: client(port))


def ask(port, method="GET", path="/livez", body=None, host="127.0.0.1", **headers):
    with closing(http.client.HTTPConnection(host, port, timeout=10)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())


def test_a_route_is_answered_whatever_we_are_called_and_however_it_is_asked():
    def client(port):
        assert ask(port, Accept="text/plain")[:2] == (200, b"text/plain")
        assert ask(port, path="/metrics?verbose=1", Host="evil.example")[0] == 200

    serving(client)


def test_ipv6_is_an_address_too():
    serving(lambda port: ask(port, host="::1"), "[::1]")


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "get"]
)
def test_what_is_no_get_is_refused(method):
    status, body, headers = serving(lambda port: ask(port, method))
    assert (status, headers["allow"]) == (405, "GET")
    assert body == (b"" if method == "HEAD" else b"GET only\n")


@pytest.mark.parametrize("path", ["/", "/status", "/stop", "/invoke/f", "/livez/", "//livez", "*"])
def test_there_is_no_other_route(path):
    assert serving(lambda port: ask(port, path=path))[0] == 404


def test_a_body_is_not_read():
    assert serving(lambda port: ask(port, body=b"x" * 100_000))[0] == 413


def test_who_stays_idle_makes_room_for_one_more_than_there_are_places():
    def client(port):
        idle = [
            socket.create_connection(("127.0.0.1", port), 10)
            for _ in range(2 * BOUNDS.connections_max)
        ]
        status = ask(port)[0]
        for each in idle:
            each.close()
        return status

    assert serving(client) == 200


def test_a_head_without_end_is_cut_off():
    def client(port):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
            try:
                for _ in range(100):
                    connection.sendall(b"x: " + b"y" * 1000 + b"\r\n")
                answer = connection.recv(100)
            except OSError:  # it was closed while we wrote
                return b"HTTP/1.1 400"
        return answer[:12]

    assert serving(client) in {b"HTTP/1.1 400", b"HTTP/1.1 431"}


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_end_in_an_answer_or_a_closed_connection(chunks):
    def client(port):
        with socket.create_connection(("127.0.0.1", port), 5) as garbage:
            try:
                for chunk in chunks:
                    garbage.sendall(chunk)
                garbage.shutdown(socket.SHUT_WR)
                while garbage.recv(65536):
                    pass
            except OSError:
                pass
        return ask(port)[0]

    assert serving(client) == 200


def test_an_address_that_is_taken_is_told_with_how_to_mend_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as raised:
            probes(address, {}).open()
    (problem,) = raised.value.problems
    assert problem.path == "telemetry.metrics.listen"
    assert problem.message == f"cannot listen on {address}: Address already in use"
    assert problem.hint

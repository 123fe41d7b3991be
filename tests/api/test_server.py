import socket
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.api.server import BODY_BYTES_MAX, Request, Response
from streamfaas.api.unix_socket import Server
from streaming import UnixConnection, beside


async def echo(request: Request) -> Response:
    return Response.json(
        200, {"method": request.method, "path": request.path, "size": len(request.body)}
    )


def serving(path, client):
    """Runs `client()` in a thread while a server answers at `path`; gives back its result."""

    return beside(Server(path, echo), client)


def test_it_answers_several_requests_on_one_connection(tmp_path):
    path = tmp_path / "s.sock"

    def client():
        connection = UnixConnection(path)
        answers = []
        for body in (b"", b"x" * 100_000):
            connection.request("POST", "/echo?a=1", body)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()
        return answers

    assert serving(path, client) == [
        (200, b'{"method":"POST","path":"/echo?a=1","size":0}'),
        (200, b'{"method":"POST","path":"/echo?a=1","size":100000}'),
    ]


def test_what_is_asked_without_its_body_is_answered_without_it(tmp_path):
    path = tmp_path / "s.sock"

    def client():
        connection = UnixConnection(path)
        answers = []
        for method in ("HEAD", "GET"):
            connection.request(method, "/echo")
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()
        return answers

    told = b'{"method":"GET","path":"/echo","size":0}'
    assert serving(path, client) == [(200, b""), (200, told)]


def test_a_body_that_is_too_large_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "s.sock"

    def client():
        connection = UnixConnection(path)
        connection.putrequest("POST", "/x")
        connection.putheader("content-length", str(BODY_BYTES_MAX * 10))
        connection.endheaders()
        try:
            for _ in range(BODY_BYTES_MAX // 65536 + 2):
                connection.sock.sendall(b"x" * 65536)
        except OSError:
            pass
        status = connection.getresponse().status
        connection.close()
        return status

    assert serving(path, client) == 413


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_end_in_an_answer_or_a_closed_connection(chunks):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sock"

        def client():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as garbage:
                garbage.settimeout(5)
                garbage.connect(str(path))
                try:
                    for chunk in chunks:
                        garbage.sendall(chunk)
                    garbage.shutdown(socket.SHUT_WR)
                    while garbage.recv(65536):
                        pass
                except OSError:
                    pass
            connection = UnixConnection(path)
            connection.request("GET", "/after")
            status = connection.getresponse().status
            connection.close()
            return status

        assert serving(path, client) == 200


def test_who_is_idle_makes_room_for_one_more_than_there_are_places(tmp_path):
    path = tmp_path / "s.sock"

    def client():
        idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3 * 64)]
        for each in idle:
            each.connect(str(path))
        connection = UnixConnection(path)
        connection.request("GET", "/late")
        status = connection.getresponse().status
        for each in (*idle, connection):
            each.close()
        return status

    assert serving(path, client) == 200


def test_more_requests_than_places_wait_their_turn(tmp_path):
    path = tmp_path / "s.sock"
    answered = []

    def ask(barrier):
        connection = UnixConnection(path)
        connection.request("GET", "/late")
        barrier.wait(10)
        answered.append(connection.getresponse().status)
        connection.close()

    def client():
        barrier = threading.Barrier(80)
        threads = [threading.Thread(target=ask, args=(barrier,)) for _ in range(80)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(10)

    serving(path, client)
    assert answered == [200] * 80

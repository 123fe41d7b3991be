import http.client
import os
import socket
import stat

import pytest

from streamfaas.api.unix_socket import Server
from streamfaas.flow.errors import StoreError
from streaming import UnixConnection

from .test_server import echo, serving


def test_only_the_owner_can_open_the_socket(tmp_path):
    path = tmp_path / "s.sock"
    mode = serving(path, lambda: path.stat().st_mode)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_sent_away_even_where_the_mode_would_let_him_in(tmp_path):
    path = tmp_path / "s.sock"

    def client():
        path.chmod(0o777)
        for parent in (tmp_path, *tmp_path.parents):
            if parent.stat().st_uid == 0 and parent != parent.parent:
                parent.chmod(parent.stat().st_mode | 0o011)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                connection = UnixConnection(path)
                connection.request("GET", "/status")
                connection.getresponse()
                os.write(writer, b"answered")
            except (OSError, http.client.HTTPException):
                os.write(writer, b"refused")
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        answer = os.read(reader, 100)
        os.close(reader)
        return answer

    assert serving(path, client) == b"refused"


def test_a_second_daemon_is_told_of_the_first(tmp_path):
    path = tmp_path / "s.sock"

    def client():
        with pytest.raises(StoreError, match="another daemon answers"):
            Server(path, echo).open()

    serving(path, client)


def test_the_socket_of_a_daemon_that_died_is_taken_over(tmp_path):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_behind:
        left_behind.bind(str(path))
    assert path.exists()
    server = Server(path, echo)
    server.open()
    server.close()


def test_a_file_in_the_way_is_not_removed(tmp_path):
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(StoreError, match="is no socket"):
        Server(path, echo).open()
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_told(tmp_path):
    with pytest.raises(StoreError, match="cannot listen"):
        Server(tmp_path / ("x" * 120), echo).open()

import socket

from streamfaas.daemon.systemd import Notifier


def listening(path):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    manager.settimeout(5)
    return manager


def test_readiness_and_stopping_are_one_datagram_each(tmp_path):
    with listening(str(tmp_path / "notify")) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert notifier.wanted
        notifier.ready("2 functions,\n3 triggers")
        ready = manager.recv(4096).decode().splitlines()
        assert ready[:2] == ["READY=1", "STATUS=2 functions, 3 triggers"]
        notifier.stopping(30)
        stopping = manager.recv(4096).decode().splitlines()
        assert stopping == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=40000000", "STATUS=draining"]


def test_an_abstract_address_is_understood():
    name = "streamfaas-test-notify"
    with listening("\0" + name) as manager:
        Notifier({"NOTIFY_SOCKET": "@" + name}).status("fine")
        assert manager.recv(4096) == b"STATUS=fine"


def test_without_systemd_nothing_is_sent_and_nothing_fails():
    notifier = Notifier({})
    assert not notifier.wanted
    notifier.ready("x")


def test_a_manager_that_does_not_listen_is_no_error(tmp_path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("x")

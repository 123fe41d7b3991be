import contextlib
import socket

import pytest
from click.testing import CliRunner

from status_server import answering
from streamfaas.api.server import LINES, Bounds, Response
from streamfaas.cli import client
from streamfaas.cli.main import main
from streamfaas.daemon.feeds import Feeds
from streamfaas.telemetry.signals import DaemonStepped
from streaming import served


def step(signal):
    return {"step": signal.step}


class Daemon:
    """A feed of what `emit` is given, which begins with the listener's first line."""

    def __init__(self):
        self.ears = []
        self.feeds = Feeds(self.ears)

    async def handle(self, request):
        if request.path != "/feed":
            return Response.json(404, {"error": f"there is no {request.path}"})
        feed = self.feeds.subscribe(step)
        for text in ("one", "two"):
            for hear in self.ears:
                hear(DaemonStepped(text))
        return Response(200, feed, LINES)


def test_lines_are_read_as_they_come_and_left_when_enough(tmp_path):
    def read():
        with client.followed(tmp_path / "s", "GET", "/feed") as lines:
            return [next(lines), next(lines)]

    found = served(tmp_path / "s", Daemon().handle, Bounds(), read)
    assert found == [{"step": "one"}, {"step": "two"}]


def test_a_daemon_that_ends_is_told(tmp_path, capsys):
    daemon = Daemon()

    def read():
        found = []
        daemon.feeds.end()
        with (
            pytest.raises(SystemExit) as raised,
            client.followed(tmp_path / "s", "GET", "/feed") as lines,
        ):
            found += lines
        return raised.value.code

    assert served(tmp_path / "s", daemon.handle, Bounds(), read) == 69
    assert capsys.readouterr().err == "streamfaas: the daemon has ended\n"


def test_what_is_refused_is_told(tmp_path, capsys):
    def read():
        with (
            pytest.raises(SystemExit) as raised,
            client.followed(tmp_path / "s", "GET", "/nothing") as lines,
        ):
            next(lines)
        return raised.value.code

    assert served(tmp_path / "s", Daemon().handle, Bounds(), read) == 2
    assert capsys.readouterr().err == "streamfaas: there is no /nothing\n"


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"not JSON", "", "is no streamfaas daemon"),
        (b"[]\n", "", "is no streamfaas daemon"),
        (b'{"step":', "", "is no streamfaas daemon"),
        (b"5\r\nabc", "transfer-encoding: chunked\r\n", "broke off"),
    ],
)
def test_what_is_no_stream_ends_in_a_word(tmp_path, capsys, body, headers, told):
    with (
        answering(tmp_path / "s", body, headers=headers),
        pytest.raises(SystemExit) as raised,
        client.followed(tmp_path / "s", "GET", "/feed") as lines,
    ):
        list(lines)
    assert raised.value.code == 69
    assert told in capsys.readouterr().err


def test_where_there_is_no_daemon_one_is_told_to_start_it(tmp_path, capsys):
    with (
        pytest.raises(SystemExit) as raised,
        client.followed(tmp_path / "s", "GET", "/feed") as lines,
    ):
        next(lines)
    assert raised.value.code == 69
    assert "no daemon answers" in (told := capsys.readouterr().err)
    assert "streamfaas run" in told


def test_a_ctrl_c_ends_quietly_as_a_shell_expects(tmp_path, capsys):
    with pytest.raises(SystemExit) as raised, client.followed(tmp_path / "s", "GET", "/feed"):
        raise KeyboardInterrupt
    assert raised.value.code == 130
    assert capsys.readouterr() == ("", "")


@contextlib.contextmanager
def stopped(path):
    """A daemon that is there, and does nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


def test_a_daemon_that_is_stopped_is_there_and_nobody_is_told_to_start_one(tmp_path, capsys):
    def follow():
        with client.followed(tmp_path / "s", "GET", "/feed", first=0.05) as lines:
            next(lines)

    def find():
        client.found(tmp_path / "s", "POST", "/pause/f", timeout=0.05)

    for ask in (follow, find):
        with stopped(tmp_path / "s"), pytest.raises(SystemExit) as raised:
            ask()
        (tmp_path / "s").unlink()
        assert raised.value.code == 69
        told = capsys.readouterr().err
        assert "is there, but did not answer within 0.05 s; it is stopped, stuck or busy" in told
        assert "streamfaas run" not in told


def test_a_stream_that_falls_silent_for_long_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.1)

    def read():
        with (
            pytest.raises(SystemExit) as raised,
            client.followed(tmp_path / "s", "GET", "/feed") as lines,
        ):
            list(lines)
        return raised.value.code

    assert served(tmp_path / "s", Daemon().handle, Bounds(), read) == 69
    assert "has said nothing for 0.1 s: it is stopped, stuck" in capsys.readouterr().err


@pytest.mark.slow
def test_who_waits_no_longer_for_a_reload_is_told_that_it_goes_on(tmp_path):
    with stopped(tmp_path / "s"):
        result = CliRunner().invoke(
            main, ["reload", "--timeout", "1", "--socket", str(tmp_path / "s")]
        )
    assert result.exit_code == 69
    assert "within 1 s; a reload that has begun goes on: its end is in the log" in result.output


def test_a_daemon_is_told_until_when_somebody_waits(tmp_path):
    with answering(tmp_path / "s", b"{}") as asked:
        client.found(tmp_path / "s", "POST", "/pause/f")
        with client.followed(tmp_path / "s", "POST", "/send/f/t") as lines:
            list(lines)
    assert all(b"\r\nstreamfaas-until: " in each for each in asked)

import pytest

from status_server import answering
from streamfaas.api.server import LINES, Bounds, Response
from streamfaas.cli import client
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

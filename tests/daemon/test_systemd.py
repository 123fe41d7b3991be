import os
import select
import signal
import socket
import time

import pytest

from daemon_process import DaemonProcess, write_project
from streamfaas.daemon.systemd import Notifier, Pulse
from streamfaas.workers.pool import Motion


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
        assert stopping == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=60000000", "STATUS=draining"]


def test_a_reload_is_told_in_one_datagram_with_its_moment(tmp_path):
    with listening(str(tmp_path / "notify")) as manager:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).reloading()
        reloading, moment, _ = manager.recv(4096).decode().splitlines()
        assert reloading == "RELOADING=1"
        name, _, microseconds = moment.partition("=")
        assert name == "MONOTONIC_USEC"
        assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


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


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_where_it_is_ours(environ, seconds):
    assert Notifier(environ).watchdog_seconds == seconds


MOVING = [Motion(step, stalled=step % 2 == 0, late_seconds=0.0) for step in range(10)]
RESTING = [Motion(7, stalled=False, late_seconds=-3.0)] * 10
STALLED = [Motion(7, stalled=True, late_seconds=0.0)] * 10
LATE = [Motion(step, stalled=False, late_seconds=20.0 * step) for step in range(10)]


@pytest.mark.parametrize(
    ("motions", "beats"),
    [
        (MOVING, [True] * 10),
        (RESTING, [True] * 10),
        (STALLED, [True] * 5 + [False] * 5),
        (LATE, [True] * 5 + [False] * 5),
        (STALLED[:8] + MOVING[8:], [True] * 5 + [False] * 3 + [True] * 2),
    ],
    ids=["moving", "resting", "stalled", "late", "healed"],
)
def test_a_pool_that_is_stuck_has_no_pulse(motions, beats):
    pulse = Pulse(patience_seconds=80)
    assert [pulse.beats(motion, 20.0 * at) for at, motion in enumerate(motions)] == beats


CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 2s}
functions:
  orders: {code: orders, handler: app.main, isolation: best-effort, timeout: 500ms}
"""


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = listening(self.path)

    def environ(self, watchdog_seconds):
        return {
            "NOTIFY_SOCKET": self.path,
            "WATCHDOG_USEC": str(int(watchdog_seconds * 1_000_000)),
        }

    def wait_for(self, word):
        """The first message that begins so; those before it."""
        before = []
        while not (told := self.socket.recv(4096).decode()).startswith(word):
            before.append(told)
        return before

    def hears_for(self, seconds):
        """All that comes in this time."""
        told, until = [], time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                told.append(self.socket.recv(4096).decode())
        return told


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    with made.socket:
        yield made


ECHO = "def main(event, context):\n    return event\n"


@pytest.mark.slow
def test_a_daemon_feeds_the_watchdog_until_it_is_stopped_in_its_tracks(tmp_path, manager):
    config = write_project(tmp_path, CONFIG, orders=ECHO)
    with DaemonProcess(config, env=manager.environ(0.2)) as daemon:
        manager.wait_for("READY=1")
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        daemon.signal(signal.SIGSTOP)
        manager.hears_for(0.2)  # what was on its way
        assert manager.hears_for(0.5) == []
        daemon.signal(signal.SIGCONT)
        manager.wait_for("WATCHDOG=1")
        daemon.signal()
        manager.wait_for("STOPPING=1")
        assert daemon.wait() == 0


@pytest.mark.slow
def test_nothing_is_said_of_a_configuration_that_is_not_valid(tmp_path, manager):
    config = write_project(tmp_path, CONFIG.replace("500ms", "5h"), orders=ECHO)
    with DaemonProcess(config, env=manager.environ(0.2)) as daemon:
        assert daemon.wait(20) == 78
    assert manager.hears_for(0.1) == []


STUCK = """
from streamfaas.cli.main import main
from streamfaas.daemon import systemd
from streamfaas.workers.pool import WorkerPool

systemd.Pulse.__init__.__defaults__ = (0.3,)
WorkerPool.%s = lambda self: None
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "deaf",
    ["_sweep", "_plan"],
    ids=["no deadline is looked at any more", "who waits is never given a worker"],
)
def test_a_daemon_whose_pool_is_stuck_goes_unfed_though_its_loop_turns(tmp_path, manager, deaf):
    config = write_project(
        tmp_path, CONFIG, orders="import time\ndef main(*_):\n    time.sleep(60)\n"
    )
    program = ("-c", STUCK % deaf)
    with DaemonProcess(config, env=manager.environ(0.2), program=program) as daemon:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        assert daemon.request("POST", "/invoke/orders/event", b"{}")[0] == 202
        daemon.wait_for(lambda _: "stuck no worker moves any more" in daemon.text)
        manager.hears_for(0.1)
        assert "WATCHDOG=1" not in manager.hears_for(0.5)
        assert daemon.status()["state"] == "running"  # the loop turns
        daemon.signal(signal.SIGABRT)  # as the manager does
        assert daemon.wait() == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in daemon.text
        assert "in run" in daemon.text

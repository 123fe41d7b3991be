import os
import socket

import anyio
import pytest

from streamfaas.daemon.life import Life, status_line
from streamfaas.telemetry.signals import DaemonStepped


def trigger(state="running", lags=(), by_key=False, reason=""):
    lanes = [{"lag": lag, "by_key": by_key} for lag in lags]
    return {"state": state, "reason": reason, "lanes": lanes}


def view(**triggers):
    return {"functions": {"f": {}}, "triggers": triggers}


@pytest.mark.parametrize(
    ("triggers", "line"),
    [
        ({}, "1 functions, 0 triggers, lag 0"),
        ({"a": trigger(lags=(3, 4)), "b": trigger(lags=(1,))}, "1 functions, 2 triggers, lag 8"),
        ({"a": trigger(lags=(3, None))}, "1 functions, 1 triggers, lag at least 3"),
        ({"a": trigger(lags=(None,))}, "1 functions, 1 triggers, lag not known yet"),
        ({"a": trigger(lags=(5, 5), by_key=True)}, "1 functions, 1 triggers, lag 0"),
        ({"a": trigger("degraded", (3,), reason="no broker")}, "degraded: a: no broker"),
    ],
)
def test_the_status_is_one_line_that_says_first_what_is_wrong(triggers, line):
    assert status_line(view(**triggers)) == line


@pytest.mark.anyio
async def test_the_supervisor_hears_of_the_start_and_of_the_end(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        told = []
        life = Life(view, told.append)
        assert life.state([]) == "starting"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.run)
            await life.ready.wait()
            tasks.cancel_scope.cancel()
        ready = f"READY=1\nSTATUS=1 functions, 0 triggers, lag 0\nMAINPID={os.getpid()}"
        assert systemd.recv(1_000).decode() == ready
        assert life.state([trigger()]) == "running"
        assert life.state([trigger("degraded")]) == "degraded"
        assert life.grace_left_seconds is None
        life.drain(60.0)
        assert systemd.recv(1_000).startswith(b"STOPPING=1\n")
        assert life.state([trigger("degraded")]) == "draining"
        assert 0 < life.grace_left_seconds <= 60
    assert told == [
        DaemonStepped("ready", "1 functions, 0 triggers, lag 0"),
        DaemonStepped("draining", "up to 60 s"),
    ]

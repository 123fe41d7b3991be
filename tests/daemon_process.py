"""The daemon as a process: started, asked, signalled and ended by id."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from server_process import free_port

ROOT = Path(__file__).resolve().parent.parent


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(place, method, path, body=None, headers=None, timeout=10):
    """The status of what a daemon answers on its socket, its headers, and all of it."""
    with contextlib.closing(UnixConnection(place, timeout)) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


class DaemonProcess:
    """`streamfaas run` on a configuration. A context manager: whatever happens, it ends."""

    def __init__(self, config, *arguments, env=None, program=("-m", "streamfaas")):
        self.config = Path(config)
        self.state = self.config.parent / "state"
        self.output = self.config.parent / f"daemon-{time.monotonic_ns()}.log"
        self._file = self.output.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, *program, "run", str(config), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=self.config.parent,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.end()

    @property
    def text(self):
        return self.output.read_text(errors="replace")

    def request(self, method, path, body=None, headers=None):
        return ask(self.state / "streamfaas.sock", method, path, body, headers)

    def status(self):
        return json.loads(self.request("GET", "/status")[2])

    def wait_for(self, condition, seconds=30.0):
        """Until `condition(status)` holds; what it gave. Fails loudly with the daemon's output."""
        deadline = time.monotonic() + seconds
        status = None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.process.returncode}\n{self.text}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = self.status()
                if found := condition(status):
                    return found
            time.sleep(0.02)
        raise AssertionError(f"waited {seconds} s\n{json.dumps(status, indent=1)}\n{self.text}")

    def wait_told(self, text, seconds=30.0):
        """Until its output has this: lines are written a moment later, by a thread."""
        self.wait_for(lambda _: text in self.text, seconds)

    def wait_ready(self, seconds=30.0):
        self.wait_for(lambda status: status["state"] in {"running", "degraded"}, seconds)

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=30.0):
        return self.process.wait(seconds)

    def stop(self, seconds=40.0):
        self.signal()
        return self.wait(seconds)

    def descendants(self):
        """The ids of all processes below the daemon."""
        return descendants(self.process.pid)

    def end(self):
        below = self.descendants() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        wait_gone(below)
        self._file.close()


def descendants(root):
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def wait_gone(pids, seconds=5.0):
    """Until none of the processes lives; which do, otherwise."""
    deadline = time.monotonic() + seconds
    left = list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        time.sleep(0.01)
    return left


def free_address():
    """Of this machine alone; nobody listens there."""
    return f"127.0.0.1:{free_port()}"


def write_project(folder, config, **handlers):
    """A configuration and the code of its functions: `name="source text"` becomes
    `name/app.py`. Gives back the path of the configuration."""
    for name, source in handlers.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "app.py").write_text(source)
    path = folder / "streamfaas.yaml"
    path.write_text(config)
    return path

"""A real Prometheus for tests, and promtool: those of the machine, or of Debian's package, which is
unpacked into a folder of ours and not installed: no service, no user, no root.
`python tests/prometheus_server.py --resolve` fetches it ahead of the tests.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import parts
from server_process import free_port

_HERE = Path(__file__).resolve().parent
_START_SECONDS = 30


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is; skips the test where none can be had (under CI: fails)."""
    return parts.promised(lambda: _program(name))


def _program(name: str) -> str:
    return shutil.which(name) or str(parts.unpacked("prometheus", "prometheus") / "usr/bin" / name)


def promtool(*arguments: str | Path, folder: Path | None = None) -> str:
    """What it says; fails the test where it is not content."""
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """One on loopback, with its data in the folder. A context manager: it ends with the block."""

    def __init__(self, folder: Path, config: str) -> None:
        self._program = program("prometheus")
        (folder / "prometheus.yml").write_text(config)
        self.port = free_port()
        self._folder = folder
        self.log = folder / "prometheus.log"

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.wait_for(self._ready, _START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait(10)

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer; fails where it is an error."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                told = json.load(error)
        assert told["status"] == "success", f"{told.get('error')}: {parameters}"
        return told["data"]

    def query(self, expression: str) -> list[Any]:
        return self.ask("query", query=expression)["result"]

    def wait_for(self, condition: Any, seconds: float = 30.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return found

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            url = f"http://127.0.0.1:{self.port}/-/ready"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        return False


if __name__ == "__main__":
    parts.resolve(lambda: _program("promtool"))

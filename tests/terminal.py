"""A shell in a terminal of its own: typed into, and read from, as a person would."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Self

PROMPT = "$ "
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


class Terminal:
    """A context manager: whatever happens, the shell and what it started end."""

    def __init__(self, folder: Path, path: str, *, columns: int = 100) -> None:
        self._descriptor, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
        env = {**os.environ, "PATH": path, "PS1": PROMPT, "TERM": "xterm", "COLUMNS": ""}
        env.pop("COLUMNS")
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "bash", "--noprofile", "--norc", "+m", "-i"],
            stdin=other, stdout=other, stderr=other, cwd=folder, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.text = ""
        self._read_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.type("\x03", enter=False)
        self.type("exit")
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait(10)
        os.close(self._descriptor)

    def type(self, text: str, *, enter: bool = True) -> None:
        try:
            os.write(self._descriptor, text.encode() + (b"\n" if enter else b""))
        except OSError:  # the shell has gone
            return

    def expect(self, pattern: str, seconds: float = 60.0) -> None:
        """Reads on until something matches, beyond what was matched before."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.text[self._read_to :])) is None:
            if time.monotonic() > deadline or not self._read(deadline - time.monotonic()):
                raise AssertionError(f"no {pattern!r} in\n{self.text[self._read_to :]}")
        self._read_to += found.end()

    def expect_all(self, patterns: list[str], seconds: float = 60.0) -> None:
        """The same of several, in any order."""
        start, ends = self._read_to, []
        for pattern in patterns:
            self._read_to = start
            self.expect(pattern, seconds)
            ends.append(self._read_to)
        self._read_to = max(ends)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:
            return False
        self.text += _ESCAPES.sub("", data.decode(errors="replace").replace("\r", ""))
        return bool(data)

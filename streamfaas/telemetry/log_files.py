"""A file of lines for each function: written by a thread, and rotated by its size."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from streamfaas.telemetry.behind import Behind
from streamfaas.telemetry.log_lines import json_line, parsed, text_line
from streamfaas.telemetry.losses import Losses
from streamfaas.telemetry.signals import LogsDropped, LogWritten, Signal

PLACE = "files"
READ_BYTES_MAX = 64 * 1024 * 1024
"""How much of a function's files is looked through for old lines."""


class LogFiles:
    """`<function>.log` in a directory, `<function>.log.1` before it, and so on up to `keep`.
    `tell` is called where lines cannot be written, by the thread too."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        keep: int,
        as_json: Callable[[str], bool],
        tell: Callable[[LogsDropped], None],
    ) -> None:
        """`as_json` says of a function whether its file is one of JSON documents."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._keep = keep
        self._as_json = as_json
        self._losses = Losses(PLACE, tell)
        self._files: dict[str, _File] = {}
        self._behind = Behind(self._write, "log files")

    def __call__(self, signal: Signal) -> None:
        if type(signal) is not LogWritten:
            return
        as_json = self._as_json(signal.function)
        if not self._behind.put((signal, as_json), len(signal.line)):
            self._losses.lost(1, f"the disk is too slow ({self._directory})")

    def close(self) -> None:
        """Writes what is left, within two seconds."""
        self._behind.close()
        for file in self._files.values():
            file.close()

    def _write(self, signals: Sequence[tuple[LogWritten, bool]]) -> None:
        lines: defaultdict[str, list[bytes]] = defaultdict(list)
        for signal, as_json in signals:
            line = json_line(signal) if as_json else text_line(signal)
            lines[signal.function].append(line.encode("utf-8", "backslashreplace"))
        lost = 0
        for function, each in lines.items():
            try:
                self._file(function).write(each)
            except OSError as error:
                lost += len(each)
                self._losses.lost(len(each), f"{error.strerror or error} ({self._directory})")
        if not lost:
            self._losses.fine()

    def _file(self, function: str) -> _File:
        if function not in self._files:
            path = path_of(self._directory, function)
            self._files[function] = _File(path, self._max_bytes, self._keep)
        return self._files[function]


class _File:
    """Appends to a path, whoever moved away what was there."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._torn = False  # the last line is not whole

    def write(self, lines: list[bytes]) -> None:
        """Takes written lines off the list, so that what is left was not."""
        while lines:
            self._look()
            room = self._max_bytes - self._size
            take = next((at for at, each in _sums(lines) if each > room), len(lines))
            if take == 0 and self._size:
                self._rotate()
                continue
            take = max(take, 1)  # one line alone may be larger than a file
            data = b"".join(lines[:take])
            if self._torn:
                data = b"\n" + data
            while data:  # a disk that is nearly full takes a part
                written = os.write(self._fd, data)
                self._torn = written < len(data)
                self._size += written
                data = data[written:]
            del lines[:take]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        """Opens the file where it is not, or is another one by now."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                there, ours = self._path.stat(), os.fstat(self._fd)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return
            self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep, 0, -1):
            older = rotated(self._path, number)
            with contextlib.suppress(FileNotFoundError):
                rotated(self._path, number - 1).replace(older)
        if self._keep == 0:
            self._path.unlink(missing_ok=True)


def path_of(directory: Path, function: str) -> Path:
    """Where a function's newest lines are."""
    return directory / f"{function}.log"


def rotated(path: Path, number: int) -> Path:
    """The file that was rotated so many times; 0 is the newest."""
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


def newest_first(directory: Path, function: str) -> Iterator[LogWritten]:
    """What a function's files hold, as far back as is bearable; what cannot be read does not."""
    path, left = path_of(directory, function), READ_BYTES_MAX
    for number in count():
        try:
            with rotated(path, number).open("rb") as file:
                begin = max(0, file.seek(0, os.SEEK_END) - left)
                file.seek(begin)
                data = file.read(left)
        except OSError:
            return
        left -= len(data)
        lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n")
        yield from reversed(list(parsed(function, lines[1:] if begin else lines)))
        if left <= 0:
            return


def _sums(lines: list[bytes]) -> Iterator[tuple[int, int]]:
    total = 0
    for at, line in enumerate(lines):
        total += len(line)
        yield at, total

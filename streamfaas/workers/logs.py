"""A worker's stdout and stderr: lines out of a pipe, however much is poured into it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import Callable

LINE_BYTES_MAX = 64 * 1024
"""A longer line is cut here, and marked."""

LINE_COST_BYTES = 26
"""What a line counts for beside its own bytes, as in CloudWatch: empty lines cost too."""

PIPE_BYTES = 64 * 1024
"""What the kernel holds of a pipe: all that a worker can have written before it answered."""

RATE_LINE_COST_BYTES = 128
"""What a line counts for in what a function may write in a second: each costs us, short or long."""

_RATE_SECONDS = 1.0
_TRACEBACK = "Traceback (most recent call last):"
_TRACEBACK_LINES_MAX = 1_000
_READ_BYTES = 4096  # so that even a read of nothing but newlines is done within a few ms
_FLOOD_BYTES = 1024 * 1024  # what a pipe holds, and is read at once, of which nothing is kept
_PAUSE_SECONDS = 0.01  # between two looks at a pipe of which nothing is kept any more
_NOTHING = -1  # the pipe is empty, but not at its end
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class Allowance:
    """What all workers of a function together may write in a second. What is over it is dropped,
    and `cut` is told how much that was, once the second has ended."""

    __slots__ = ("_cut", "_dropped", "_loop", "_timer", "_used", "bytes_max", "spent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, bytes_max: int, cut: Callable[[int], None]
    ) -> None:
        self.spent = False
        self._loop = loop
        self.bytes_max = bytes_max
        self._cut = cut
        self._used = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def use(self, count: int) -> None:
        """So much was written."""
        self._used += count
        self.spent = self._used >= self.bytes_max
        if self._timer is None:
            self._timer = self._loop.call_later(_RATE_SECONDS, self._renew)

    def drop(self, count: int) -> None:
        """So much was not, since it was spent."""
        self._dropped += count

    def close(self) -> None:
        """Tells what is left to tell."""
        if self._timer is not None:
            self._timer.cancel()
            self._renew()

    def _renew(self) -> None:
        self._timer, self._used, self.spent = None, 0, False
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._cut(dropped)


class LogPipe:
    """The reading end of one worker's pipe. Up to `bytes_max` of an invocation's output become
    lines; the rest is read and dropped so slowly that the pipe itself holds the function back."""

    __slots__ = (
        "_allowance",
        "_begun",
        "_buffer",
        "_bytes_max",
        "_cut",
        "_dropped",
        "_fd",
        "_long",
        "_loop",
        "_pause",
        "_pipe_bytes",
        "_torn",
        "_traceback",
        "_wanted",
        "_write",
        "taken",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        buffer: bytearray,
        bytes_max: int,
        *,
        allowance: Allowance,
        write: Callable[[str], None],
        cut: Callable[[int], None],
        wanted: Callable[[], bool],
    ) -> None:
        """`write` is given each line; where nobody has `wanted` them they are not even split. `cut`
        is told how much of an invocation was dropped."""
        self.taken = 0  # since the last drain
        self._loop = loop
        self._fd = fd
        self._buffer = memoryview(buffer)[:PIPE_BYTES]
        self._bytes_max = bytes_max
        self._allowance = allowance
        self._write = write
        self._cut = cut
        self._wanted = wanted
        self._begun = bytearray()  # a line whose end has not come
        self._long = False  # it is longer than a line may be
        self._torn = False  # the rest of it is dropped
        self._traceback: list[str] = []  # its lines, until it ends
        self._dropped = 0
        self._pipe_bytes = PIPE_BYTES
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._readable)

    def drain(self, done: Callable[[], None]) -> None:
        """Reads what was written so far, calls `done`, and counts anew. At once where there is
        little; else in steps, between which the loop goes on."""
        self._drain(self._pipe_bytes, done)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            if self._pause is not None:
                self._pause.cancel()
            os.close(self._fd)
            self._fd = -1

    @property
    def _full(self) -> bool:
        return self.taken >= self._bytes_max or self._allowance.spent

    def _drain(self, budget: int, done: Callable[[], None]) -> None:
        asked, got = self._read()
        if got < asked or got >= budget:  # empty, or as much as there can have been at first
            self._turn()
            done()
        else:
            self._loop.call_soon(self._drain, budget - got, done)

    def _turn(self) -> None:
        """One invocation's output has ended."""
        if self._begun:
            self._end_line()
        self._end_traceback()
        self._torn = False
        if self._dropped:
            self._cut(self._dropped)
            if self._wanted():
                self._write(
                    f"… output cut after {self._bytes_max} bytes ({self._dropped} bytes dropped)"
                )
        self.taken = self._dropped = 0

    def _readable(self) -> None:
        _, got = self._read()
        if got == 0:
            self._loop.remove_reader(self._fd)
        elif self._full and self._pause is None:
            self._loop.remove_reader(self._fd)
            self._discard()
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _discard(self) -> None:
        """Empties the pipe, which holds more from now on: a function that pours out what nobody
        keeps is slowed down, but not to the pace of a drop."""
        if self._pipe_bytes == PIPE_BYTES:
            with contextlib.suppress(OSError):  # more than its user may have
                self._pipe_bytes = fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _FLOOD_BYTES)
        left = self._pipe_bytes
        while left > 0 and (got := self._read()[1]) > 0:
            left -= got

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> tuple[int, int]:
        """One read: how many bytes were asked for and how many came; 0 is the end."""
        keep = not self._full and self._wanted()
        target = self._buffer[:_READ_BYTES] if keep else self._buffer
        try:
            got = os.readv(self._fd, [target]) if self._fd >= 0 else 0
        except (BlockingIOError, InterruptedError):
            return len(target), _NOTHING
        if keep:
            self._take(bytes(target[:got]))
        elif self._full:
            self._drop(got)
        else:
            self.taken += got
        return len(target), got

    def _take(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            if self._full:
                self._drop(len(data) - start)
                return
            end = data.find(b"\n", start)
            stop = len(data) if end < 0 else end
            if self._torn:
                self._allowance.drop(stop - start)
            else:
                self._grow(data[start:stop])
            if end < 0:
                return
            if not self._torn:
                self._end_line()
            self._torn = False
            start = end + 1

    def _drop(self, count: int) -> None:
        if self.taken >= self._bytes_max:
            self._dropped += count
            return
        self._allowance.drop(count)
        if self._begun:  # what comes later is not its rest
            self._long = True
            self._end_line()
        self._torn = True

    def _grow(self, piece: bytes) -> None:
        counted = min(len(piece), self._bytes_max - self.taken)
        room = LINE_BYTES_MAX - len(self._begun)
        self._begun += piece[: min(counted, room)]
        self._long = self._long or counted > room
        self.taken += counted
        self._allowance.use(counted)
        self._dropped += len(piece) - counted

    def _end_line(self) -> None:
        line = record(bytes(self._begun))
        count = 1 + line.count("\n")
        self.taken += LINE_COST_BYTES * count
        self._allowance.use(RATE_LINE_COST_BYTES * count)
        self._gather(line + " … line cut" if self._long else line)
        self._begun.clear()
        self._long = False

    def _gather(self, line: str) -> None:
        """A traceback is one record, by whatever it was printed: it goes on with lines that are
        set in, and ends with one that is not."""
        if self._traceback:
            self._traceback.append(line)
            if not line.startswith(" ") or len(self._traceback) >= _TRACEBACK_LINES_MAX:
                self._end_traceback()
        elif line == _TRACEBACK:
            self._traceback.append(line)
        else:
            self._write(line)

    def _end_traceback(self) -> None:
        if self._traceback:
            lines, self._traceback = self._traceback, []
            self._write("\n".join(lines))


def record(line: bytes) -> str:
    """A line as what it was written as: carriage returns in it end the lines of one record, as
    runtimes of Lambda write it."""
    line = line.removesuffix(b"\r")
    if b"\r" not in line:
        return printable(line)
    return "\n".join(map(printable, line.split(b"\r")))


def printable(line: bytes) -> str:
    """Text without a way to forge another line or to steer a terminal: whatever is not UTF-8 and
    every control character but the tab is written out."""
    text = line.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")

"""What a function writes: standard output, standard error and its log."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import sys
import termios

from streamfaas.guest.python.failure import Failure
from streamfaas.guest.python.log_format import LogFormat, one_line

_NOTHING = bytes(4)


class Output:
    """The two streams and the root logger of a worker. Both streams are one pipe."""

    def __init__(self, log_format: LogFormat) -> None:
        self.request_id = ""
        self.stdout = _open(1)
        self.stderr = _open(2)
        self._unread = bytearray(4)
        self._format_error = log_format.error_line
        sys.stdout = sys.__stdout__ = self.stdout  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self.stderr  # type: ignore[misc]
        handler, root = _LogHandler(self), logging.getLogger()
        handler.setFormatter(log_format.formatter)
        if log_format.level is not None:
            root.setLevel(log_format.level)
            handler.setLevel(log_format.level)  # also for loggers that say more
        root.addHandler(handler)

    def flush(self) -> None:
        """Hands over lines that have no end yet."""
        with contextlib.suppress(OSError, ValueError):
            self.stdout.flush()
            self.stderr.flush()

    def write_error(self, described: Failure) -> None:
        """Writes the line of an uncaught error to the function's log."""
        with contextlib.suppress(OSError, ValueError):
            self.stdout.write(self._format_error(described))

    def is_unread(self) -> bool:
        """Whether the pipe holds what the daemon has not read yet, whoever wrote it: a child
        of the handler counts as much as a print."""
        try:
            fcntl.ioctl(1, termios.FIONREAD, self._unread)
        except OSError:  # the handler made something else of its descriptor
            return True
        return self._unread != _NOTHING


class _LogHandler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        record.aws_request_id = self._output.request_id
        try:
            self._output.stdout.write(one_line(self.format(record)))
        except Exception:
            self.handleError(record)


def _open(descriptor: int) -> io.TextIOWrapper:
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )

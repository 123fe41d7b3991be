"""Requests to a running daemon, on its Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from streamfaas.cli import exits

F = TypeVar("F", bound=Callable[..., Any])

ANSWER_BYTES_MAX = 64 << 20
LINE_BYTES_MAX = 64 << 20

FIRST_SECONDS = 10.0
"""How long a stream may take to begin."""

SILENCE_SECONDS = 45.0
"""Of a stream: a daemon that lives says something every 15 s, if only an empty line."""


class Absent(Exception):
    """Nobody answers on the socket."""

    help = "start one: streamfaas run"

    def told(self) -> str:
        """With what helps."""
        return f"{self}; {self.help}" if self.help else str(self)


class Silent(Absent):
    """Somebody is there, and did not answer in time."""

    help = "it is stopped, stuck or busy: look at its process and its log"

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(f"the daemon at {path} is there, but did not answer within {seconds:g} s")


class Foreign(Absent):
    """Somebody else's, whom we may not ask."""

    help = "ask as the user who runs it"


class Ended(Absent):
    """A stream has ended, and the daemon with it."""

    help = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon said; header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


def options(command: F) -> F:
    """The options that say which daemon is meant; `socket_of` takes what they give."""
    config = click.option(
        "-c",
        "--config",
        type=exits.PATH,
        help=f"The configuration of the daemon. [default: {exits.DEFAULT_CONFIG}]",
    )
    given = click.option("--socket", type=exits.PATH, help="The daemon's socket.")
    return config(given(command))


def socket_of(config: Path | None, given: Path | None) -> Path:
    """The socket of the daemon that is meant, or the end of the command."""
    if given is not None and config is not None:
        raise click.UsageError("give --config or --socket, not both")
    if given is not None:
        return given
    from streamfaas.config.place import socket_of as of_file
    from streamfaas.config.place import usual_socket
    from streamfaas.config.report import report
    from streamfaas.flow.errors import ConfigError

    path = config or Path(exits.DEFAULT_CONFIG)
    try:
        return of_file(path, os.environ)
    except ConfigError as error:
        # a daemon goes on with what it read before the file was broken
        usual = usual_socket(path, os.environ)
        if path.exists() and usual.is_socket():
            told = f"{path} cannot be read (streamfaas validate): asking the daemon at {usual}"
            click.echo(exits.printable(told), err=True)
            return usual
        click.echo(report(error.problems, error.name), err=True)
        if path.exists():
            click.echo("a daemon that runs is found by --socket STATE/streamfaas.sock", err=True)
        sys.exit(exits.CONFIG)


def found(
    path: Path, method: str, target: str, asked: object = None, *, timeout: float = 10.0
) -> dict[str, Any]:
    """What the daemon answers when all is well; else the end of the command, with its words. What
    is asked is made JSON, unless it is bytes."""
    status, value = told(path, method, target, asked, timeout=timeout)
    if status not in {200, 202}:
        _refused(status, value)
    return value


def told(
    path: Path, method: str, target: str, asked: object = None, *, timeout: float = 10.0
) -> tuple[int, dict[str, Any]]:
    """The status and the object that the daemon answers with, or the end of the command."""
    try:
        return answered(path, method, target, asked, timeout=timeout)
    except Absent as cause:
        exits.end(exits.UNREACHABLE, cause.told())


def answered(
    path: Path, method: str, target: str, asked: object = None, *, timeout: float = 10.0
) -> tuple[int, dict[str, Any]]:
    """The same for who goes on, or says more, where the daemon is `Absent`."""
    raw = asked if isinstance(asked, bytes | None) else json.dumps(asked).encode()
    answer = ask(path, method, target, raw, timeout=timeout)
    try:
        value = json.loads(answer.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        exits.end(exits.UNREACHABLE, f"what answers at {path} is no streamfaas daemon")
    return answer.status, value


@contextlib.contextmanager
def followed(
    path: Path, method: str, target: str, asked: object = None, *, first: float = FIRST_SECONDS
) -> Iterator[Iterator[dict[str, Any]]]:
    """The JSON objects that the daemon answers with, each as it comes; a Ctrl-C within ends the
    command quietly. So does, with a word, a daemon that ends or refuses before its stream does, or
    takes longer than `first` seconds to begin."""
    with interruptible(), streamed(path, method, target, asked, first=first) as values:
        try:
            yield values
        except Absent as cause:
            exits.end(exits.UNREACHABLE, cause.told())


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A Ctrl-C within ends the command quietly."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)


@contextlib.contextmanager
def streamed(
    path: Path, method: str, target: str, asked: object = None, *, first: float = FIRST_SECONDS
) -> Iterator[Iterator[dict[str, Any]]]:
    """The same for who goes on where a daemon has gone: asking for the next may be `Absent`."""
    connection = _Connection(path, first)
    try:
        raw = None if asked is None else json.dumps(asked).encode()
        yield _objects(path, connection, (method, target, raw))
    finally:
        connection.close()


def _objects(
    path: Path, connection: _Connection, asked: tuple[str, str, bytes | None]
) -> Iterator[dict[str, Any]]:
    begun = False
    try:
        connection.request(*asked, headers=_until(connection))
        lasting = connection.sock  # an answer that is the last one lets go of it
        with connection.getresponse() as response:
            begun = True
            if response.status != 200:
                _refused(response.status, json.loads(response.read(ANSWER_BYTES_MAX)))
            lasting.settimeout(SILENCE_SECONDS)
            while line := response.readline(LINE_BYTES_MAX):
                if line == b"\n":  # still there
                    continue
                value = json.loads(line)
                if (why := value.get("ended")) is not None:
                    raise Ended(exits.printable(str(why)))
                yield value
    except TimeoutError as cause:
        if not begun:
            raise Silent(path, connection.seconds) from cause
        silent = f"the daemon at {path} has said nothing for {SILENCE_SECONDS:g} s"
        raise Ended(f"{silent}: {Silent.help}") from cause
    except (OSError, http.client.HTTPException) as cause:
        absent = _absent(path, cause)
        raise (Ended(str(absent)) if begun else absent) from cause
    except (ValueError, AttributeError, TypeError):
        exits.end(exits.UNREACHABLE, f"what answers at {path} is no streamfaas daemon")


def _refused(status: int, value: dict[str, Any]) -> NoReturn:
    wrong = exits.USAGE if status in {400, 404} else exits.FAILED
    exits.end(wrong, exits.printable(str(value.get("error", f"the daemon answered {status}"))))


def ask(
    path: Path, method: str, target: str, body: bytes | None = None, *, timeout: float = 10.0
) -> Answer:
    """One request, in the trace that TRACEPARENT names, if it does. `Absent` where there is no
    daemon, or it does not answer in time."""
    connection = _Connection(path, timeout)
    try:
        caller = _caller(os.environ.get("TRACEPARENT", ""))
        connection.request(method, target, body, caller | _until(connection))
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX)
    except TimeoutError as cause:
        raise Silent(path, timeout) from cause
    except (OSError, http.client.HTTPException) as cause:
        raise _absent(path, cause) from cause
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, data)


def _caller(traceparent: str) -> dict[str, str]:
    """What tells the daemon whose call it is: what is written badly does not."""
    if not traceparent:
        return {}
    from streamfaas.flow.trace import TRACEPARENT, parse

    context = parse(traceparent)
    return {} if context is None else {TRACEPARENT: context.traceparent}


def _until(connection: _Connection) -> dict[str, str]:
    """What tells the daemon how long somebody waits: it begins nothing after that."""
    return {"streamfaas-until": f"{time.monotonic() + connection.seconds:.3f}"}


def _absent(path: Path, cause: Exception) -> Absent:
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
        return Absent(f"no daemon answers at {path}")
    if isinstance(cause, PermissionError):
        return Foreign(f"the daemon at {path} belongs to another user")
    return Absent(f"the daemon at {path} broke off ({type(cause).__name__})")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path, self.seconds = path, timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(os.fspath(self._path))
        except OSError as cause:
            self.sock.close()
            if "too long" in str(cause):
                raise FileNotFoundError(str(self._path)) from cause
            raise

"""`streamfaas invoke`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from streamfaas.cli import client, exits

if TYPE_CHECKING:
    from streamfaas.config.spec import Config
    from streamfaas.flow.outcome import Outcome

EVENT_BYTES_MAX = 6 << 20
ANSWER_SECONDS = 960.0
"""Longer than any function may take, with its start."""


@click.command()
@click.argument("function")
@click.option("-e", "--event", required=True, metavar="FILE|-", help="The event; - is stdin.")
@click.option(
    "-c",
    "--config",
    type=exits.PATH,
    help=f"The configuration. [default: {exits.DEFAULT_CONFIG}]",
)
@click.option("--socket", type=exits.PATH, help="The socket of a daemon; then no config.")
@click.option(
    "--async",
    "asynchronous",
    is_flag=True,
    help="Hand the event over and wait for no answer; needs a daemon.",
)
def command(
    function: str, event: str, *, config: Path | None, socket: Path | None, asynchronous: bool
) -> None:
    """Call a function with an event, and print its answer.

    Asks the daemon of the configuration if one runs; otherwise starts one worker for this call.
    The answer goes to stdout, everything else to stderr. Exits with 1 where the function failed.
    """
    if socket is not None and config is not None:
        raise click.UsageError("give --config or --socket, not both")
    if not re.fullmatch("[A-Za-z0-9_-]{1,63}", function):
        exits.end(exits.USAGE, f"{function[:100]!r} is not a function's name")
    if asynchronous:
        place = socket or exits.loaded(config or Path(exits.DEFAULT_CONFIG)).socket
        _hand_over(place, function, _event(event))
        return
    if socket is not None:
        _by_daemon(socket, function, _event(event))
    found = exits.loaded(config or Path(exits.DEFAULT_CONFIG))
    if function not in found.functions:
        _no_such(function, list(found.functions))
    data = _event(event)
    if _daemon_runs(found.socket):
        _by_daemon(found.socket, function, data)
    _alone(found, function, data)


def _event(name: str) -> bytes:
    """The bytes of a valid event, or the end of the command."""
    import orjson

    try:
        if name == "-":
            data = sys.stdin.buffer.read(EVENT_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(EVENT_BYTES_MAX + 1)
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        exits.end(exits.USAGE, f"cannot read the event {name[:200]!r}: {reason}")
    if len(data) > EVENT_BYTES_MAX:
        exits.end(exits.USAGE, "the event is over 6 MB, Lambda's limit")
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as cause:
        exits.end(exits.USAGE, f"the event is not JSON: {cause}")
    return data


def _no_such(function: str, known: list[str]) -> NoReturn:
    from streamfaas.config.keys import nearest

    near = nearest(function, known)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(known) or 'none'}"
    exits.end(exits.USAGE, f"there is no function {function}; {hint}")


def _daemon_runs(socket: Path) -> bool:
    if not socket.exists():
        return False
    try:
        client.ask(socket, "GET", "/status", timeout=5.0)
    except client.Absent:
        return False
    return True


def _hand_over(socket: Path, function: str, event: bytes) -> None:
    found = client.found(socket, "POST", f"/invoke/{function}/event", event)
    click.echo(found["request_id"])


def _by_daemon(socket: Path, function: str, event: bytes) -> NoReturn:
    import orjson

    try:
        answer = client.ask(socket, "POST", f"/invoke/{function}", event, timeout=ANSWER_SECONDS)
    except client.Absent as cause:
        exits.end(exits.UNREACHABLE, cause.told())
    if answer.status != 200:
        try:
            reason = orjson.loads(answer.body)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            reason = f"the daemon answered {answer.status}"
        usage = answer.status in (400, 404, 413)
        exits.end(exits.USAGE if usage else exits.FAILED, exits.printable(str(reason)))
    told = answer.headers
    click.echo(
        exits.printable(
            f"REPORT RequestId: {told.get('x-amzn-requestid', '?')}  "
            f"Duration: {told.get('x-streamfaas-duration-ms', '?')} ms  "
            f"Worker: {told.get('x-streamfaas-worker', '?')}"
        ),
        err=True,
    )
    _print(answer.body)
    sys.exit(exits.FAILED if "x-amz-function-error" in told else 0)


def _alone(config: Config, function: str, event: bytes) -> NoReturn:
    """One invocation in a worker of its own."""
    from streamfaas.daemon.build import function_of
    from streamfaas.daemon.once import invoke
    from streamfaas.flow.errors import CannotIsolate
    from streamfaas.telemetry.console import Console
    from streamfaas.telemetry.sink import LineSink

    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    sink = LineSink(sys.stderr.fileno())  # a reader who goes or sleeps must not hold us up
    console = Console(sink.put, colour=colour)
    try:
        request_id, outcome = invoke(function_of(config, function), event, console)
    except CannotIsolate as error:
        remedy = error.remedy or "write isolation: best-effort"
        exits.end(
            exits.CONFIG, exits.printable(f"{function} cannot be isolated: {error}; {remedy}")
        )
    finally:
        sink.close()
    _finish(request_id, outcome)


def _finish(request_id: str, outcome: Outcome) -> NoReturn:
    import orjson

    from streamfaas.flow.outcome import Failure
    from streamfaas.wire.documents import error_payload

    if isinstance(outcome, Failure):
        _print(orjson.dumps(error_payload(outcome, request_id)))
        sys.exit(exits.FAILED)
    _print(outcome.answer)
    sys.exit(0)


def _print(answer: bytes) -> None:
    """The answer as it came; for a terminal, what would move its cursor is written as escapes."""
    if sys.stdout.isatty():
        text = answer.decode("utf-8", "replace")
        tame = (c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
        click.echo("".join(tame))
    else:
        click.echo(answer)

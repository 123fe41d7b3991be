"""Where the daemon of a file takes commands: found without the models, since all commands ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamfaas.config import document
from streamfaas.config.files import SOCKET_NAME, default_state, read_small
from streamfaas.config.interpolate import interpolate
from streamfaas.flow.errors import ConfigError, Problem


def socket_of(path: Path, environ: Mapping[str, str]) -> Path:
    """Its socket, though the file may have been broken since; `ConfigError` where not even that
    can be read."""
    try:
        data, _ = read_small(path, document.BYTES_MAX)
        root, _ = document.parse(document.decode(data))
    except document.Unreadable as cause:
        raise ConfigError((cause.problem,), str(path)) from cause
    except (OSError, ValueError) as cause:
        raise ConfigError((cannot_read(cause),), str(path)) from cause
    base = path.absolute().parent
    interpolate(root, base, environ)
    given = document.find(root, ("state", "path"))
    written = given.value if isinstance(given, document.Scalar) else None
    state = written if isinstance(written, str) and written else default_state(environ)
    return base / state / SOCKET_NAME


def usual_socket(path: Path, environ: Mapping[str, str]) -> Path:
    """Where it is if the file says nothing of it."""
    return path.absolute().parent / default_state(environ) / SOCKET_NAME


def cannot_read(cause: Exception) -> Problem:
    """What is told of a file that cannot be read."""
    hint = "make a project: streamfaas new" if isinstance(cause, FileNotFoundError) else ""
    reason = getattr(cause, "strerror", None) or str(cause)
    return Problem("SF1001", "", 0, 0, f"the file cannot be read: {reason}", hint)

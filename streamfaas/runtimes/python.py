"""How a Python function is started: its launcher's command line, environment and first packet."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

import streamfaas
from streamfaas.flow.errors import ConfigError, Problem
from streamfaas.flow.event import ANSWER_BYTES_MAX, EVENT_BYTES_MAX
from streamfaas.functions import Function
from streamfaas.runtimes import Command

TASK_ROOT = "/var/task"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Functions run on the Python that runs the daemon."""

UID_FIRST = 2_000_000_000
UID_COUNT = 100_000_000
"""A daemon that is root runs each function as a user of its own in this range, which
distributions and systemd leave alone."""

SPEC_BYTES_MAX = 128 * 1024

RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_FORMAT",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_LEVEL",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""What a function's own environment may not set. Lambda reserves the names of credentials, too;
here nobody else gives a function any."""

_PACKAGE = Path(streamfaas.__file__).parent
_DECODER = Path("record", "_crecords")
_LAUNCHER_ENV = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    # without these, glibc gives every large event's pages back and faults them in again
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024 * 1024),
}


def command(function: Function) -> Command:
    """How workers of the function come to be."""
    problems = [*_code(function), *_venv(function), *_env(function)]
    if problems:
        raise ConfigError(tuple(problems))
    spec = orjson.dumps(_spec(function))
    if len(spec) > SPEC_BYTES_MAX:
        message = f"all settings together are {len(spec):,} bytes, the most is {SPEC_BYTES_MAX:,}"
        raise ConfigError((_problem("SF1059", function, "env", message, "shorten env or mounts"),))
    zygote = _PACKAGE / "sandbox" / "zygote.py"
    return Command((sys.executable, "-I", "-S", str(zygote)), _LAUNCHER_ENV, spec)


def environment(function: Function) -> dict[str, str]:
    """The whole environment of a worker; only the log stream's name differs between workers."""
    region = function.aws.get("AWS_REGION", function.region)
    return {
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TZ": ":UTC",
        **function.aws,
        **function.env,
        "_HANDLER": function.handler,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{VERSION}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON" if function.log_format == "json" else "Text",
        "AWS_LAMBDA_LOG_GROUP_NAME": _log_group(function),
        "AWS_REGION": region,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": TASK_ROOT,
        **({"AWS_LAMBDA_LOG_LEVEL": function.log_level} if function.log_level else {}),
    }


def libraries() -> dict[str, str]:
    """Where the compiled libraries lie that a worker loads under private names. Found without
    importing them: the decoder's own package would bring 181 modules into the daemon."""
    found = {
        "cramjam": _extension(_folder("cramjam"), "cramjam"),
        "orjson": _extension(_folder("orjson"), "orjson"),
        "pybase64": _extension(_folder("pybase64"), "_pybase64"),
    }
    decoder = _folder("aiokafka")
    for name in ("cutil", "default_records", "legacy_records"):
        folder = decoder / _DECODER if decoder is not None else None
        found[f"aiokafka.{name}"] = _extension(folder, name)
    return {name: str(path) for name, path in found.items() if path is not None}


def uid(function: str) -> int | None:
    """Whom a function's workers run as: where the daemon is root, a user of the function's own."""
    if os.geteuid() != 0:
        return None
    return UID_FIRST + zlib.crc32(function.encode()) % UID_COUNT


def _spec(function: Function) -> dict[str, object]:
    isolation = function.isolation
    return {
        "type": "spec",
        "function": function.name,
        "code": str(function.code.resolve()),
        "handler": function.handler,
        "venv": str(function.venv.absolute()) if function.venv is not None else None,
        "mounts": [
            {
                "outside": str(mount.outside.absolute()),
                "inside": mount.inside,
                "writable": mount.writable,
            }
            for mount in function.mounts
        ],
        "env": environment(function),
        "enforce": isolation.enforce,
        "network": isolation.network,
        "tmp_bytes": isolation.tmp_bytes,
        "files_max": isolation.files_max,
        "processes_max": isolation.processes_max,
        "data_bytes": function.data_bytes,
        "uid": uid(function.name),
        "entry": str(_PACKAGE / "guest" / "python" / "bootstrap.py"),
        "libraries": libraries(),
        "memory_mb": function.memory_mb,
        "arn": function.arn,
        "log_group": _log_group(function),
        "log_stream_prefix": "",
        "event_bytes_max": EVENT_BYTES_MAX,
        "answer_bytes_max": ANSWER_BYTES_MAX,
    }


def _log_group(function: Function) -> str:
    return f"/aws/lambda/{function.name}"


def _folder(package: str) -> Path | None:
    """Where a top-level package lies; finding it imports nothing."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


def _extension(folder: Path | None, name: str) -> Path | None:
    if folder is not None:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


def _code(function: Function) -> Iterator[Problem]:
    module, _, name = function.handler.rpartition(".")
    if not module or not name.isidentifier():
        message = f"{function.handler!r} is not module.function"
        yield _problem("SF1051", function, "handler", message, "write app.handler for handler()")
    if not function.code.is_dir():
        message = f"there is no directory {function.code}"
        yield _problem("SF1063", function, "code", message, "it holds the handler's module")


def _venv(function: Function) -> Iterator[Problem]:
    """A virtual environment of another Python has compiled packages that do not load."""
    if function.venv is None:
        return
    hint = f"make it with the Python that runs the service: {sys.executable} -m venv"
    try:
        text = (function.venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{function.venv} is not a virtual environment ({error})"
        yield _problem("SF1065", function, "venv", message, hint)
        return
    lines = (line.partition("=") for line in text.splitlines())
    said = {key.strip().lower(): value.strip() for key, _, value in lines}
    version = said.get("version_info") or said.get("version") or ""
    if version.split(".")[:2] != VERSION.split("."):
        message = f"{function.venv} is for Python {version or 'of no version'}, not {VERSION}"
        yield _problem("SF1065", function, "venv", message, hint)


def _env(function: Function) -> Iterator[Problem]:
    for name in sorted(RESERVED & function.env.keys()):
        message = f"{name} is set for the function, and cannot be chosen"
        yield _problem("SF1058", function, f"env.{name}", message, "use another name")


def _problem(code: str, function: Function, field: str, message: str, hint: str) -> Problem:
    return Problem(code, f"functions.{function.name}.{field}", 0, 0, message, hint)

"""The frozen models of a configuration: every key, with its default, limits and words of help."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, SecretStr

from streamfaas.config import document, forms, masking, web
from streamfaas.config.connections import Connection
from streamfaas.config.delivery import AnyDestination, Asynchronous
from streamfaas.config.files import SOCKET_NAME
from streamfaas.config.forms import Form
from streamfaas.config.model import Model, Named, Words, none
from streamfaas.config.otlp import OtlpOrUrl
from streamfaas.config.tracing import Traces
from streamfaas.config.triggers import AnyTrigger, Trigger
from streamfaas.flow.errors import Problem

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
"""The one runtime there is: the Python that runs the daemon."""


ASYNCHRONOUS = "asynchronous"
"""The name of a function's own backlog, among those of its triggers."""

ROLES = ("on_success", "on_failure", "dead_letter")
"""Keys that hold a destination."""


class State(Model):
    """Where the daemon keeps what must survive it."""

    path: Annotated[Path, forms.location("a directory")] = Field(
        default=Path("state"),
        description="Directory of streamfaas.db, streamfaas.sock and set-aside/. Made if missing, "
        "readable only by the daemon's user. Without it: $STATE_DIRECTORY, or ./state.",
        examples=["/var/lib/streamfaas"],
    )


class Limits(Model):
    """What all functions together may use."""

    concurrency: Annotated[int, forms.whole(1, 100_000)] = Field(
        default=1_000, description="Invocations at the same time, over all functions."
    )
    memory: Annotated[int | None, forms.size("128MB", "1024GB")] = Field(
        default=None,
        description="Memory of all workers together, counted by what each function is given. "
        "Without it: 80 % of the machine's.",
        examples=["16GB"],
    )


class Shutdown(Model):
    """How the daemon stops."""

    grace: Annotated[float, forms.duration("0s", "1h")] = Field(
        default=30.0, description="How long invocations in hand may take to finish."
    )


class Reload(Model):
    """When the configuration is read again; `streamfaas reload` and SIGHUP always do that."""

    watch: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the file, what is put into it, certificates and the code of functions "
        "are watched, and taken when they change: for writing handlers, and for files that others "
        "replace.",
        examples=[True],
    )
    settle: Annotated[float, forms.duration("50ms", "10m")] = Field(
        default=0.5, description="How long they must be unchanged before they count as written."
    )


class Isolation(Model):
    """What a worker may touch."""

    mode: Annotated[Literal["enforce", "best-effort"], forms.choice("enforce", "best-effort")] = (
        Field(
            default="enforce",
            description="enforce: the function does not start where the machine cannot isolate it. "
            "best-effort: it starts with what there is, and status shows what is missing.",
        )
    )
    network: Annotated[Literal["host", "none"], forms.choice("host", "none")] = Field(
        default="host", description="host: the machine's network. none: no network at all."
    )
    tmp: Annotated[int, forms.size("1MB", "10240MB")] = Field(
        default=512 << 20, description="Size of a worker's own /tmp."
    )
    files: Annotated[int, forms.whole(64, 65_536)] = Field(
        default=1_024, description="Open files of one worker."
    )
    processes: Annotated[int, forms.whole(1, 32_768)] = Field(
        default=256, description="Processes and threads of one worker."
    )
    data: Annotated[int | None, forms.size("16MB", "1024GB")] = Field(
        default=None,
        description="Most memory that one process of a worker may allocate, as a hard limit of "
        "the kernel (RLIMIT_DATA). Without it: `memory` (at least 512MB) and 512MB more. What is "
        "asked for counts, not what is used: each thread counts 8MB for its stack.",
        examples=["1GB"],
    )


IsolationOrMode: TypeAlias = Annotated[
    Isolation, Words({mode: {"mode": mode} for mode in ("enforce", "best-effort")})
]

Memory: TypeAlias = Annotated[int, forms.size("128MB", "10240MB", step="1MB")]
Timeout: TypeAlias = Annotated[float, forms.duration("100ms", "900s")]


class Defaults(Model):
    """What a function gets that does not say otherwise."""

    memory: Memory = Field(default=128 << 20, description="Memory of one worker.")
    timeout: Timeout = Field(default=3.0, description="The longest that one invocation may take.")
    isolation: IsolationOrMode = Field(
        default=Isolation(),
        description="enforce, best-effort, or the whole block. A function's own block replaces "
        "this one.",
    )


class Concurrency(Model):
    """How many workers a function may have."""

    warm: Annotated[int, forms.whole(0, 10_000)] = Field(
        default=0, description="Workers kept started."
    )
    max: Annotated[int | None, forms.whole(1, 100_000)] = Field(
        default=None, description="Most invocations at the same time. Without it: the daemon's."
    )
    reserved: Annotated[int, forms.whole(0, 100_000)] = Field(
        default=0, description="Invocations that no other function may take away."
    )


LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
SYSTEM_LEVELS = ("debug", "info", "warn")


class Logging(Model):
    """How a function logs, and what is kept of its output."""

    format: Annotated[Literal["text", "json"], forms.choice("text", "json")] = Field(
        default="text",
        description="Lambda's formats of a log: lines of text, or a JSON document for each record "
        "and platform event. What a function prints stays as it is.",
    )
    level: Annotated[str, forms.choice(*LEVELS)] = Field(
        default="info",
        description="What a record needs at least to be written, where the format is json.",
    )
    system_level: Annotated[str, forms.choice(*SYSTEM_LEVELS)] = Field(
        default="info",
        description="The same for platform events, where the format is json: starts and reports "
        "are info, the ends of inits and handlers debug, and what failed is warn.",
    )
    platform: Annotated[Literal["all", "failures"], forms.choice("all", "failures")] = Field(
        default="all", description="START, END and REPORT lines: for all invocations, or failures."
    )
    max_output: Annotated[int, forms.size("1KB", "1GB")] = Field(
        default=1 << 20, description="Output kept of one invocation; the rest is counted."
    )
    max_rate: Annotated[int, forms.size("1KB", "100MB")] = Field(
        default=2 << 20,
        description="Output kept of all invocations in one second, each line counted as 128 bytes "
        "more; the rest is counted.",
    )


class Function(Model):
    """One function: its code, its limits and what it is triggered by."""

    code: Annotated[Path, forms.location("a directory")] = Field(
        description="Directory of the code.", examples=["functions/orders"]
    )
    handler: Annotated[
        str,
        forms.text(
            "a handler",
            forms.HANDLER_PATTERN,
            code="SF1051",
            hint="write module.function, as in app.handler for handler() in app.py",
            length_max=128,
        ),
    ] = Field(description="module.function, found in the code.", examples=["app.handler"])
    runtime: Annotated[str, forms.text("a runtime name", "[a-z]+[a-z0-9.]*")] = Field(
        default="",
        description="The language. There is one: the Python that runs the daemon.",
        examples=["python3.11"],
    )
    memory: Memory = Field(default=128 << 20, description="Memory of one worker.")
    timeout: Timeout = Field(default=3.0, description="The longest that one invocation may take.")
    env: Annotated[
        Mapping[Annotated[str, forms.variable()], Annotated[str, forms.free_text("text", 4_096)]],
        AfterValidator(MappingProxyType),
    ] = Field(
        default_factory=none,
        repr=False,
        description="Environment variables of the workers, 4 KB in all.",
        examples=[{"TABLE": "orders"}],
    )
    venv: Annotated[Path | None, forms.location("a directory")] = Field(
        default=None,
        description="Virtual environment whose packages the handler may import.",
        examples=[".venv"],
    )
    connection: Annotated[str | None, forms.name("connection")] = Field(
        default=None,
        description="A connection of type aws: its address, region and key stand in the variables "
        "that every AWS SDK looks for (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), so that code "
        "written for Lambda reaches the store. What `env` sets goes before.",
        examples=["store"],
    )
    concurrency: Concurrency = Field(default=Concurrency(), description="How many workers.")
    isolation: IsolationOrMode = Field(
        default=Isolation(), description="enforce, best-effort, or the whole block."
    )
    logging: Logging = Field(default=Logging(), description="How it logs.")
    asynchronous: Asynchronous = Field(
        default=Asynchronous(), description="What becomes of asynchronous invocations."
    )
    triggers: Named[Trigger] = Field(
        default_factory=none, description="What the function is triggered by, by name."
    )

    @property
    def memory_mb(self) -> int:
        return self.memory >> 20


class Metrics(Model):
    """Where the daemon is measured and asked whether it lives."""

    listen: Annotated[str | None, forms.address()] = Field(
        default=None,
        description="Address and port of /metrics, /livez, /readyz and /startupz: GET only, and "
        "without credentials. Without it: nothing listens, and nothing is counted for it.",
        examples=["127.0.0.1:9464"],
    )
    per_partition: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether lag, age and blocked lanes are told of each partition, and not of "
        "all of a trigger together.",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """None or one."""
        return () if self.listen is None else (self.listen,)


class Logs(Model):
    """Where the lines of functions and of the daemon go."""

    output: Annotated[
        Literal["auto", "stdout", "journal"], forms.choice("auto", "stdout", "journal")
    ] = Field(
        default="auto",
        description="stdout: lines of text, or of JSON with `run --json`. journal: entries of "
        "systemd's journal, with a field for each thing. auto: the journal where systemd says that "
        "stdout is it, else stdout.",
    )
    directory: Annotated[Path | None, forms.location("a directory")] = Field(
        default=None,
        description="Directory of a file for each function, <function>.log. Made if missing, "
        "readable only by the daemon's user. Without it: no files.",
        examples=["/var/log/streamfaas"],
    )
    max_size: Annotated[int, forms.size("64KB", "10GB")] = Field(
        default=10 << 20, description="Size from which on a file is put aside and begun anew."
    )
    keep: Annotated[int, forms.whole(0, 1_000)] = Field(
        default=5, description="Files of each function that were put aside; older ones go."
    )
    recent: Annotated[int, forms.size("0B", "64MB")] = Field(
        default=256 << 10,
        description="Memory for the last lines of each function, which `streamfaas logs` shows.",
    )


class Telemetry(Model):
    """What the daemon tells of itself."""

    logs: Logs = Field(default=Logs(), description="Where lines go.")
    metrics: Metrics = Field(default=Metrics(), description="Metrics and probes.")
    otlp: OtlpOrUrl = Field(
        default=None,
        description="Where traces, metrics and logs are sent by OTLP: the address of a collector, "
        "or the whole block. Without it: where OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere.",
        examples=["http://127.0.0.1:4318"],
    )
    traces: Traces = Field(default=Traces(), description="Traces; see `streamfaas explain traces`.")


class Config(Model):
    """A whole configuration. Once checked, every path is absolute and every default filled in."""

    version: Annotated[Literal[1], forms.version()] = Field(
        description="Version of this format: 1."
    )
    state: State = Field(default=State(), description="Where state is kept.")
    limits: Limits = Field(default=Limits(), description="What all functions together may use.")
    shutdown: Shutdown = Field(default=Shutdown(), description="How the daemon stops.")
    reload: Reload = Field(default=Reload(), description="When the configuration is read again.")
    telemetry: Telemetry = Field(
        default=Telemetry(), description="What the daemon tells of itself."
    )
    defaults: Defaults = Field(
        default=Defaults(), description="What a function gets that does not say otherwise."
    )
    connections: Named[Connection] = Field(
        default_factory=none, description="Where triggers connect to, by name."
    )
    functions: Named[Function] = Field(description="The functions, by name.")

    _file: Path = PrivateAttr(default=Path())
    _origins: Mapping[str, str] = PrivateAttr(default_factory=none)
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    def remember(
        self, file: Path, origins: Mapping[str, str], warnings: tuple[Problem, ...]
    ) -> None:
        """Takes what is known of where it came from, once, when it is made."""
        self._file, self._origins, self._warnings = file, origins, warnings

    @property
    def file(self) -> Path:
        """The file that it was read from."""
        return self._file

    @property
    def socket(self) -> Path:
        """Where its daemon takes commands."""
        return self.state.path / SOCKET_NAME

    @property
    def origins(self) -> Mapping[str, str]:
        """Where interpolated values came from: dotted path to `environment X`, `credential x` or
        `file x`."""
        return self._origins

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed, but should be looked at."""
        return self._warnings

    def masked(self) -> dict[str, Any]:
        """All of it as it would be written, with `***` for each secret, for what looks like one
        among the variables of functions, and for whatever came from a credential or a file."""
        hidden = {
            path
            for path, origin in self._origins.items()
            if not all(each.startswith("environment ") for each in origin.split(", "))
        }
        shown: dict[str, Any] = _written(self, (), hidden, None)
        return shown

    def mappings(self) -> Iterator[tuple[str, str, AnyTrigger]]:
        """All triggers of all functions, as function name, trigger name and trigger."""
        for function, spec in self.functions.items():
            for name, trigger in spec.triggers.items():
                yield function, name, trigger

    def destinations(self) -> Iterator[tuple[document.Path, AnyDestination]]:
        """All destinations of all functions, each with its path."""
        for name, function in self.functions.items():
            path = ("functions", name)
            yield from _destinations((*path, "asynchronous"), function.asynchronous)
            for key, trigger in function.triggers.items():
                yield from _destinations((*path, "triggers", key), trigger)


def _destinations(
    path: document.Path, block: Asynchronous | AnyTrigger
) -> Iterator[tuple[document.Path, AnyDestination]]:
    for role in ROLES:
        destination = getattr(block, role, None)
        if destination is not None:
            yield (*path, role), destination


def _written(value: Any, path: tuple[str, ...], hidden: set[str], form: Form | None) -> Any:
    """A value as it would stand in the file."""
    if (
        document.dotted(path) in hidden
        or isinstance(value, SecretStr | document.Hidden)
        or web.is_secret_header(path)
        or (path[2:3] == ("env",) and path[3:] and masking.looks_secret(path[3], value))
    ):
        return document.MASK
    match value:
        case BaseModel():
            return {
                name: _written(getattr(value, name), (*path, name), hidden, _form(field.metadata))
                for name, field in type(value).model_fields.items()
            }
        case Mapping():
            return {key: _written(each, (*path, key), hidden, None) for key, each in value.items()}
        case tuple() if form is None:
            return [_written(each, (*path, str(at)), hidden, None) for at, each in enumerate(value)]
        case None:
            return (form.word or None) if form is not None else None
        case bool() | int() | float() if form is None or not form.has_unit:
            return value
        case _:
            return str(value) if form is None else form.show(value)


def _form(metadata: Iterable[Any]) -> Form | None:
    return next((each for each in metadata if isinstance(each, Form)), None)

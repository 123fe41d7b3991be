"""The frozen models of a configuration: every key, with its default, limits and words of help."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, SecretStr

from streamfaas.config import document, forms
from streamfaas.config.delivery import (
    AnyDestination,
    Asynchronous,
    Batch,
    EventFilter,
    LogRetries,
    LogRetriesOrLambda,
    OnFailure,
    OnSuccess,
    Parallel,
    RecordFilter,
    Retries,
    RetriesOrLambda,
)
from streamfaas.config.forms import Form
from streamfaas.config.model import Model, Named, Words, none
from streamfaas.flow.errors import Problem

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
"""The one runtime there is: the Python that runs the daemon."""

LATER_MECHANISMS = ("GSSAPI", "AWS_MSK_IAM")
LATER_VIA = ("webhook", "listen", "poll", "kafka", "sqs")

S3_EVENTS = (
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
)

SOCKET_NAME = "streamfaas.sock"

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
        "the kernel (RLIMIT_DATA). Without it: only `memory` is watched.",
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


class Tls(Model):
    """Encryption, and the client's certificate. An empty block trusts the system's authorities."""

    ca: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="Certificates of the authorities to trust, a PEM file."
    )
    certificate: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="The client's certificate, a PEM file."
    )
    key: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="The key of the client's certificate, a PEM file."
    )
    password: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None, description="The password of the key.", examples=["${credential:kafka-key}"]
    )


class TokenEndpoint(Model):
    """Where tokens are fetched by OAuth 2.0 client credentials."""

    url: Annotated[
        str, forms.text("an http or https address", forms.URL_PATTERN, code="SF1057")
    ] = Field(description="Address of the token endpoint.")
    client_id: Annotated[str, forms.text("a client id")] = Field(description="The client's id.")
    client_secret: Annotated[SecretStr, forms.secret()] = Field(
        description="The client's secret.", examples=["${credential:kafka-oauth}"]
    )
    scope: Annotated[str | None, forms.text("a scope")] = Field(
        default=None, description="The scope to ask for."
    )


class Sasl(Model):
    """How the client says who it is."""

    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        forms.choice(
            "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", later=LATER_MECHANISMS
        ),
    ] = Field(description="The SASL mechanism.")
    username: Annotated[str | None, forms.text("a user name")] = Field(
        default=None, description="For PLAIN and SCRAM."
    )
    password: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None, description="For PLAIN and SCRAM.", examples=["${credential:kafka-password}"]
    )
    token_file: Annotated[Path | None, forms.location("a file")] = Field(
        default=None,
        description="For OAUTHBEARER: a file with the token, read anew for each connection.",
    )
    token_endpoint: TokenEndpoint | None = Field(
        default=None, description="For OAUTHBEARER: where to fetch the token."
    )


class KafkaConnection(Model):
    """A Kafka cluster."""

    type: Literal["kafka"]
    brokers: Annotated[
        tuple[Annotated[str, forms.broker()], ...], Field(min_length=1, max_length=100)
    ] = Field(description="Addresses to begin with.", examples=[["k1:9092", "k2:9092"]])
    tls: Tls | None = Field(default=None, description="Encryption; none without it.")
    sasl: Sasl | None = Field(default=None, description="Authentication; none without it.")


class KafkaTrigger(Model):
    """Records of Kafka topics, as Lambda's self-managed Kafka event."""

    type: Literal["kafka"]
    connection: Annotated[str, forms.name("connection")] = Field(
        description="Name of the connection."
    )
    topics: Annotated[
        tuple[Annotated[str, forms.text("a topic name", forms.TOPIC_PATTERN, code="SF1053")], ...],
        Field(max_length=1_000),
    ] = Field(default=(), description="Topics to read.", examples=[["orders.v1"]])
    pattern: Annotated[str | None, forms.regex()] = Field(
        default=None,
        description="In place of topics: a regular expression that matches whole topic names.",
        examples=[r"orders\..*"],
    )
    group: Annotated[str, forms.text("a group id of 1 to 200 characters", ".{1,200}")] = Field(
        default="", description="Consumer group. Without it: streamfaas.<function>.<trigger>."
    )
    start: Annotated[Literal["earliest", "latest"] | datetime, forms.start()] = Field(
        description="Where a partition begins that the group has no position for. There is no "
        "default: earliest may replay years, latest may skip what was just written.",
        examples=["latest", "2026-01-01T00:00:00Z"],
    )
    batch: Batch = Field(default=Batch(), description="When a batch is closed.")
    retries: LogRetriesOrLambda = Field(
        default=LogRetries(), description="What happens when the function fails."
    )
    partial_failures: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the function's answer may name the records that failed, as Lambda's "
        "ReportBatchItemFailures; then only those are tried again.",
    )
    parallel: Parallel = Field(
        default=Parallel(), description="How many batches run at the same time."
    )
    filter: RecordFilter = Field(
        default=(),
        description="Patterns of the records that are wanted, as Lambda's; one that matches is "
        "enough. Without it: all.",
        examples=[[{"value": {"status": ["paid"]}}]],
    )
    on_failure: OnFailure = Field(default=None)
    on_success: OnSuccess = Field(default=None)
    instance: Annotated[
        str | None,
        forms.text("an instance name of letters, digits, dots, - and _", "[A-Za-z0-9._-]{1,249}"),
    ] = Field(
        default=None,
        description="Static membership: a restart within session_timeout moves no partition. "
        "Must differ between daemons of one group.",
        examples=["node-1"],
    )
    isolation_level: Annotated[
        Literal["read_committed", "read_uncommitted"],
        forms.choice("read_committed", "read_uncommitted"),
    ] = Field(
        default="read_committed",
        description="Whether records of unfinished transactions are waited for or read.",
    )
    session_timeout: Annotated[float, forms.duration("6s", "30m")] = Field(
        default=30.0, description="After this long without a heartbeat the broker gives up on us."
    )
    rebalance_timeout: Annotated[float, forms.duration("6s", "1h")] = Field(
        default=45.0, description="How long batches in hand may take to finish in a rebalance."
    )
    fetch_bytes: Annotated[int, forms.size("1KB", "50MB")] = Field(
        default=256 << 10, description="Most bytes fetched from one partition at a time."
    )
    stall_after: Annotated[float, forms.duration("5s", "1h")] = Field(
        default=60.0,
        description="A client that brings nothing for so long, though there is something to "
        "bring, is replaced.",
    )


class DirectoryTrigger(Model):
    """Files of a directory, as S3 events."""

    type: Literal["object-store"]
    via: Annotated[Literal["directory"], forms.choice("directory", later=LATER_VIA)] = Field(
        description="How changes are noticed: directory watches a local one."
    )
    path: Annotated[Path, forms.location("a directory")] = Field(
        description="The directory to watch.", examples=["/srv/inbox"]
    )
    bucket: Annotated[
        str,
        forms.text(
            "a bucket name",
            forms.BUCKET_PATTERN,
            code="SF1055",
            hint="use 3 to 63 small letters, digits, dots and -",
        ),
    ] = Field(description="Name of the bucket that the function sees.", examples=["inbox"])
    prefix: Annotated[str, forms.free_text("the beginning of a key", 1_024)] = Field(
        default="", description="Only keys that begin so.", examples=["in/"]
    )
    suffix: Annotated[str, forms.free_text("the end of a key", 1_024)] = Field(
        default="", description="Only keys that end so.", examples=[".jpg"]
    )
    events: Annotated[
        tuple[Annotated[str, forms.choice(*S3_EVENTS)], ...], Field(min_length=1, max_length=16)
    ] = Field(default=("s3:ObjectCreated:*",), description="Which changes.")
    interval: Annotated[float, forms.duration("1s", "24h")] = Field(
        default=10.0, description="How often the directory is listed to find what was missed."
    )
    settle: Annotated[float, forms.duration("0s", "1h")] = Field(
        default=1.0, description="How long a file must be unchanged before it counts as written."
    )
    write: Annotated[bool, forms.flag()] = Field(
        default=False, description="Whether the function may write to the directory."
    )
    existing: Annotated[Literal["process", "ignore"], forms.choice("process", "ignore")] = Field(
        default="process", description="What to do with files that are there at the first start."
    )
    parallel: Annotated[int, forms.whole(1, 1_000)] = Field(
        default=10, description="Invocations at the same time."
    )
    retries: RetriesOrLambda = Field(
        default=Retries(), description="What happens when the function fails."
    )
    filter: EventFilter = Field(
        default=(),
        description="Patterns of the events that are wanted, as Lambda's; one that matches is "
        "enough. Without it: all.",
        examples=[[{"s3": {"object": {"key": [{"suffix": ".jpg"}]}}}]],
    )
    on_failure: OnFailure = Field(default=None)
    on_success: OnSuccess = Field(default=None)


class MemoryTrigger(Model):
    """A simulated stream, shaped like Kafka: for trying things and for tests."""

    type: Literal["memory"]
    topic: Annotated[str, forms.text("a topic name", forms.TOPIC_PATTERN, code="SF1053")] = Field(
        description="Name of the topic.", examples=["orders"]
    )
    partitions: Annotated[int, forms.whole(1, 1_000)] = Field(
        default=1, description="Partitions of the topic."
    )
    records: Annotated[int | None, forms.whole(0, 1_000_000_000, word="unlimited")] = Field(
        default=None, description="Records in all. Without it, or with unlimited: for ever."
    )
    rate: Annotated[float, forms.number(0.01, 1_000_000)] = Field(
        default=1.0, description="Records a second, over all partitions."
    )
    batch: Batch = Field(default=Batch(), description="When a batch is closed.")
    retries: LogRetriesOrLambda = Field(
        default=LogRetries(), description="What happens when the function fails."
    )
    partial_failures: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the function's answer may name the records that failed, as Lambda's "
        "ReportBatchItemFailures; then only those are tried again.",
    )
    parallel: Parallel = Field(
        default=Parallel(), description="How many batches run at the same time."
    )
    filter: RecordFilter = Field(
        default=(),
        description="Patterns of the records that are wanted, as Lambda's; one that matches is "
        "enough. Without it: all.",
        examples=[[{"value": {"status": ["paid"]}}]],
    )
    on_failure: OnFailure = Field(default=None)
    on_success: OnSuccess = Field(default=None)


AnyTrigger: TypeAlias = KafkaTrigger | DirectoryTrigger | MemoryTrigger
Trigger: TypeAlias = Annotated[AnyTrigger, Field(discriminator="type")]


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


class Logging(Model):
    """What is kept of a function's output."""

    platform: Annotated[Literal["all", "failures"], forms.choice("all", "failures")] = Field(
        default="all", description="START, END and REPORT lines: for all invocations, or failures."
    )
    max_output: Annotated[int, forms.size("1KB", "1GB")] = Field(
        default=1 << 20, description="Output kept of one invocation; the rest is counted."
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
    concurrency: Concurrency = Field(default=Concurrency(), description="How many workers.")
    isolation: IsolationOrMode = Field(
        default=Isolation(), description="enforce, best-effort, or the whole block."
    )
    logging: Logging = Field(default=Logging(), description="What is kept of the output.")
    asynchronous: Asynchronous = Field(
        default=Asynchronous(), description="What becomes of asynchronous invocations."
    )
    triggers: Named[Trigger] = Field(
        default_factory=none, description="What the function is triggered by, by name."
    )

    @property
    def memory_mb(self) -> int:
        return self.memory >> 20


class Config(Model):
    """A whole configuration. Once checked, every path is absolute and every default filled in."""

    version: Annotated[Literal[1], forms.version()] = Field(
        description="Version of this format: 1."
    )
    state: State = Field(default=State(), description="Where state is kept.")
    limits: Limits = Field(default=Limits(), description="What all functions together may use.")
    shutdown: Shutdown = Field(default=Shutdown(), description="How the daemon stops.")
    defaults: Defaults = Field(
        default=Defaults(), description="What a function gets that does not say otherwise."
    )
    connections: Named[KafkaConnection] = Field(
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
        """All of it as it would be written, with `***` for each secret and for whatever came from
        a credential or a file."""
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
        or forms.is_secret_header(path)
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

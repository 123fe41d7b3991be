"""Where traces, metrics and logs are sent, and how: the configuration, and before it what
OpenTelemetry's variables say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from streamfaas.telemetry.otlp.variables import Variables

SIGNALS = ("traces", "metrics", "logs")
HTTP, GRPC = "http/protobuf", "grpc"

ENDPOINTS: Mapping[str, str] = {HTTP: "http://localhost:4318", GRPC: "http://localhost:4317"}
"""Where a collector is, where nothing is said but that there is one."""

COMPRESSIONS: Mapping[str, tuple[str, ...]] = {
    HTTP: ("none", "gzip", "deflate"),
    GRPC: ("none", "gzip"),
}

TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS_MAX = 300.0
INTERVAL_SECONDS = 60.0

EXEMPLARS = "OTEL_METRICS_EXEMPLAR_FILTER"
"""always_on is as trace_based here: only what is kept can be looked at."""

ELSEWHERE: Mapping[str, str] = {
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
}
"""Variables of which one value can be followed."""

Environ: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the configuration says; `signals` is what may be sent at all."""

    endpoint: str | None = None
    protocol: str = HTTP
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: str = "none"
    timeout_seconds: float = TIMEOUT_SECONDS
    interval_seconds: float = INTERVAL_SECONDS
    signals: tuple[str, ...] = SIGNALS
    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where one signal is sent, and how. By gRPC, `insecure` is without TLS."""

    signal: str
    endpoint: str
    protocol: str
    headers: Mapping[str, str] = field(repr=False)
    compression: str
    timeout_seconds: float
    ca: str
    certificate: str
    key: str
    insecure: bool

    @property
    def shown(self) -> str:
        """The address without what may be a secret in it: a login, a query."""
        scheme, _, rest = self.endpoint.rpartition("://")
        place = rest.partition("?")[0].rpartition("@")[2]
        return f"{scheme}://{place}" if scheme else place


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait to be sent, how much of it is sent at once, and how long the first of it
    waits for more."""

    waiting_max: int
    batch_max: int
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it, by signal; nothing is sent of what has no target. `warnings` are lines about what
    could not be followed."""

    targets: Mapping[str, Target]
    bounds: Mapping[str, Bounds]
    interval_seconds: float
    exemplars: bool
    warnings: tuple[str, ...]


def settings(asked: Asked | None, environ: Environ) -> Settings:
    """What is to be done."""
    read = Variables(environ)
    targets: dict[str, Target] = {}
    if not read.flag("OTEL_SDK_DISABLED"):
        for signal in SIGNALS if asked is None else asked.signals:
            if (target := _target(signal, asked, read)) is not None:
                targets[signal] = target
    bounds = {signal: _bounds(signal, read) for signal in targets}
    interval = (asked or Asked()).interval_seconds
    if "metrics" in targets:
        interval = read.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", interval, 3_600.0)
    if targets:
        _look_at_what_is_not_read(asked, read)
    exemplars = read.one_of(EXEMPLARS, ("always_on", "always_off", "trace_based"), "trace_based")
    warnings = tuple(dict.fromkeys(read.warnings))
    return Settings(targets, bounds, interval, exemplars != "always_off", warnings)


def _target(signal: str, asked: Asked | None, read: Variables) -> Target | None:
    wanted = _exporter(signal, read)
    if wanted == "none":
        return None
    said = asked or Asked()
    protocol = read.word(signal, "PROTOCOL", (HTTP, GRPC), said.protocol)
    endpoint = _endpoint(signal, said, read, protocol)
    if not endpoint and wanted != "otlp":
        return None
    endpoint = endpoint or _below(ENDPOINTS[protocol], signal, protocol)
    given = read.of(signal, "HEADERS")
    return Target(
        signal=signal,
        endpoint=endpoint,
        protocol=protocol,
        headers=_headers(given, read, protocol) if given else dict(said.headers),
        compression=read.word(signal, "COMPRESSION", COMPRESSIONS[protocol], said.compression),
        timeout_seconds=_timeout(signal, said, read),
        ca=read.of(signal, "CERTIFICATE") or said.ca,
        certificate=read.of(signal, "CLIENT_CERTIFICATE") or said.certificate,
        key=read.of(signal, "CLIENT_KEY") or said.key,
        insecure=_is_insecure(endpoint, signal, read),
    )


def _exporter(signal: str, read: Variables) -> str:
    """`otlp`, `none`, or nothing where nothing is said."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    words = {word.strip().lower() for word in read.text(name).split(",")} - {""}
    if not words or "otlp" in words:
        return "otlp" if words else ""
    if words != {"none"}:
        read.warn(f"{name}: there is otlp and none here, and so it is none")
    return "none"


def _endpoint(signal: str, asked: Asked, read: Variables, protocol: str) -> str:
    """The whole address; of a signal of its own it is taken as it is."""
    own = read.text(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    for all_of_them, address in ((False, own), (True, read.of("", "ENDPOINT"))):
        if address and not _is_address(address, protocol):
            read.warn("an OTEL_EXPORTER_OTLP_…ENDPOINT is no address, and is not looked at")
        elif address:
            return _below(address, signal, protocol) if all_of_them else address
    return _below(asked.endpoint, signal, protocol) if asked.endpoint else ""


def _is_address(address: str, protocol: str) -> bool:
    try:
        parts = urlsplit(address if "://" in address else f"grpc://{address}")
        schemes = ("http", "https") if protocol == HTTP else ("http", "https", "grpc")
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _below(address: str, signal: str, protocol: str) -> str:
    return f"{address.rstrip('/')}/v1/{signal}" if protocol == HTTP else address


def _is_insecure(endpoint: str, signal: str, read: Variables) -> bool:
    scheme, there_is_one, _ = endpoint.partition("://")
    if there_is_one:
        return scheme == "http"
    return read.of(signal, "INSECURE").lower() == "true"


def _headers(text: str, read: Variables, protocol: str) -> dict[str, str]:
    """As W3C's baggage is written: `name=value,name=value`, with % for what has a meaning there."""
    found = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = (each.strip() for each in part.partition("="))
        said = unquote(value)
        fit = _HEADER[protocol].fullmatch(name.lower()) and said == said.strip()
        if not (equals and fit and said.isascii() and said.isprintable()):
            read.warn("one of the OTEL_EXPORTER_OTLP_…HEADERS is no name=value, and is left out")
            continue
        found[name.lower()] = said
    return found


_HEADER = {
    HTTP: re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,256}", re.ASCII),
    GRPC: re.compile(r"[a-z0-9_.-]{1,256}(?<!-bin)", re.ASCII),
}
"""Names that can be sent: with any other, nothing at all could be."""


def _timeout(signal: str, asked: Asked, read: Variables) -> float:
    """In seconds, as OpenTelemetry's Python has it; bounded by what a batch as a whole may take."""
    seconds = read.seconds(signal, "TIMEOUT", asked.timeout_seconds, TIMEOUT_SECONDS_MAX)
    whole = {"metrics": "OTEL_METRIC_EXPORT_TIMEOUT"}.get(signal, _queue(signal, "EXPORT_TIMEOUT"))
    return min(seconds, read.milliseconds(whole, TIMEOUT_SECONDS_MAX, TIMEOUT_SECONDS_MAX))


def _queue(signal: str, name: str) -> str:
    return f"OTEL_{'BSP' if signal == 'traces' else 'BLRP'}_{name}"


def _bounds(signal: str, read: Variables) -> Bounds:
    if signal == "metrics":  # each export has all of them: one is sent while the next may wait
        return Bounds(waiting_max=1, batch_max=1, delay_seconds=0.0)
    delay = read.milliseconds(
        _queue(signal, "SCHEDULE_DELAY"), 5.0 if signal == "traces" else 1.0, 600.0
    )
    waiting = read.whole(_queue(signal, "MAX_QUEUE_SIZE"), 2_048, 1_000_000)
    batch = read.whole(_queue(signal, "MAX_EXPORT_BATCH_SIZE"), min(512, waiting), 100_000)
    return Bounds(waiting, min(batch, waiting), delay)


def _look_at_what_is_not_read(asked: Asked | None, read: Variables) -> None:
    if read.text("OTEL_CONFIG_FILE"):
        block = "the telemetry block" if asked is not None else "the other variables"
        read.warn(f"OTEL_CONFIG_FILE is not read here: what is sent follows from {block}")
    for part in filter(str.strip, read.text("OTEL_RESOURCE_ATTRIBUTES").split(",")):
        if "=" not in part:
            read.warn("one of the OTEL_RESOURCE_ATTRIBUTES is no name=value, and is left out")
    for name, one in ELSEWHERE.items():
        if read.text(name).lower() not in ("", one):
            read.warn(f"{name}: there is only {one} here")


def hint(target: Target) -> str:
    """What may be meant where nothing answers as it should; or nothing."""
    port = urlsplit(target.endpoint if "://" in target.endpoint else f"//{target.endpoint}").port
    usual = {(HTTP, 4317): (GRPC, 4318), (GRPC, 4318): (HTTP, 4317)}.get(
        (target.protocol, port or 0)
    )
    if usual is None:
        return ""
    other, right = usual
    return f"port {port} is usually for {other}; {target.protocol} has {right}"

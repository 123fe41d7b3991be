"""What sends one signal: the SDK's exporter, and an ear for what the collector says."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from streamfaas.telemetry.otlp.hearing import Ear, open_session
from streamfaas.telemetry.otlp.outlet import Sent
from streamfaas.telemetry.otlp.settings import GRPC, Target

Made: TypeAlias = Callable[[list[Any]], Any]
"""Makes what an exporter takes of what waited."""

EXPORTERS: dict[str, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}

NOISY = ("opentelemetry", "urllib3", "requests", "grpc")
"""Loggers that would tell of each failure, each in words of their own."""


class Sender:
    """Sends what was made of a batch, and says what became of it."""

    def __init__(self, target: Target, make: Made) -> None:
        self._make = make
        self._target = target
        self._ear = Ear(target.signal)
        self._exporter = _grpc(target) if target.protocol == GRPC else _http(target, self._ear)

    def send(self, items: list[Any]) -> Sent:
        """By a thread of its own: it may take as long as the target's timeout."""
        made = self._make(items)
        size = len(made) if isinstance(made, Sequence) else len(items)
        ear = self._ear
        ear.forget()
        said = WHISPERS.heard()  # what was said before is not about this
        result = self._exporter.export(made)
        said = WHISPERS.heard()
        if ear.rejected and not ear.reason:
            return Sent(min(ear.rejected, size), ear.partial, ear.pause_seconds)
        if result.name == "SUCCESS" and not ear.reason:
            return Sent()
        return Sent(size, ear.reason or said or "nothing is known of why", ear.pause_seconds)

    def close(self) -> None:
        """Ends what is being tried again, and every connection."""
        self._exporter.shutdown()


class Whispers(logging.Handler):
    """Keeps the last thing that the SDK said in each thread, instead of its being written out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self._said[threading.get_ident()] = record.getMessage().split("\n")[0][:300]

    def heard(self) -> str:
        """What was said in this thread since it was asked last."""
        return self._said.pop(threading.get_ident(), "")


WHISPERS = Whispers()


def hush() -> None:
    """From here on nothing of the SDK is written to the daemon's output."""
    for name in NOISY:
        logger = logging.getLogger(name)
        logger.propagate = False
        if WHISPERS not in logger.handlers:
            logger.addHandler(WHISPERS)


def _http(target: Target, ear: Ear) -> Any:
    compression = importlib.import_module("opentelemetry.exporter.otlp.proto.http").Compression
    return _exporter("http", target)(
        endpoint=target.endpoint,
        certificate_file=target.ca or None,
        client_key_file=target.key or None,
        client_certificate_file=target.certificate or None,
        headers=dict(target.headers),
        timeout=target.timeout_seconds,
        compression=compression(target.compression),
        session=open_session(ear, target.ca),
    )


def _grpc(target: Target) -> Any:
    grpc = importlib.import_module("grpc")
    credentials = None
    if not target.insecure:
        credentials = grpc.ssl_channel_credentials(
            *(_read(each) for each in (target.ca, target.key, target.certificate))
        )
    return _exporter("grpc", target)(
        endpoint=target.endpoint,
        insecure=target.insecure,
        credentials=credentials,
        headers=tuple((name.lower(), text) for name, text in target.headers.items()),
        timeout=target.timeout_seconds,
        compression=grpc.Compression.Gzip if target.compression == "gzip" else None,
    )


def _exporter(by: str, target: Target) -> Any:
    module, name = EXPORTERS[target.signal]
    return getattr(
        importlib.import_module(f"opentelemetry.exporter.otlp.proto.{by}.{module}"), name
    )


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None

"""Rules of what is told to whom."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from importlib.util import find_spec

from streamfaas.config.otlp import Otlp
from streamfaas.config.rules.case import (
    Case,
    authority,
    is_loopback,
    not_a_directory,
    readable,
)
from streamfaas.flow.errors import Problem


def _listens_to_all(case: Case) -> Iterator[Problem]:
    address = case.config.telemetry.metrics.listen
    if address is not None and not is_loopback(address):
        yield case.tell(
            "SF1098",
            ("telemetry", "metrics", "listen"),
            f"whoever reaches {address} reads metrics and probes: there are no credentials",
            "listen on 127.0.0.1, or let a firewall say who may",
            warning=True,
        )


def _collector(case: Case) -> Iterator[Problem]:
    otlp = case.config.telemetry.otlp
    if otlp is None:
        return
    path = ("telemetry", "otlp")
    for name in ("ca", "certificate", "key"):
        yield from readable(case, (*path, name), getattr(otlp, name))
    yield from authority(case, (*path, "ca"), otlp.ca)
    if otlp.key is not None and otlp.certificate is None:
        yield case.tell("SF1075", (*path, "key"), "there is a key but no certificate")
    if otlp.protocol == "grpc" and find_spec("opentelemetry.exporter.otlp.proto.grpc") is None:
        message = "what gRPC needs is not installed"
        yield case.tell("SF1087", (*path, "protocol"), message, "pip install 'streamfaas[grpc]'")
    yield from _in_the_clear(case, otlp)


def _in_the_clear(case: Case, otlp: Otlp) -> Iterator[Problem]:
    address = otlp.endpoint or ""
    host = address.removeprefix("http://").split("/")[0]
    if otlp.headers and address.startswith("http://") and not is_loopback(host):
        message = "the headers for the collector cross the network in the clear"
        path = ("telemetry", "otlp", "endpoint")
        yield case.tell("SF1091", path, message, "use https", warning=True)


def _log_files(case: Case) -> Iterator[Problem]:
    directory = case.config.telemetry.logs.directory
    if directory is None or not directory.exists():
        return
    path = ("telemetry", "logs", "directory")
    wrong = not_a_directory(directory)
    if wrong:
        yield case.tell("SF1107", path, f"{directory} {wrong}", "give a directory, or none yet")
    elif directory.stat().st_mode & stat.S_IWOTH:
        message = f"{directory} may be written by everybody, who could put other files there"
        yield case.tell("SF1107", path, message, f"chmod o-w {directory}", warning=True)


RULES = (_listens_to_all, _collector, _log_files)

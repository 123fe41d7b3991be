"""Rules of destinations: what they name is there, and what they say is not overheard."""

from __future__ import annotations

from collections.abc import Iterator

from streamfaas.config.delivery import FunctionDestination, HttpDestination, KafkaDestination
from streamfaas.config.rules.case import Case, authority, connected, is_loopback, missing, readable
from streamfaas.flow.errors import Problem


def _named(case: Case) -> Iterator[Problem]:
    functions, connections = [], []
    for path, destination in case.config.destinations():
        if isinstance(destination, FunctionDestination):
            functions.append(((*path, "function"), destination.function))
        elif isinstance(destination, KafkaDestination):
            connections.append(((*path, "connection"), destination.connection))
    yield from missing(case, "functions", functions)
    yield from connected(case, "kafka", connections)


def _addresses(case: Case) -> Iterator[Problem]:
    for path, destination in case.config.destinations():
        if not isinstance(destination, HttpDestination):
            continue
        yield from readable(case, (*path, "ca"), destination.ca)
        yield from authority(case, (*path, "ca"), destination.ca)
        first: dict[str, str] = {}
        for name in destination.headers:
            known = first.setdefault(name.lower(), name)
            if known != name:
                message = f"{name} and {known} are the same header"
                yield case.tell("SF1077", (*path, "headers", name), message, key=True)
        if destination.url.startswith("http://"):
            host = destination.url.removeprefix("http://").split("/")[0]
            if not is_loopback(host):
                message = "records cross the network in the clear"
                yield case.tell("SF1091", (*path, "url"), message, "use https", warning=True)


RULES = (_named, _addresses)

"""Rules of destinations: what they name is there, and what they say is not overheard."""

from __future__ import annotations

from collections.abc import Iterator

from streamfaas.config.delivery import (
    FunctionDestination,
    HttpDestination,
    KafkaDestination,
    S3Destination,
    SnsDestination,
    SqsDestination,
)
from streamfaas.config.rules.case import Case, authority, connected, is_loopback, missing, readable
from streamfaas.flow.errors import Problem


def _named(case: Case) -> Iterator[Problem]:
    functions, clusters, services = [], [], []
    for path, destination in case.config.destinations():
        if isinstance(destination, FunctionDestination):
            functions.append(((*path, "function"), destination.function))
        elif isinstance(destination, KafkaDestination):
            clusters.append(((*path, "connection"), destination.connection))
        elif isinstance(destination, (SqsDestination, SnsDestination, S3Destination)):
            services.append(((*path, "connection"), destination.connection))
    yield from missing(case, "functions", functions)
    yield from connected(case, "kafka", clusters)
    yield from connected(case, "aws", services)


def _takers(case: Case) -> Iterator[Problem]:
    """Queues, topics and buckets that Lambda would not send to either."""
    for path, destination in case.config.destinations():
        match destination:
            case SqsDestination(queue=name) if name.endswith(".fifo"):
                message = "letters have no group that a FIFO queue could order them by"
                yield case.tell("SF1121", (*path, "queue"), message, "name a standard queue")
            case SnsDestination(topic=name) if name.endswith(".fifo"):
                message = "letters have no group that a FIFO topic could order them by"
                yield case.tell("SF1121", (*path, "topic"), message, "name a standard topic")
            case S3Destination() if path[-1] == "dead_letter":
                message = "an event alone has no place of its own in a bucket"
                hint = "write on_failure, whose documents have one"
                yield case.tell("SF1121", (*path, "type"), message, hint)
            case _:
                pass


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


RULES = (_named, _takers, _addresses)

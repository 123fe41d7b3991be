"""Rules of the ways that records take: nothing may come back to the function that sent it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from streamfaas.config import document
from streamfaas.config.connections import AwsConnection
from streamfaas.config.delivery import (
    FunctionDestination,
    KafkaDestination,
    S3Destination,
    SqsDestination,
)
from streamfaas.config.object_stores import ObjectStoreTrigger
from streamfaas.config.rules.case import Case, clusters, of_kind
from streamfaas.config.spec import Config
from streamfaas.config.triggers import KafkaTrigger, SqsTrigger
from streamfaas.flow.errors import Problem

MATCHES_MAX = 200_000
"""Topics that are held against patterns: more would take seconds."""

NAMED_MAX = 50
"""Names of one circle that a message has room for."""

Topic: TypeAlias = tuple[str, str]  # its cluster, its name; queues and buckets count as such
Node: TypeAlias = str | Topic  # a function, or a topic

QUEUES = "queues of "
"""What the service of a queue begins with, in place of a cluster."""

BUCKETS = "buckets of "
"""And that of a bucket."""

LETTERS = "aws/lambda/"
"""What the key of a letter begins with; it ends with hexadecimal digits."""


@dataclass(slots=True)
class _Readers:
    """Which functions read the topics that are written to, each by which trigger."""

    written: Mapping[str, Sequence[str]]  # topics in order, by cluster
    triggers: dict[Topic, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    matches: int = 0

    def add(self, topic: Topic, function: str, trigger: str) -> None:
        self.triggers[topic].setdefault(function, f"{function}/{trigger}")

    def candidates(self, cluster: str, pattern: str) -> Iterator[str]:
        """The topics that begin as every match of a pattern does."""
        topics, begin = self.written.get(cluster, ()), _beginning(pattern)
        for at in range(bisect_left(topics, begin), len(topics)):
            if not topics[at].startswith(begin) or self.matches >= MATCHES_MAX:
                return
            self.matches += 1
            yield topics[at]


def _circles(case: Case) -> Iterator[Problem]:
    sent = list(_sent(case.config))
    readers = _Readers(_written(node for _, _, node in sent))
    yield from _read(case, readers)
    ways: dict[Node, dict[Node, document.Path]] = defaultdict(dict)
    for path, sender, node in sent:
        own = _own(readers, sender, node)
        if own:
            yield case.tell("SF1082", path, own, "send it elsewhere")
        else:
            ways[sender].setdefault(node, path)
    for topic, functions in readers.triggers.items():
        ways[topic] = dict.fromkeys(functions, ())
    for circle in _found(ways):
        path = ways[circle[0]][circle[1]]
        message = f"what goes there comes back: {_shown(circle)}"
        yield case.tell("SF1083", path, message, "let one of them send elsewhere")


def _sent(config: Config) -> Iterator[tuple[document.Path, str, Node]]:
    """Destinations that may lead on: their paths, the functions that send, and what to."""
    known = clusters(config)
    for path, destination in config.destinations():
        match destination:
            case FunctionDestination(function=function):
                yield (*path, "function"), str(path[1]), function
            case KafkaDestination(connection=connection, topic=topic) if connection in known:
                yield (*path, "topic"), str(path[1]), (known[connection], topic)
            case SqsDestination(connection=connection, queue=queue):
                yield (*path, "queue"), str(path[1]), _queue(config, connection, queue)
            case S3Destination(connection=connection, bucket=bucket):
                yield (*path, "bucket"), str(path[1]), _bucket(config, connection, bucket)
            case _:
                pass  # a file's reader is no trigger of ours: see SF1072


def _queue(config: Config, connection: str, queue: str) -> Topic:
    """A queue, however it is named."""
    service = config.connections.get(connection)
    place = (service.endpoint_url or service.region) if isinstance(service, AwsConnection) else ""
    return QUEUES + place, re.split("[:/]", queue)[-1]


def _bucket(config: Config, connection: str, bucket: str) -> Topic:
    """A bucket of a store; those of AWS are in one place, whatever their region."""
    store = config.connections.get(connection)
    place = (store.endpoint_url or "AWS") if isinstance(store, AwsConnection) else connection
    return BUCKETS + place, bucket


def _hears_of_letters(trigger: ObjectStoreTrigger) -> bool:
    """Whether each letter that is put into its bucket is an event of it."""
    begins = LETTERS.startswith(trigger.prefix)
    created = any(event.startswith(("s3:*", "s3:ObjectCreated")) for event in trigger.events)
    return begins and created and re.fullmatch("[0-9a-f-]*", trigger.suffix) is not None


def _written(nodes: Iterator[Node]) -> dict[str, list[str]]:
    topics: dict[str, set[str]] = defaultdict(set)
    for node in nodes:
        if isinstance(node, tuple):
            topics[node[0]].add(node[1])
    return {cluster: sorted(names) for cluster, names in topics.items()}


def _read(case: Case, readers: _Readers) -> Iterator[Problem]:
    """Fills in who reads what is written."""
    known = clusters(case.config)
    written = {(cluster, topic) for cluster, topics in readers.written.items() for topic in topics}
    for (_, function, _, name), node in _services_read(case.config):
        if node in written:
            readers.add(node, str(function), str(name))
    for path, trigger in of_kind(case.config, KafkaTrigger):
        cluster, (_, function, _, name) = known.get(trigger.connection, ""), map(str, path)
        for topic in trigger.topics:
            if (cluster, topic) in written:
                readers.add((cluster, topic), function, name)
        if trigger.pattern is not None:
            for topic in readers.candidates(cluster, trigger.pattern):
                if re.fullmatch(trigger.pattern, topic):
                    readers.add((cluster, topic), function, name)
    if readers.matches >= MATCHES_MAX:
        message = "there are too many patterns to tell whether one of them reads a destination"
        yield case.tell("SF1092", ("functions",), message, key=True, warning=True)


def _services_read(config: Config) -> Iterator[tuple[document.Path, Topic]]:
    """What triggers read of AWS and what is like it: queues, and buckets that letters may be in."""
    for path, queue in of_kind(config, SqsTrigger):
        yield path, _queue(config, queue.connection, queue.queue)
    for path, objects in of_kind(config, ObjectStoreTrigger):
        stores = {getattr(objects, name, None) for name in ("connection", "store")} - {None}
        for store, bucket in product(stores, objects.bucket):
            if _hears_of_letters(objects):
                yield path, _bucket(config, str(store), bucket)


def _own(readers: _Readers, sender: str, node: Node) -> str:
    """Why a destination is the sender's own source, or nothing."""
    if node == sender:
        return f"{sender} would be its own destination"
    reader = readers.triggers[node].get(sender) if node in readers.triggers else None
    return f"{reader} reads this {_kind(node)}: what goes there comes back" if reader else ""


def _found(ways: Mapping[Node, Mapping[Node, document.Path]]) -> Iterator[list[Node]]:
    """Circles, each begun and ended by the function whose destination closes it. One that goes by
    where another was found is left for when that is mended."""
    done: set[Node] = set()
    told: set[Node] = set()
    for start in ways:
        walk = {start: iter(ways[start])} if start not in done else {}
        while walk:
            here = next(reversed(walk))
            for node in walk[here]:
                if node in walk and not {node, here} & told:
                    circle = list(walk)
                    circle = circle[circle.index(node) :]
                    told.update(circle)
                    yield _turned(circle)
                elif node not in walk and node not in done:
                    walk[node] = iter(ways.get(node, ()))
                    break
            else:
                done.add(here)
                del walk[here]


def _turned(circle: list[Node]) -> list[Node]:
    """A circle that begins and ends with the last function in it."""
    last = -1 if isinstance(circle[-1], str) else -2
    return [*circle[last:], *circle[:last], circle[last]]


def _shown(circle: Sequence[Node]) -> str:
    names = [node if isinstance(node, str) else f"the {_kind(node)} {node[1]}" for node in circle]
    if len(names) > NAMED_MAX:
        names[NAMED_MAX - 1 : -1] = [f"… {len(names) - NAMED_MAX:,} more …"]
    return " → ".join(names)


def _kind(node: Node) -> str:
    if node[0].startswith(BUCKETS):
        return "bucket"
    return "queue" if node[0].startswith(QUEUES) else "topic"


_LITERAL = re.compile(r"(?:[A-Za-z0-9_-]|\\[.-])+(?![?*{])", re.ASCII)


def _beginning(pattern: str) -> str:
    """The text that every match of a pattern begins with, as far as that is plain to see."""
    found = _LITERAL.match(pattern) if "|" not in pattern else None
    return found[0].replace("\\", "") if found else ""


RULES = (_circles,)

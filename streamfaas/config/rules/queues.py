"""Rules of SQS queues: where each is, who reads it, and what is lost with what fails."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from streamfaas.config import document
from streamfaas.config.connections import AwsConnection
from streamfaas.config.delivery import SqsDestination
from streamfaas.config.object_stores import ObjectQueueTrigger
from streamfaas.config.rules.case import Case, of_kind
from streamfaas.config.triggers import SqsTrigger
from streamfaas.flow.errors import Problem

_HOST = re.compile(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com")


def _regions(case: Case) -> Iterator[Problem]:
    """Only the name of a queue is asked for: in another region it would be another queue."""
    named = list(_readers(case))
    named += [
        ((*path, "queue"), each.connection, each.queue)
        for path, each in case.config.destinations()
        if isinstance(each, SqsDestination)
    ]
    for path, name, queue in named:
        connection, region = case.config.connections.get(name), _region(queue)
        if isinstance(connection, AwsConnection) and region not in {"", connection.region}:
            message = f"the queue is in {region}, and the connection {name} goes to "
            hint = f"name a connection with region: {region}"
            yield case.tell("SF1113", path, message + connection.region, hint)


def _shared(case: Case) -> Iterator[Problem]:
    """However they name it."""
    known: dict[tuple[str, str], list[tuple[str, document.Path]]] = defaultdict(list)
    for path, name, queue in _readers(case):
        connection = case.config.connections.get(name)
        if not isinstance(connection, AwsConnection):
            continue
        *_, account, short = re.split("[:/]", f"::{queue}")
        readers = known[connection.endpoint_url or connection.region, short]
        other = next(
            (at for owner, at in readers if "" in {owner, account} or owner == account), ()
        )
        readers.append((account, path))
        if other:
            yield case.tell(
                "SF1068",
                path,
                f"{other[1]}/{other[3]} reads the same queue: each would get a part of it",
                "give each a queue of its own, and let the store or a topic send to both",
            )


def _neighbours(case: Case) -> Iterator[Problem]:
    """What failed once comes apart from its neighbours; without another try nothing does."""
    for path, trigger in of_kind(case.config, SqsTrigger):
        if trigger.retries.max == 0 and trigger.batch.size > 1 and not trigger.partial_failures:
            yield case.tell(
                "SF1114",
                (*path, "retries", "max"),
                "one message that fails takes all of its batch along",
                "retries: {max: 3}, partial_failures: true, or batch: {size: 1}",
                warning=True,
            )


def _readers(case: Case) -> Iterator[tuple[document.Path, str, str]]:
    """Triggers that read queues: where that is written, the connection and the queue."""
    for path, plain in of_kind(case.config, SqsTrigger):
        yield (*path, "queue"), plain.connection, plain.queue
    for path, stored in of_kind(case.config, ObjectQueueTrigger):
        yield (*path, "queue"), stored.connection, stored.queue


def _region(queue: str) -> str:
    """Where it names one."""
    if queue.startswith("arn:"):
        return queue.split(":")[3]
    found = _HOST.match(queue)
    return found.group(1) if found else ""


RULES = (_regions, _shared, _neighbours)

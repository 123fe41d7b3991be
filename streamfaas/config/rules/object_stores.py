"""Rules of triggers on object stores: that no two want the same, and that none triggers itself."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from streamfaas.config import document
from streamfaas.config.delivery import FileDestination
from streamfaas.config.object_stores import (
    DirectoryTrigger,
    ObjectPollTrigger,
    ObjectQueueTrigger,
    ObjectStoreTrigger,
    ObjectStreamTrigger,
    ObjectTopicTrigger,
    ObjectWebhookTrigger,
    listed_by,
)
from streamfaas.config.rules.case import (
    Case,
    connected,
    is_loopback,
    not_a_directory,
    of_kind,
    resolved,
)
from streamfaas.flow.errors import Problem

SHARERS_MAX = 100
"""Triggers on one directory."""


def _carriers(case: Case) -> Iterator[Problem]:
    queues = of_kind(case.config, ObjectQueueTrigger)
    topics = of_kind(case.config, ObjectTopicTrigger)
    for kind, named in (("aws", queues), ("kafka", topics)):
        yield from connected(
            case, kind, (((*path, "connection"), each.connection) for path, each in named)
        )


def _listings(case: Case) -> Iterator[Problem]:
    """Where a bucket is listed, and by what connection."""
    polled = of_kind(case.config, ObjectPollTrigger)
    named = [((*path, "connection"), each.connection) for path, each in polled]
    streams = of_kind(case.config, ObjectStreamTrigger)
    named += [((*path, "connection"), each.connection) for path, each in streams]
    for path, trigger in of_kind(case.config, ObjectStoreTrigger):
        if not isinstance(trigger, ObjectQueueTrigger | ObjectTopicTrigger | ObjectWebhookTrigger):
            continue
        if trigger.store is not None:
            named.append(((*path, "store"), trigger.store))
        if trigger.reconcile is None and trigger.store is not None:
            message = "the store is asked for nothing: there is no reconcile"
            yield case.tell("SF1078", (*path, "store"), message, "add reconcile: 10m", key=True)
        if trigger.reconcile is not None and listed_by(trigger) is None:
            message = "reconcile lists the bucket, and there is no connection to its store"
            yield case.tell("SF1067", (*path, "reconcile"), message, "add store: NAME", key=True)
    yield from connected(case, "aws", named)


def _webhooks(case: Case) -> Iterator[Problem]:
    """Each path is one trigger's, and who may post is said."""
    holders: dict[tuple[str, str], document.Path] = {}
    ports: dict[str, dict[str, document.Path]] = defaultdict(dict)
    metrics = case.config.telemetry.metrics.listen
    for path, trigger in of_kind(case.config, ObjectWebhookTrigger):
        if metrics is not None and _same_port(trigger.listen, metrics):
            message = f"{metrics} is where metrics are given"
            yield case.tell("SF1108", (*path, "listen"), message, "choose another port")
        known = ports[trigger.listen.rpartition(":")[2]]
        for address, first in known.items():
            if address != trigger.listen and _same_port(trigger.listen, address):
                message = f"{first[1]}/{first[3]} listens on {address}, which has the same port"
                hint = f"write {address} here too, or choose another port"
                yield case.tell("SF1108", (*path, "listen"), message, hint)
                break
        else:
            known.setdefault(trigger.listen, path)
        other = holders.setdefault((trigger.listen, trigger.path), path)
        if other != path:
            message = f"{other[1]}/{other[3]} has the same address and path"
            yield case.tell("SF1108", (*path, "path"), message, "give each a path of its own")
        if trigger.secret is None and not is_loopback(trigger.listen):
            yield case.tell(
                "SF1098",
                (*path, "listen"),
                f"whoever reaches {trigger.listen} can post what never happened: there is no "
                "secret",
                "add secret: ${credential:NAME}, or listen on 127.0.0.1",
                warning=True,
            )


def _same_port(one: str, other: str) -> bool:
    """Whether who listens on the one keeps others from the other, however they are written."""
    (host, _, port), (other_host, _, other_port) = (
        each.replace("localhost", "127.0.0.1").rpartition(":") for each in (one, other)
    )
    if int(port) != int(other_port):
        return False
    first, second = ip_address(host.strip("[]")), ip_address(other_host.strip("[]"))
    widest = max(first, second, key=lambda each: (each.is_unspecified, each.version))
    # [::] takes those of IPv4 too
    alike = first.version == second.version or widest.version == 6
    return first == second or (alike and widest.is_unspecified)


def _directories(case: Case) -> Iterator[Problem]:
    sharers: dict[tuple[Path, str], list[tuple[document.Path, DirectoryTrigger]]]
    sharers = defaultdict(list)
    for path, trigger in of_kind(case.config, DirectoryTrigger):
        wrong = not_a_directory(trigger.path)
        if wrong:
            hint = f"make it: mkdir -p {shlex.quote(str(trigger.path))}"
            message = f"{trigger.path} {wrong}: the trigger waits until it is there"
            yield case.tell("SF1076", (*path, "path"), message, hint, warning=True)
        if trigger.write and not trigger.prefix:
            yield case.tell(
                "SF1094",
                (*path, "write"),
                "what the function writes there triggers it again, for ever",
                "add a prefix, as in prefix: in/, and write elsewhere",
                warning=True,
            )
        yield from _overlaps(case, path, trigger, sharers[resolved(trigger.path), trigger.bucket])


def _overlaps(
    case: Case,
    path: document.Path,
    trigger: DirectoryTrigger,
    others: list[tuple[document.Path, DirectoryTrigger]],
) -> Iterator[Problem]:
    """As on S3: no two triggers of one bucket may want the same event."""
    for there, other in others:
        if (
            (trigger.prefix.startswith(other.prefix) or other.prefix.startswith(trigger.prefix))
            and (trigger.suffix.endswith(other.suffix) or other.suffix.endswith(trigger.suffix))
            and _share_an_event(trigger.events, other.events)
        ):
            yield case.tell(
                "SF1069",
                path,
                f"{there[1]}/{there[3]} wants the same events of the same bucket",
                "set them apart by prefix, suffix or bucket",
                key=True,
            )
            break
    if len(others) >= SHARERS_MAX:
        message = f"over {SHARERS_MAX} triggers watch the same directory"
        yield case.tell("SF1069", path, message, key=True)
    else:
        others.append((path, trigger))


def _share_an_event(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    return any(
        mine == other
        or (mine.endswith("*") and other.startswith(mine[:-1]))
        or (other.endswith("*") and mine.startswith(other[:-1]))
        for mine in ours
        for other in theirs
    )


def _loops(case: Case) -> Iterator[Problem]:
    """Nothing that we write ourselves may lie where a trigger would see it."""
    watched: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for path, trigger in of_kind(case.config, DirectoryTrigger):
        watched[resolved(trigger.path)].append((f"{path[1]}/{path[3]}", trigger.prefix))
    if not watched:
        return
    ours: list[tuple[document.Path, Path]] = [(("state", "path"), case.config.state.path)]
    for path, destination in case.config.destinations():
        if isinstance(destination, FileDestination):
            ours.append(((*path, "path"), destination.path))
    for written_at, written in ours:
        real = resolved(written)
        for parent in (real, *real.parents):
            for name, prefix in watched.get(parent, ())[:SHARERS_MAX]:
                if str(real.relative_to(parent)).startswith(prefix) or parent == real:
                    message = f"{written} lies where {name} watches: it would trigger itself"
                    yield case.tell("SF1072", written_at, message, "put it elsewhere")
                    break


RULES = (_carriers, _listings, _webhooks, _directories, _loops)

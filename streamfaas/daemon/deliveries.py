"""The destinations of one configuration: each built once, opened before the lanes, closed after."""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any, cast, overload

import anyio

from streamfaas.config.connections import AnyConnection
from streamfaas.config.delivery import (
    AnyDestination,
    FileDestination,
    FunctionDestination,
    HttpDestination,
    KafkaDestination,
    S3Destination,
    SnsDestination,
    SqsDestination,
)
from streamfaas.config.diff import RENEWED
from streamfaas.daemon.access import (
    access_of,
    kafka_connection,
    revealed,
    sasl_options,
    tls_options,
)
from streamfaas.destinations import KINDS, Destination
from streamfaas.destinations.function import Accept
from streamfaas.flow.errors import WorldError
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit

OPEN_SECONDS = 10.0
"""How long the lanes wait for destinations to be reached. A letter is tried again in any case."""

CLOSE_SECONDS = 5.0


class Destinations:
    """What several triggers send to is one: one connection, and one file that is written in turn.
    Nothing is opened before `open`, and whoever is asked for later opens by itself."""

    def __init__(
        self, connections: Mapping[str, AnyConnection], accept: Accept, emit: Emit
    ) -> None:
        self._connections = connections
        self._accept = accept
        self._emit = emit
        self._built: dict[tuple[str, Hashable], Destination] = {}
        self._before: dict[tuple[str, Hashable], Destination] = {}
        self._new: list[Destination] = []  # to be opened

    def __len__(self) -> int:
        return len(self._built)

    def successor(
        self, connections: Mapping[str, AnyConnection], renewed: Collection[Path]
    ) -> Destinations:
        """Those of the next configuration. What that asks for in the same words is the same one as
        here; but not where a file of its certificates holds something else by now."""
        made = Destinations(connections, self._accept, self._emit)
        made._before = {
            key: each for key, each in self._built.items() if not _is_renewed(key[1], renewed)
        }
        return made

    async def retire(self, other: Destinations) -> None:
        """Closes what the other has not taken over, or has not given."""
        kept = set(map(id, other._built.values()))
        self._built = {key: each for key, each in self._built.items() if id(each) not in kept}
        await self.close()

    @overload
    def of(self, asked: None) -> None: ...
    @overload
    def of(self, asked: AnyDestination) -> Destination: ...
    def of(self, asked: AnyDestination | None) -> Destination | None:
        """The destination that a configuration asks for, if it asks for any."""
        match asked:
            case None:
                return None
            case FileDestination(path=path):
                return self.file(path)
            case KafkaDestination():
                return self._one("kafka", _topic_options(self._connections, asked))
            case HttpDestination():
                return self._one("http", _address_options(asked))
            case FunctionDestination(function=function):
                return self._one("function", function, self._accept)
            case SqsDestination():
                return self._one("sqs", _queue_options(self._connections, asked))
            case SnsDestination():
                return self._one("sns", _sns_options(self._connections, asked))
            case S3Destination():
                return self._one("s3", _bucket_options(self._connections, asked))

    def file(self, path: Path) -> Destination:
        """A file, by whatever links it is reached."""
        return self._one("file", Path(os.path.realpath(path)))

    def _one(self, kind: str, options: Hashable, *more: object) -> Destination:
        known = self._built.get((kind, options)) or self._before.get((kind, options))
        if known is None:
            module, _, class_name = KINDS[kind].partition(":")
            # kinds are imported when the first of them is built: a daemon without Kafka has none
            made: Any = getattr(importlib.import_module(module), class_name)
            known = cast(Destination, made(options, *more))
            self._new.append(known)
        self._built[kind, options] = known
        return known

    async def open(self) -> None:
        """Reaches all that can be reached soon, and tells of the others."""
        async with anyio.create_task_group() as tasks:
            while self._new:
                destination = self._new.pop()
                tasks.start_soon(self._open, destination, name=f"open {destination.name}")

    async def _open(self, destination: Destination) -> None:
        reason = f"not reached within {OPEN_SECONDS:.0f} s"
        try:
            with anyio.move_on_after(OPEN_SECONDS) as deadline:
                await destination.open()
        except WorldError as error:
            reason = str(error)
        else:
            if not deadline.cancelled_caught:
                return
        self._emit(signals.DestinationUnready(destination.name, reason))

    async def close(self) -> None:
        """Closes them all at the same time, and waits for none for long."""
        async with anyio.create_task_group() as tasks:
            for destination in self._built.values():
                tasks.start_soon(_close, destination, name=f"close {destination.name}")


def _is_renewed(options: Hashable, renewed: Collection[Path]) -> bool:
    tls = getattr(options, "tls", None) or getattr(options, "access", None) or options
    return any(getattr(tls, name, None) in renewed for name in RENEWED)


async def _close(destination: Destination) -> None:
    with anyio.move_on_after(CLOSE_SECONDS):
        await destination.close()


def _topic_options(connections: Mapping[str, AnyConnection], asked: KafkaDestination) -> Hashable:
    from streamfaas.destinations.kafka import KafkaTopicOptions

    connection = kafka_connection(connections, asked.connection)
    return KafkaTopicOptions(
        brokers=connection.brokers,
        topic=asked.topic,
        tls=tls_options(connection.tls),
        sasl=sasl_options(connection.sasl),
    )


def _address_options(asked: HttpDestination) -> Hashable:
    from streamfaas.destinations.http import HttpOptions

    return HttpOptions(
        url=asked.url,
        headers=tuple(sorted(asked.headers.items())),
        timeout_seconds=asked.timeout,
        secret=revealed(asked.secret),
        ca=asked.ca,
    )


def _queue_options(connections: Mapping[str, AnyConnection], asked: SqsDestination) -> Hashable:
    from streamfaas.destinations.sqs import SqsOptions

    access = access_of(connections, asked.connection)
    return SqsOptions(access, asked.queue, "json" if asked.payload else "none")


def _sns_options(connections: Mapping[str, AnyConnection], asked: SnsDestination) -> Hashable:
    from streamfaas.destinations.sns import SnsOptions

    access = access_of(connections, asked.connection)
    return SnsOptions(access, asked.topic, "json" if asked.payload else "none")


def _bucket_options(connections: Mapping[str, AnyConnection], asked: S3Destination) -> Hashable:
    from streamfaas.destinations.s3 import S3Options

    return S3Options(access_of(connections, asked.connection), asked.bucket)

"""Triggers on object stores made into their source, and the feeds that it takes from."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from streamfaas.config import spec
from streamfaas.config.object_stores import (
    ObjectPollTrigger,
    ObjectQueueTrigger,
    ObjectStoreTrigger,
    ObjectStreamTrigger,
    ObjectTopicTrigger,
    ObjectWebhookTrigger,
    listed_by,
)
from streamfaas.daemon.access import (
    access_of,
    kafka_connection,
    kafka_start,
    revealed,
    sasl_options,
    tls_options,
)
from streamfaas.sources import Source
from streamfaas.telemetry.signals import Emit

if TYPE_CHECKING:
    from streamfaas.sources.objects import Feed, MakeFeed, Means


def options(config: spec.Config, trigger: ObjectStoreTrigger) -> Any:
    """What its source is told."""
    from streamfaas.sources.objects import ObjectsOptions

    return ObjectsOptions(
        buckets=trigger.bucket,
        feeds=_feeds(config, trigger),
        prefix=trigger.prefix,
        suffix=trigger.suffix,
        events=trigger.events,
        parallel=trigger.parallel,
        pending_max=trigger.pending,
        listed=listed_by(trigger) is not None,
    )


def posted(config: spec.Config) -> dict[str, frozenset[str]]:
    """The paths that stores post to, by address."""
    found: dict[str, frozenset[str]] = {}
    for _, _, trigger in config.mappings():
        if isinstance(trigger, ObjectWebhookTrigger):
            found[trigger.listen] = found.get(trigger.listen, frozenset()) | {trigger.path}
    return found


def _feeds(config: spec.Config, trigger: ObjectStoreTrigger) -> tuple[MakeFeed, ...]:
    nudge = asyncio.Event()
    listings = _listings(config, trigger, nudge)
    match trigger:
        case ObjectPollTrigger():
            return listings
        case ObjectStreamTrigger():
            return (*_streams(config, trigger, nudge), *listings)
    return (_feed(config, trigger), *listings)


def _feed(config: spec.Config, trigger: ObjectStoreTrigger) -> MakeFeed:
    match trigger:
        case ObjectQueueTrigger():
            return _queue_feed(config, trigger)
        case ObjectTopicTrigger():
            return _topic_feed(config, trigger)
        case ObjectWebhookTrigger():
            return _webhook_feed(trigger)
    raise AssertionError(trigger)


def _listings(
    config: spec.Config, trigger: ObjectStoreTrigger, nudge: asyncio.Event
) -> tuple[MakeFeed, ...]:
    """Of each bucket, if any: by itself, or behind another way."""
    name = listed_by(trigger)
    if name is None:
        return ()
    access, alone = access_of(config.connections, name), isinstance(trigger, ObjectPollTrigger)
    interval = trigger.interval if isinstance(trigger, ObjectPollTrigger) else _reconcile(trigger)

    def make(bucket: str, means: Means) -> Feed:
        from streamfaas.sources.objects.polling import Polling, PollingOptions

        options = PollingOptions(
            access,
            bucket,
            prefix=trigger.prefix,
            suffix=trigger.suffix,
            interval_seconds=interval,
            existing=isinstance(trigger, ObjectPollTrigger) and trigger.existing == "process",
            alone=alone,
        )
        return Polling(options, means, nudge=nudge)

    return tuple(partial(make, bucket) for bucket in trigger.bucket)


def _reconcile(trigger: ObjectStoreTrigger) -> float:
    assert isinstance(
        trigger,
        ObjectQueueTrigger | ObjectTopicTrigger | ObjectWebhookTrigger | ObjectStreamTrigger,
    )
    assert trigger.reconcile is not None
    return trigger.reconcile


def _streams(
    config: spec.Config, trigger: ObjectStreamTrigger, nudge: asyncio.Event
) -> tuple[MakeFeed, ...]:
    access = access_of(config.connections, trigger.connection)

    def make(bucket: str, means: Means) -> Feed:
        from streamfaas.sources.objects.listening import Listening, ListeningOptions

        options = ListeningOptions(access, bucket, trigger.prefix, trigger.suffix, trigger.events)
        return Listening(options, means, nudge=nudge)

    return tuple(partial(make, bucket) for bucket in trigger.bucket)


def _webhook_feed(trigger: ObjectWebhookTrigger) -> MakeFeed:
    def make(means: Means) -> Feed:
        from streamfaas.sources.objects.webhook import Webhook, WebhookOptions

        secret = revealed(trigger.secret)
        options = WebhookOptions(trigger.listen, trigger.path, secret, trigger.body)
        return Webhook(options, means)

    return make


def _queue_feed(config: spec.Config, trigger: ObjectQueueTrigger) -> MakeFeed:
    access = access_of(config.connections, trigger.connection)

    def make(means: Means) -> Feed:
        from streamfaas.sources.objects.queue import QueueFeed

        return QueueFeed(access, trigger.queue, trigger.via, means)

    return make


def _topic_feed(config: spec.Config, trigger: ObjectTopicTrigger) -> MakeFeed:
    """A topic is read as any Kafka trigger reads it."""
    connection = kafka_connection(config.connections, trigger.connection)

    def make(means: Means) -> Feed:
        from streamfaas.sources.kafka import Kafka, KafkaOptions
        from streamfaas.sources.objects.log import LogFeed

        options = KafkaOptions(
            brokers=connection.brokers,
            topics=trigger.topics,
            group=trigger.group,
            start=kafka_start(trigger.start),
            tls=tls_options(connection.tls),
            sasl=sasl_options(connection.sasl),
        )
        name = f"the topic {', '.join(trigger.topics)}"

        def source(emit: Emit) -> Source:
            return Kafka(means.name, options, clock=means.clock, emit=emit)

        return LogFeed(name, source, means)

    return make

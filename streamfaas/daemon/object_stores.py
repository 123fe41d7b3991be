"""Triggers on object stores made into their source, and the feeds that it takes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamfaas.config import spec
from streamfaas.config.connections import AwsConnection, KafkaConnection
from streamfaas.config.object_stores import (
    ObjectQueueTrigger,
    ObjectStoreTrigger,
    ObjectTopicTrigger,
)
from streamfaas.daemon.access import aws_access, kafka_start, sasl_options, tls_options
from streamfaas.sources import Source
from streamfaas.telemetry.signals import Emit

if TYPE_CHECKING:
    from streamfaas.sources.objects import Feed, MakeFeed, Means


def options(config: spec.Config, trigger: ObjectStoreTrigger) -> Any:
    """What its source is told."""
    from streamfaas.sources.objects import ObjectsOptions

    return ObjectsOptions(
        buckets=trigger.bucket,
        feeds=(_feed(config, trigger),),
        prefix=trigger.prefix,
        suffix=trigger.suffix,
        events=trigger.events,
        parallel=trigger.parallel,
        pending_max=trigger.pending,
    )


def _feed(config: spec.Config, trigger: ObjectStoreTrigger) -> MakeFeed:
    match trigger:
        case ObjectQueueTrigger():
            return _queue_feed(config, trigger)
        case ObjectTopicTrigger():
            return _topic_feed(config, trigger)
    raise AssertionError(trigger)


def _queue_feed(config: spec.Config, trigger: ObjectQueueTrigger) -> MakeFeed:
    connection = config.connections[trigger.connection]
    assert isinstance(connection, AwsConnection)  # as has been checked

    def make(_: Means) -> Feed:
        from streamfaas.sources.objects.queue import QueueFeed

        return QueueFeed(aws_access(connection), trigger.queue)

    return make


def _topic_feed(config: spec.Config, trigger: ObjectTopicTrigger) -> MakeFeed:
    """A topic is read as any Kafka trigger reads it."""
    connection = config.connections[trigger.connection]
    assert isinstance(connection, KafkaConnection)  # as has been checked

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

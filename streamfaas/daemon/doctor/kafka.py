"""Each Kafka connection of a configuration, tried for real, with all that is read and written by
it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamfaas.config.connections import KafkaConnection
from streamfaas.config.delivery import KafkaDestination
from streamfaas.config.object_stores import ObjectTopicTrigger
from streamfaas.config.spec import Config
from streamfaas.config.triggers import KafkaTrigger
from streamfaas.daemon.access import sasl_options, tls_options
from streamfaas.daemon.doctor import Check, Finding, bad, ok, warn
from streamfaas.flow.errors import Refused, WorldError

if TYPE_CHECKING:
    from streamfaas.sources.kafka.survey import Group, Survey, Topic

ANSWER_SECONDS = 5.0
"""How long one broker may take to let us in, and for one answer."""

_AWAY = "start it, or look at the address and the firewall"
_DENIED = "look at the user, the password, and the listener's protocol"


@dataclass(frozen=True, slots=True)
class _Reader:
    """A trigger, and the group it reads by."""

    name: str
    group: str
    trigger: KafkaTrigger | ObjectTopicTrigger


def checks(config: Config) -> list[Check]:
    """One for each connection that something uses."""
    return [
        Check(name, _performing(config, name, connection), seconds=30.0, code="SF3041")
        for name, connection in config.connections.items()
        if isinstance(connection, KafkaConnection)
    ]


def _performing(config: Config, name: str, connection: KafkaConnection) -> _Connection:
    readers = [
        _Reader(f"{function}/{key}", trigger.group or f"streamfaas.{function}.{key}", trigger)
        for function, key, trigger in config.mappings()
        if isinstance(trigger, KafkaTrigger | ObjectTopicTrigger) and trigger.connection == name
    ]
    written = {
        each.topic
        for _, each in config.destinations()
        if isinstance(each, KafkaDestination) and each.connection == name
    }
    return _Connection(name, connection, tuple(readers), tuple(sorted(written)))


@dataclass(frozen=True, slots=True)
class _Connection:
    name: str
    connection: KafkaConnection
    readers: tuple[_Reader, ...]
    written: tuple[str, ...]

    async def __call__(self) -> Sequence[Finding]:
        from streamfaas.sources.kafka.survey import surveying

        asked = self.connection
        tls, sasl = tls_options(asked.tls), sasl_options(asked.sasl)
        clock = asyncio.get_running_loop().time
        found: list[Finding] = []
        try:
            async with surveying(
                asked.brokers, tls, sasl, clock=clock, seconds=ANSWER_SECONDS
            ) as survey:
                found += await self._brokers(survey)
                for reader in self.readers:
                    found += await self._reader(survey, reader)
                for topic in self.written:
                    found.append(await self._topic(survey, topic))
        except WorldError as error:
            remedy = _DENIED if isinstance(error, Refused) else _AWAY
            found.append(bad(self.name, f"{self.name}: {error}", remedy, "SF3041"))
        return found

    async def _brokers(self, survey: Survey) -> Sequence[Finding]:
        doors = await survey.doors(self.connection.brokers)
        low, high = await survey.versions()
        let_in = sum(not why for why in doors.given.values())
        told = f"{self.name} {let_in}/{len(doors.given)} brokers, {self._manner()}"
        told += f", Fetch API {low}-{high}"
        found = [_door(self.name, at, why) for at, why in doors.given.items() if why]
        found += [
            _inner_door(self.name, at, why)
            for at, why in doors.inside.items()
            if why and at not in doors.given
        ]
        return found or [ok(self.name, told)]

    def _manner(self) -> str:
        asked = self.connection
        parts = ["TLS" if asked.tls else "", f"SASL {asked.sasl.mechanism}" if asked.sasl else ""]
        return " and ".join(part for part in parts if part) or "in the clear"

    async def _reader(self, survey: Survey, reader: _Reader) -> Sequence[Finding]:
        trigger = reader.trigger
        names = trigger.topics
        if isinstance(trigger, KafkaTrigger) and trigger.pattern is not None:
            names = tuple(await survey.matching(trigger.pattern))
            if not names:
                told = f"{reader.name}: no topic matches {trigger.pattern}"
                return [warn(reader.name, told, "make one, or correct `pattern`", "SF3042")]
        topics = [await survey.topic(name) for name in names]
        troubles = [each for each in topics if each.trouble]
        if troubles:
            return [_no_topic(reader.name, each) for each in troubles]
        return [_lagging(reader, topics, await survey.group(reader.group))]

    async def _topic(self, survey: Survey, name: str) -> Finding:
        topic = await survey.topic(name, read=False)
        if topic.trouble:
            return _no_topic(f"{self.name}: {name}", topic)
        told = f"{self.name}: {name} {_count(len(topic.ends), 'partition')}, written to"
        return ok(name, f"{told} (whether we may shows the first letter)")


def _door(name: str, address: str, why: str) -> Finding:
    # the client begins with whoever answers: one that does not is no end
    return warn(name, f"{name}: {why}", f"start it, or leave {address} out of `brokers`", "SF3041")


def _inner_door(name: str, address: str, why: str) -> Finding:
    told = f"{name} names {address} as one of its brokers: {why}"
    remedy = "advertised.listeners of that broker must be an address that this machine reaches"
    return bad(name, told, remedy, "SF3041")


def _no_topic(who: str, topic: Topic) -> Finding:
    if "no permission" in topic.trouble:
        remedy = f"allow this user to describe and read topic {topic.name}"
    elif "there is no topic" in topic.trouble:
        remedy = f"kafka-topics.sh --create --topic {topic.name}, or correct the name"
    else:
        remedy = "look at the broker's own log"
    return bad(who, f"{who}: {topic.trouble}", remedy, "SF3042")


def _lagging(reader: _Reader, topics: Sequence[Topic], group: Group) -> Finding:
    if not group.may_read:
        told = group.trouble or f"no permission to read by group {group.name}"
        remedy = f"allow this user to read by group {group.name}"
        return bad(reader.name, f"{reader.name}: {told}", remedy, "SF3043")
    partitions = sum(len(topic.ends) for topic in topics)
    names = ", ".join(topic.name for topic in topics[:2])
    more = f" and {len(topics) - 2} more" if len(topics) > 2 else ""
    told = f"{reader.name}: {names}{more} {_count(partitions, 'partition')}"
    told += f", group lag {sum(_lags(reader.trigger, topics, group)):,}"
    told += f", {_count(group.members, 'member')}" if group.members else ", nobody reads now"
    return ok(reader.name, f"{told}, ACL read ✓")


def _lags(
    trigger: KafkaTrigger | ObjectTopicTrigger, topics: Sequence[Topic], group: Group
) -> Iterator[int]:
    """Of each partition; one that the group has no position for begins as the trigger says."""
    for topic in topics:
        for number, (first, end) in topic.ends.items():
            start = end if trigger.start == "latest" else first
            yield max(end - group.positions.get((topic.name, number), start), 0)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")

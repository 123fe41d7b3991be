from __future__ import annotations

import asyncio
import os

import pytest

import delivery_subjects
from delivery_subjects import SECONDS_IN_VAIN, each_check, judge
from kafka_broker import running
from streamfaas.destinations.kafka import Kafka, KafkaTopicOptions
from streamfaas.flow.errors import Gone, Refused, Unreachable
from streamfaas.flow.letters import Attribute, Letter
from streamfaas.testing.deliveries import (
    FAULT_CHECKS,
    check_a_broken_destination_can_be_left,
    letter,
    letters,
)
from streamfaas.wire.kafka_options import SaslOptions

FAULTS = ["down", "frozen", "too small"]

# a broker takes seconds to come back: of what a frozen one shows as well, one is enough
BROKEN = [
    (check, fault)
    for check in FAULT_CHECKS
    for fault in FAULTS
    if (check, fault) != (check_a_broken_destination_can_be_left, "down")
]


def named(check):
    return getattr(check, "__name__", check).removeprefix("check_")


@pytest.fixture(scope="module")
def guarded():
    """A broker of our own: it is harmed, and has a listener that wants a password."""
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": f'{plain} user_u="p";',
        "auto.create.topics.enable": "false",
    }
    with running(listeners={"LOGIN": "SASL_PLAINTEXT"}, properties=properties) as kafka:
        yield kafka


@pytest.mark.kafka
@pytest.mark.slow
@each_check
def test_it_keeps_the_contract(check, guarded):
    judge(check, delivery_subjects.topic(guarded))


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize(("check", "fault"), BROKEN, ids=named)
def test_it_keeps_the_contract_when_it_is_broken(check, fault, guarded):
    judge(check, delivery_subjects.topic(guarded, 2 * SECONDS_IN_VAIN), fault, of=FAULTS)


async def sent(options, *those):
    destination = Kafka(options)
    try:
        await destination.send(those)
    finally:
        await destination.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_a_key_has_one_partition_and_what_goes_beside_a_letter_are_headers(guarded):
    async def main():
        topic = await guarded.create_topic("dead", 2)
        options = KafkaTopicOptions((guarded.bootstrap,), topic)
        dead = Letter("1", b"{}", b"k", 2, (Attribute("ErrorMessage", "String", "é"),))
        await sent(options, dead, *letters(30))
        places, beside = {}, []
        async for record in delivery_subjects.records(guarded.bootstrap, topic):
            places.setdefault(record.key, set()).add(record.partition)
            beside += [record.headers] if record.key == b"k" else []
        assert all(len(partitions) == 1 for partitions in places.values())
        assert len(places) == 4
        assert beside == [
            (
                ("streamfaas-hops", b"2"),
                ("streamfaas-id", b"1"),
                ("ErrorMessage", "é".encode()),
            )
        ]

    delivery_subjects.run(main)


@pytest.mark.kafka
@pytest.mark.slow
def test_what_is_too_large_is_refused_by_the_limit_that_it_meets(guarded):
    async def main():
        topic = await guarded.create_topic("dead", 2, {"max.message.bytes": "1000"})
        ours = KafkaTopicOptions((guarded.bootstrap,), topic, message_bytes_max=50)
        with pytest.raises(Refused, match=r"a letter of \d+ bytes is over the limit of 50"):
            await sent(ours, letter(1))
        theirs = KafkaTopicOptions((guarded.bootstrap,), topic)
        noise = Letter("1", os.urandom(2000).hex().encode())
        with pytest.raises(Refused, match=r"max\.message\.bytes"):
            await sent(theirs, noise)
        await sent(theirs, letter(1, size_bytes=2000))  # once compressed it fits
        assert len(await delivery_subjects.everything(guarded.bootstrap, topic)) == 1

    delivery_subjects.run(main)


@pytest.mark.kafka
@pytest.mark.slow
def test_who_is_not_let_in_is_told_why_and_no_secret(guarded):
    async def main():
        topic = await guarded.create_topic("dead", 2)
        brokers = (guarded.broker.address("LOGIN"),)
        await sent(
            KafkaTopicOptions(brokers, topic, sasl=SaslOptions("PLAIN", "u", "p")), letter(1)
        )
        wrong = KafkaTopicOptions(brokers, topic, sasl=SaslOptions("PLAIN", "u", "geheim"))
        with pytest.raises(Refused, match="authentication failed") as caught:
            await sent(wrong, letter(1))
        assert "geheim" not in str(caught.value) + repr(wrong)
        nobody = KafkaTopicOptions(brokers, topic, send_seconds=2.0)
        with pytest.raises(Unreachable, match="do tls and sasl fit this listener"):
            await sent(nobody, letter(1))

    delivery_subjects.run(main)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_topic_that_is_not_there_is_told(guarded):
    async def main():
        options = KafkaTopicOptions((guarded.bootstrap,), "nowhere", send_seconds=3.0)
        with pytest.raises(Gone, match=r"nowhere on .*: there is no such topic"):
            await sent(options, letter(1))

    delivery_subjects.run(main)


@pytest.mark.kafka
@pytest.mark.slow
def test_lanes_hear_nothing_of_a_letter_of_another_that_is_refused(guarded):
    """They share a producer, which is thrown away then."""

    async def main():
        topic = await guarded.create_topic("dead", 2, {"max.message.bytes": "1000"})
        destination = Kafka(KafkaTopicOptions((guarded.bootstrap,), topic))

        async def lane(number):
            for mine in range(5):
                await destination.send([letter(10 * number + mine)])

        async def poisoned():
            for _ in range(5):
                with pytest.raises(Refused):
                    await destination.send([Letter("1", os.urandom(2000).hex().encode())])

        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(4):
                    tasks.create_task(lane(number))
                tasks.create_task(poisoned())
        finally:
            await destination.close()
        found = {one.id for one in await delivery_subjects.everything(guarded.bootstrap, topic)}
        assert found == {letter(10 * number + mine).id for number in range(4) for mine in range(5)}

    delivery_subjects.run(main)


def test_secrets_do_not_show():
    options = KafkaTopicOptions(("k:1",), "t", sasl=SaslOptions("PLAIN", "u", "geheim"))
    assert "geheim" not in repr(options)

"""A cluster as doctor asks it: what it shows, and that nothing is changed by asking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner

from config_project import project  # noqa: F401
from streamfaas.cli.main import main
from streamfaas.config.load import load
from streamfaas.daemon.doctor import kafka as checks
from streamfaas.flow.errors import Unreachable
from streamfaas.sources.kafka.survey import surveying

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@contextlib.asynccontextmanager
async def surveyed(*brokers, tls=None, sasl=None):
    clock = asyncio.get_running_loop().time
    async with surveying(brokers, tls, sasl, clock=clock, seconds=5.0) as survey:
        yield survey


async def read(kafka, topic, group, offsets):
    """A group that has come so far, and is still there while the block lasts."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, group_id=group)
    await consumer.start()
    await consumer.commit({TopicPartition(topic, at): offset for at, offset in offsets.items()})
    return consumer


def test_topics_groups_and_their_distance_are_what_others_see(kafka):
    async def scenario():
        topic, group = await kafka.create_topic(partitions=2), uuid.uuid4().hex
        await kafka.produce(topic, [b"%d" % number for number in range(10)], partition=0)
        await kafka.produce(topic, [b"x"] * 3, partition=1)
        await kafka.delete_before(topic, 0, 4)
        consumer = await read(kafka, topic, group, {0: 7})
        try:
            async with surveyed(kafka.bootstrap) as survey:
                doors = await survey.doors([kafka.bootstrap])
                assert doors.given == {kafka.bootstrap: ""}
                assert set(doors.inside.values()) == {""}
                low, high = await survey.versions()
                assert low <= high
                assert high >= 11
                seen = await survey.topic(topic)
                assert (seen.trouble, seen.ends) == ("", {0: (4, 10), 1: (0, 3)})
                by = await survey.group(group)
                assert (by.trouble, by.members, by.may_read) == ("", 1, True)
                assert by.positions[topic, 0] == 7
                assert await survey.matching(f"{topic[:-1]}.") == [topic]
                assert await survey.matching(topic[:-1]) == []
        finally:
            await consumer.stop()

    uvloop.run(scenario())


def test_what_is_not_there_is_told_and_not_made(kafka):
    async def scenario():
        name = uuid.uuid4().hex
        async with surveyed(kafka.bootstrap) as survey:
            assert (await survey.topic(name)).trouble == f"there is no topic {name}"
            by = await survey.group(name)
            assert (by.trouble, by.members, by.positions) == ("", 0, {})
            await asyncio.sleep(0.2)
            assert (await survey.topic(name)).trouble == f"there is no topic {name}"
            assert await survey.matching(name) == []

    uvloop.run(scenario())


def test_an_address_that_does_not_answer_is_told_beside_those_that_do(kafka):
    async def scenario():
        async with surveyed("127.0.0.1:9", kafka.bootstrap) as survey:
            doors = await survey.doors(["127.0.0.1:9", kafka.bootstrap])
            away = "cannot reach 127.0.0.1:9 (connection refused)"
            assert doors.given == {"127.0.0.1:9": away, kafka.bootstrap: ""}
        with pytest.raises(Unreachable, match="connection refused"):
            async with surveyed("127.0.0.1:9"):
                pass

    uvloop.run(scenario())


CONFIG = """
version: 1
connections:
  main: {type: kafka, brokers: ["%(at)s"]}
functions:
  orders:
    code: code
    handler: app.main
    triggers:
      new: {type: kafka, connection: main, topics: [%(topic)s], start: %(start)s%(more)s}
"""


def findings(project, **fields):  # noqa: F811
    path = project / "streamfaas.yaml"
    path.write_text(CONFIG % fields)
    path.chmod(0o600)
    (check,) = checks.checks(load(path, os.environ))
    return uvloop.run(check.perform())


def test_doctor_tells_of_each_trigger_how_far_its_group_is(kafka, project):  # noqa: F811
    async def prepare():
        topic = await kafka.create_topic(partitions=2)
        await kafka.produce(topic, [b"x"] * 20, partition=0)
        consumer = await read(kafka, topic, "streamfaas.orders.new", {0: 8})
        await consumer.stop()
        return topic

    topic = uvloop.run(prepare())
    more = f", on_failure: {{type: kafka, connection: main, topic: {topic}-not}}"
    fields = {"at": kafka.bootstrap, "topic": topic}
    found = findings(project, start="earliest", more=more, **fields)
    assert [each.mark for each in found] == ["ok", "ok", "bad"]
    assert found[0].told.startswith("main 1/1 brokers, in the clear, Fetch API ")
    assert found[1].told == (
        f"orders/new: {topic} 2 partitions, group lag 12, nobody reads now, ACL read ✓"
    )
    assert found[2].told == f"main: {topic}-not: there is no topic {topic}-not"
    assert f"kafka-topics.sh --create --topic {topic}-not" in found[2].remedy
    (_, other) = findings(project, start="latest", more=", group: other", **fields)
    assert "group lag 0" in other.told
    (_, other) = findings(project, start="earliest", more=", group: other", **fields)
    assert "group lag 20" in other.told


def test_validate_asks_the_network_where_it_is_told_to(kafka, project):  # noqa: F811
    topic = uvloop.run(kafka.create_topic(partitions=3))
    path = project / "streamfaas.yaml"

    def validated(topic):
        fields = {"at": kafka.bootstrap, "topic": topic, "start": "latest", "more": ""}
        path.write_text(CONFIG % fields)
        path.chmod(0o600)
        return CliRunner().invoke(main, ["validate", str(path), "--online"])

    done = validated(topic)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(
        "config OK (1 function, 1 trigger, 0 warnings)\n✓ main 1/1 brokers"
    )
    assert f"{topic} 3 partitions" in done.stdout
    done = validated("nowhere")
    assert done.exit_code == 1
    assert "✗ orders/new: there is no topic nowhere → kafka-topics.sh --create" in done.stdout

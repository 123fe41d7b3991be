"""A configuration as the objects that carry it out."""

import pytest

from config_project import KAFKA, project, valid  # noqa: F401
from streamfaas.config.connections import KafkaConnection
from streamfaas.config.delivery import KafkaDestination
from streamfaas.daemon.build import plan_of
from streamfaas.daemon.deliveries import Destinations
from streamfaas.runtimes.python import environment
from streamfaas.telemetry.signals import DestinationUnready

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
HTTP = f"{{type: http, url: 'https://x/y', headers: {{A: b}}, secret: {SECRET}}}"
DIRECTORY = "{type: object-store, via: directory, path: inbox, bucket: inbox"


async def nobody(function, event, request_id, *, hops):
    raise AssertionError("nothing is sent here")


def policies(text, base):
    config = valid(text, base)
    plan = plan_of(config, config.file)
    destinations = Destinations(plan.connections, nobody, [].append)
    mappings = [*plan.mappings, *plan.asynchronous.values()]
    made = {each.name.partition("/")[2]: each.policy_maker(destinations) for each in mappings}
    return made, destinations


def test_what_is_asked_for_is_what_a_lane_is_given(project):  # noqa: F811
    policy = policies(
        KAFKA + ", retries: {max: 5, max_age: 1h, backoff: 2s..1m, bisect: false},"
        " partial_failures: true, parallel: {per_partition: 4}, on_failure: {type: file, path: d}}",
        project,
    )[0]["t"]
    retry = policy.retry
    assert (retry.retries_max, retry.age_seconds_max, retry.bisect) == (5, 3_600.0, False)
    assert (retry.backoff_seconds, retry.backoff_seconds_max) == (2.0, 60.0)
    assert (policy.partial, policy.strands, policy.filter) == (True, 4, None)
    assert policy.set_aside.name == str(project / "d")
    assert policy.last_resort.name == str(project / "state" / "set-aside" / "f.t.jsonl")
    assert policy.on_success is None


@pytest.mark.parametrize(
    ("words", "retries", "bisect"),
    [
        ("", None, False),
        (", on_failure: {type: file, path: d}", 10, True),
        (", on_failure: {type: file, path: d}, retries: lambda", 10, False),
        (", on_failure: {type: file, path: d}, retries: {max: unlimited}", None, True),
    ],
)
def test_nothing_is_given_up_but_to_somewhere(project, words, retries, bisect):  # noqa: F811
    policy = policies(KAFKA + words + "}", project)[0]["t"]
    assert (policy.retry.retries_max, policy.retry.bisect) == (retries, bisect)
    assert (policy.set_aside is policy.last_resort) == (not words)


def test_filters_ask_what_their_source_shows(project):  # noqa: F811
    made, _ = policies(
        KAFKA + ", filter: [{value: {status: [paid]}}, {key: [{prefix: vip-}]}]}\n"
        f"      u: {DIRECTORY}, filter: {{s3: {{object: {{size: [{{numeric: ['>', 10]}}]}}}}}}}}\n"
        "      v: {type: memory, topic: a, filter: []}\n",
        project,
    )
    wants = made["t"].filter.wants
    assert wants({"key": "a"}, b'{"status": "paid"}')
    assert wants({"key": "vip-1"}, b'{"status": "open"}')
    assert not wants({"key": "a"}, b'{"status": "open"}')
    wants = made["u"].filter.wants
    assert wants({}, b'{"s3": {"object": {"size": 11}}}')
    assert not wants({}, b'{"s3": {"object": {"size": 10}}}')
    assert made["v"].filter is None
    assert (made["u"].partial, made["u"].strands, made["u"].retry.bisect) == (False, 1, False)


def test_equal_destinations_are_one(project):  # noqa: F811
    (project / "same").symlink_to("d")
    text = (
        KAFKA + ", on_failure: {type: file, path: d}, on_success: %s}\n"
        "      u: {type: memory, topic: a, on_failure: {type: file, path: same}, on_success: %s}\n"
        "      v: {type: memory, topic: a, on_failure: {type: kafka, connection: main, topic: b}}\n"
        "      w: {type: memory, topic: a, on_failure: {type: kafka, connection: main, topic: c}}\n"
    ) % (HTTP, HTTP)
    made, destinations = policies(text, project)
    assert made["t"].set_aside is made["u"].set_aside
    assert made["t"].on_success is made["u"].on_success
    assert made["v"].set_aside is not made["w"].set_aside
    assert len(destinations) == 4 + 5  # the last resort of each trigger, and of the backlog


def test_asynchronous_invocations_are_retried_and_sent_on_as_asked(project):  # noqa: F811
    text = (
        KAFKA + "}\n    asynchronous:\n      retries: 1\n      max_age: 1h\n"
        "      on_success: {type: function, function: g}\n"
        "      on_failure: {type: file, path: d}\n      dead_letter: {type: file, path: e}\n"
        "  g: {code: code, handler: app.main}\n"
    )
    config = valid(text, project)
    plan = plan_of(config, config.file)
    destinations = Destinations(plan.connections, nobody, [].append)
    policy = plan.asynchronous["f"].policy_maker(destinations)
    assert (policy.retry.retries_max, policy.retry.age_seconds_max) == (1, 3_600.0)
    assert [policy.retry.delay(failures, 0.0) for failures in (1, 2, 3)] == [60.0, 120.0, 120.0]
    assert policy.on_success.name == "function g"
    assert policy.set_aside.name == str(project / "d")
    assert policy.dead_letter.name == str(project / "e")
    policy = plan.asynchronous["g"].policy_maker(destinations)
    assert (policy.retry.retries_max, policy.retry.age_seconds_max) == (2, 21_600.0)
    assert policy.set_aside is policy.last_resort
    assert policy.last_resort.name == str(project / "state" / "set-aside" / "g.asynchronous.jsonl")


@pytest.mark.anyio
async def test_what_cannot_be_reached_is_told_and_closed_all_the_same():
    told = []
    nowhere = KafkaConnection(type="kafka", brokers=("127.0.0.1:1",))
    destinations = Destinations({"main": nowhere}, nobody, told.append)
    destinations.of(KafkaDestination(type="kafka", connection="main", topic="dead"))
    await destinations.open()
    (signal,) = told
    assert isinstance(signal, DestinationUnready)
    assert signal.destination == "dead on 127.0.0.1:1"
    assert "127.0.0.1:1" in signal.reason
    await destinations.close()


AWS = """version: 1
connections:
  store:
    {type: aws, region: eu-central-1, endpoint_url: "http://127.0.0.1:1", access_key_id: key,
     secret_access_key: "${PW}"}
functions:
  f: {code: code, handler: app.main, connection: store, env: {AWS_ACCESS_KEY_ID: mine}}
  g: {code: code, handler: app.main}
"""


def test_a_function_finds_its_connection_where_every_sdk_looks_unless_env_says_otherwise(project):  # noqa: F811
    plan = plan_of(valid(AWS, project, PW="secret"), project)
    first, second = map(environment, plan.functions)
    found = {name: value for name, value in first.items() if second.get(name) != value}
    assert found == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
    }
    assert "secret" not in repr(plan.functions)


@pytest.mark.parametrize(
    ("asked", "name", "payload"),
    [
        ("{type: sqs, connection: store, queue: dead}", "queue dead", "json"),
        ("{type: sqs, connection: store, queue: dead, payload: false}", "queue dead", "none"),
        ("{type: sns, connection: store, topic: 'arn:aws:sns:r:1:t'}", "arn:aws:sns:r:1:t", "json"),
        ("{type: s3, connection: store, bucket: dead}", "s3://dead", "text"),
    ],
)
def test_queues_topics_and_buckets_are_built_from_their_connection(project, asked, name, payload):  # noqa: F811
    trigger = f"{{type: memory, topic: t, on_failure: {asked}}}"
    text = AWS + f"  h: {{code: code, handler: app.main, triggers: {{t: {trigger}}}}}\n"
    config = valid(text, project, PW="secret")
    plan = plan_of(config, config.file)
    destinations = Destinations(plan.connections, nobody, [].append)
    (policy,) = (each.policy_maker(destinations) for each in plan.mappings)
    assert (policy.set_aside.name, policy.set_aside.payload) == (name, payload)
    assert "secret" not in repr(destinations._built)

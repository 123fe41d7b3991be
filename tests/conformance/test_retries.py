"""Retries, ages, splits and throttles (lines 9.3, 9.4, 9.6, 9.7, 9.12; points 10.1 to 10.3)."""

from __future__ import annotations

import random
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kafka_scene import KafkaScene
from lane_scene import BAD, Kept, Scene, scene
from listed import LANE, Listed
from streamfaas.flow.ledger import Receipts
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.telemetry import signals

pytestmark = pytest.mark.slow

FINE = Success(b"null")
THROTTLED = Failure(Fault.THROTTLED, "TooManyRequestsException", "Rate Exceeded.")
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


def offering(count):
    async def body(s):
        s.offer(count)
        await s.run_out()

    return body


def kafka(body, answer, **options):
    return scene(body, answer, make=KafkaScene, **options)


def batches(done):
    return [values for _, values, _ in done.calls]


# -- when retries run out


def test_9_03_retry_1_and_an_exception_tell_of_two_invokes_unhandled_and_an_unqualified_arn():
    done = kafka(offering(3), lambda v, a: BAD, retries=1)

    (document,) = done.kept.documents
    assert batches(done) == [[0, 1, 2]] * 2
    assert document["requestContext"] == {
        "requestId": document["requestContext"]["requestId"],
        "functionArn": ARN,
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 2,
    }
    assert document["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert document["version"] == "1.0"
    assert document["KafkaBatchInfo"]["batchSize"] == 3
    assert done.checkpoint == 2


@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_9_03_the_invoke_count_is_that_of_the_retries_and_one(retries):
    done = kafka(offering(3), lambda v, a: BAD, retries=retries)

    (document,) = done.kept.documents
    assert document["requestContext"]["approximateInvokeCount"] == retries + 1 == len(done.calls)


def test_9_03_without_an_end_to_retries_a_batch_blocks_its_lane_until_it_succeeds():
    done = kafka(offering(3), lambda v, a: BAD if a < 9 else FINE)

    assert batches(done) == [[0, 1, 2]] * 10
    assert done.kept.documents == []
    assert done.checkpoint == 2


# -- ages


def expired(document, invokes):
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"
    assert document["requestContext"]["approximateInvokeCount"] == invokes
    assert "responseContext" not in document
    return document


def test_9_04_a_record_too_old_before_its_first_invoke_reports_one_invoke_and_no_response():
    async def body(s):
        s.put(b"a", age=61)
        await s.run_out()

    done = kafka(body, lambda v, a: FINE, retry={"age_seconds_max": 60})

    assert done.calls == []
    expired(done.kept.documents[0], invokes=1)
    assert done.checkpoint == 0


def test_9_04_a_record_that_grows_too_old_while_it_is_retried_has_no_response_either():
    async def body(s):
        s.put(b"a")
        await s.run_out()

    done = kafka(body, lambda v, a: BAD, retry={"age_seconds_max": 150})

    assert len(done.calls) == 8  # at 0, 1, 3, 7, 15, 31, 63 and 123 seconds
    assert all(at <= 150 for at, _, _ in done.calls)
    expired(done.kept.documents[0], invokes=8)


def test_9_04_the_shortest_age_on_lambda_gives_up_at_that_age_and_not_before():
    async def body(s):
        s.put(b"a", age=60)
        await s.run_out()

    done = kafka(body, lambda v, a: FINE, retry={"age_seconds_max": 60})

    assert batches(done) == [[0]]


def test_10_02_old_records_are_split_off_their_batch_and_their_young_neighbours_are_delivered():
    async def body(s):
        s.put(b"a", b"b", age=120)
        s.put(b"c", start=2)
        s.put(b"d", age=90, start=3)
        s.put(b"e", start=4)
        await s.run_out()

    done = kafka(body, lambda v, a: FINE, retry={"age_seconds_max": 60})

    assert batches(done) == [[2, 4]]
    document = expired(done.kept.documents[0], invokes=1)
    assert document["KafkaBatchInfo"]["batchSize"] == 3
    assert KafkaScene.values(document["payload"]) == [0, 1, 3]
    assert done.checkpoint == 4


# -- splits


def test_9_06_of_8_records_the_poison_alone_is_given_up_after_its_retries_and_no_split_is_one():
    retries = 3

    done = kafka(
        offering(8),
        lambda values, attempt: BAD if 5 in values else FINE,
        retries=retries,
        retry={"bisect": True},
    )

    failing = [values for values in batches(done) if 5 in values]
    assert [len(values) for values in failing] == [8, 8, 4, 2, 1, 1, 1]
    # what counts is which attempts were retries: those of a batch that had failed as it was
    retried = sum(before == after for before, after in pairwise(failing))
    assert retried == retries
    (document,) = done.kept.documents
    assert document["KafkaBatchInfo"]["batchSize"] == 1
    assert KafkaScene.values(document["payload"]) == [5]
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == len(failing)
    processed = [value for values in batches(done) if 5 not in values for value in values]
    assert sorted(processed) == [0, 1, 2, 3, 4, 6, 7]
    assert done.checkpoint == 7


def test_9_06_without_a_retry_a_batch_is_still_halved_until_the_poison_stands_alone():
    done = kafka(
        offering(8),
        lambda values, attempt: BAD if 5 in values else FINE,
        retries=0,
        retry={"bisect": True},
    )

    assert [len(values) for values in batches(done) if 5 in values] == [8, 4, 2, 1]
    assert KafkaScene.values(done.kept.documents[0]["payload"]) == [5]
    assert done.lane.status.records == 7


def test_9_06_without_the_setting_the_whole_batch_is_given_up():
    done = kafka(offering(8), lambda values, attempt: BAD if 5 in values else FINE, retries=1)

    assert batches(done) == [list(range(8))] * 2
    assert done.kept.documents[0]["KafkaBatchInfo"]["batchSize"] == 8


# -- throttles


def throttling(times, then):
    """A function that is throttled so often, and then fails or not."""
    left = [THROTTLED] * times
    return lambda values, attempt: left.pop() if left else then


def test_9_07_a_throttled_batch_keeps_all_of_its_retries():
    done = kafka(offering(3), throttling(25, then=BAD), retries=1)

    assert len(done.calls) == 27
    assert {attempt for _, _, attempt in done.calls[:26]} == {0}
    (document,) = done.kept.documents
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"


def test_9_07_a_throttle_between_two_failures_is_no_failure():
    outcomes = [BAD, THROTTLED, THROTTLED, BAD, THROTTLED, FINE]

    done = kafka(offering(3), lambda v, a: outcomes.pop(0), retries=2)

    assert [attempt for _, _, attempt in done.calls] == [0, 1, 1, 1, 2, 2]
    assert done.kept.documents == []
    assert done.checkpoint == 2


def test_9_07_a_throttled_batch_is_not_split_and_not_run_in_a_storm():
    done = kafka(offering(8), throttling(25, then=FINE), retries=0, retry={"bisect": True})

    assert batches(done) == [list(range(8))] * 26
    assert all(after - before >= 1 for (before, *_), (after, *_) in pairwise(done.calls))


def test_9_07_only_age_ends_throttles():
    async def body(s):
        s.put(b"a")
        await s.run_out()

    done = kafka(body, throttling(1000, then=FINE), retries=0, retry={"age_seconds_max": 60})

    expired(done.kept.documents[0], invokes=1)


def test_9_07_a_throttled_message_goes_back_to_its_queue_uncounted():
    async def body(s):
        s.offer(3)
        await s.run_until(lambda: s.source.settled)

    done = scene(body, lambda v, a: THROTTLED, retries=0, source=Listed(queue=True))

    assert done.source.settled == [Receipts(LANE, released=((0, 2),), counted=False)]
    assert done.kept.documents == []


# -- ten lanes of keys


def ten_lanes(keys, seed):
    """Ten strands over records with these keys, from life to life: a function that fails, is
    throttled and dawdles by chance, in a process that is killed by chance. What ran, and what was
    wrong."""
    chance = random.Random(seed)
    running, order, wrong = set(), {}, []
    finished, lives = set(), 0

    class Watched(Listed):
        async def settle(self, settlement):
            if not set(range(settlement.position + 1)) <= finished:
                wrong.append(("committed unfinished", settlement.position))
            await super().settle(settlement)

    source = Watched()

    async def answer(values, attempt):
        mine = {keys[v] for v in values}
        wrong.extend(("in two lanes at once", key) for key in mine & running)
        running.update(mine)
        try:
            await anyio.sleep(chance.choice([0.1, 0.1, 0.5, 3]))
        finally:
            running.difference_update(mine)
        outcome = chance.choice([FINE, FINE, FINE, FINE, BAD, THROTTLED])
        if outcome is FINE:
            for v in values:
                known = order.setdefault(keys[v], [])
                if v not in known:  # a repetition after a restart says nothing of order
                    wrong.extend(("out of order", v) for w in known if w > v)
                    known.append(v)
            finished.update(values)
        return outcome

    async def life(s):
        start = source.settled[-1].position + 1 if source.settled else 0
        s.put(*keys[start:], start=start)
        with anyio.move_on_after(chance.uniform(1, 8) if lives < 6 else 10_000):
            await s.run_out()

    while not source.settled or source.settled[-1].position + 1 < len(keys):
        lives += 1
        scene(life, answer, size=3, policy={"strands": 10}, source=source)
    return wrong, order, lives, source


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from([b"k%d" % n for n in range(15)]), min_size=1, max_size=80),
    st.integers(0, 2**32),
)
def test_9_12_with_factor_10_keys_keep_their_order_over_failures_and_restarts(keys, seed):
    wrong, order, _, source = ten_lanes(keys, seed)

    assert wrong == []
    assert source.settled[-1].position == len(keys) - 1
    expected = {key: [at for at, each in enumerate(keys) if each == key] for key in keys}
    assert order == expected


def test_9_12_such_a_run_goes_through_restarts_and_repeats_only_what_was_not_committed():
    wrong, _, lives, source = ten_lanes([b"k%d" % (n % 15) for n in range(200)], seed=1)

    assert wrong == []
    assert lives >= 5
    positions = [each.position for each in source.settled]
    assert positions == sorted(set(positions))


def test_9_12_with_factor_10_keys_run_beside_each_other_and_a_failing_one_holds_up_no_other():
    async def body(s):
        s.put(*[b"k%d" % (n % 40) for n in range(200)])
        await s.run_until(lambda: s.lane.status.records >= 150)
        assert s.lane.status.records < 200
        await s.run_out()

    def answer(values, attempt):
        return BAD if 0 in values and attempt < 8 else FINE

    done = scene(body, answer, size=5, policy={"strands": 10})

    assert done.seen(signals.LaneRetrying)
    assert done.checkpoint == 199


# -- the documents


def test_1_11_a_topic_is_sent_each_record_alone_under_its_own_key():
    kept = Kept()
    kept.per_record = True

    async def body(s):
        s.put(b"a", None, b"c")
        await s.run_out()

    done = kafka(body, lambda v, a: BAD, retries=0, kept=kept)

    assert [letter.key for letter in done.kept.letters] == [b"a", None, b"c"]
    for offset, document in enumerate(done.kept.documents):
        info = document["KafkaBatchInfo"]
        assert info["batchSize"] == 1
        assert set(info["recordInfo"]) == {"offset", "timestamp"}
        assert info["recordInfo"]["offset"] == str(offset)
        assert KafkaScene.values(document["payload"]) == [offset]
        assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"


def test_1_11_a_batch_is_told_by_its_offsets_and_times_in_milliseconds():
    async def body(s):
        s.put(b"a", b"b")
        await s.run_out()

    info = kafka(body, lambda v, a: BAD, retries=0).kept.documents[0]["KafkaBatchInfo"]

    assert set(info) == {"batchSize", "bootstrapServers", "payloadSize", "recordsInfo"}
    assert info["recordsInfo"] == {
        "topic-0": {
            "firstRecordOffset": "0",
            "lastRecordOffset": "1",
            "firstRecordTimestamp": "2023-11-14T22:13:20.000Z",
            "lastRecordTimestamp": "2023-11-14T22:13:20.000Z",
        }
    }


def test_10_01_a_mapping_s_arn_is_unqualified_and_its_condition_is_that_of_streams():
    done = scene(offering(3), lambda v, a: BAD, make=Scene, retries=0)

    context = done.kept.documents[0]["requestContext"]
    assert context["functionArn"] == ARN
    assert context["condition"] == "RetryAttemptsExhausted"


def test_10_03_an_exception_that_goes_on_is_unhandled_and_one_that_grew_too_old_has_no_response():
    raised = kafka(offering(1), lambda v, a: BAD, retries=0).kept.documents[0]
    assert raised["responseContext"]["functionError"] == "Unhandled"

    async def old(s):
        s.put(b"a")
        await s.run_out()

    aged = kafka(old, lambda v, a: BAD, retry={"age_seconds_max": 150}).kept.documents[0]
    assert "responseContext" not in aged

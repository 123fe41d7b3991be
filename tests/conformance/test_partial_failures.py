"""Lambda's table of what a function may answer about its batch (1.8; lines 9.1 and 9.2), one test
a cell. Streams go by the lowest position, queues and Kafka by what is listed."""

from __future__ import annotations

import orjson
import pytest

from kafka_scene import KafkaScene
from lane_scene import BAD, Scene, scene
from listed import LANE, Listed
from sqs_scene import FifoScene, SqsScene
from streamfaas.flow.ledger import Checkpoint, Receipts
from streamfaas.flow.outcome import Failure, Fault, Success

COUNT = 8
TIMEOUT = Failure(Fault.TIMEOUT, "Sandbox.Timedout", "Task timed out after 1.00 seconds")


class Streams(Scene):
    """As Kinesis and DynamoDB: identifiers are texts."""

    def __init__(self, answer, **options):
        super().__init__(answer, source=Listed(), **options)


IDENTIFIERS = {
    Streams: str,
    SqsScene: str,
    FifoScene: str,
    KafkaScene: lambda position: {"partition": "topic-0", "offset": position},
}
"""What a function calls a record."""

sources = pytest.mark.parametrize("source", IDENTIFIERS, ids=["streams", "sqs", "fifo", "kafka"])


def identified(source, *positions):
    """The answer that names these records."""
    return listing(*map(IDENTIFIERS[source], positions))


def listing(*identifiers):
    return {"batchItemFailures": [{"itemIdentifier": each} for each in identifiers]}


def run(source, *answers, **options):
    """A batch, and a function that answers so, and afterwards that all is well."""
    left = [each if isinstance(each, Failure) else Success(_text(each)) for each in answers]

    async def body(s):
        s.offer(COUNT)
        await s.run_out()

    def answer(values, attempt):
        return left.pop(0) if left else Success(b"null")

    return scene(body, answer, make=source, **{"policy": {"partial": True}, **options})


def _text(answer):
    return answer if isinstance(answer, bytes) else orjson.dumps(answer)


def calls(done):
    return [values for _, values, _ in done.calls]


WHOLE = list(range(COUNT))


def succeeded(done):
    """The batch ran once, and is finished with."""
    finished = (
        Receipts(LANE, finished=((0, COUNT - 1),))
        if isinstance(done, SqsScene)
        else Checkpoint(LANE, COUNT - 1)
    )
    return calls(done) == [WHOLE] and done.source.settled == [finished]


def failed_whole(done):
    """All of the batch goes back to its queue, or is run once more, and it counts."""
    if isinstance(done, SqsScene):
        (settlement,) = done.source.settled
        back = Receipts(LANE, released=((0, COUNT - 1),), at=settlement.at, counted=True)
        return calls(done) == [WHOLE] and settlement == back
    attempts = [attempt for _, _, attempt in done.calls]
    return calls(done) == [WHOLE, WHOLE] and attempts == [0, 1] and done.checkpoint == COUNT - 1


# -- nothing failed


@sources
@pytest.mark.parametrize(
    "answer",
    [listing(), {"batchItemFailures": None}, {}, None, "", []],
    ids=["empty-list", "null-list", "empty-object", "null", "empty-text", "bare-list"],
)
def test_1_8_an_answer_that_names_nothing_is_a_success(source, answer):
    assert succeeded(run(source, answer))


# -- records are named


def test_1_8_streams_go_on_from_the_lowest_record_named_and_what_is_before_it_is_done():
    done = run(Streams, identified(Streams, 6, 3))

    assert calls(done) == [WHOLE, [3, 4, 5, 6, 7]]
    assert [each.position for each in done.source.settled] == [2, 7]


def test_1_8_queues_keep_the_messages_named_and_delete_the_others():
    done = run(SqsScene, identified(SqsScene, 6, 3))

    deleted, kept = done.source.settled
    assert calls(done) == [WHOLE]
    assert deleted == Receipts(LANE, finished=((0, 2), (4, 5), (7, 7)))
    assert kept == Receipts(LANE, released=((3, 3), (6, 6)), at=kept.at)


def test_1_8_a_fifo_queue_keeps_all_from_the_first_message_named_on():
    done = run(FifoScene, identified(FifoScene, 6, 3))

    deleted, kept = done.source.settled
    assert calls(done) == [WHOLE]
    assert deleted == Receipts(LANE, finished=((0, 2),))
    assert kept == Receipts(LANE, released=((3, 7),), at=kept.at)


def test_1_8_kafka_runs_only_the_records_named_again_and_the_commit_waits_below_them():
    done = run(KafkaScene, identified(KafkaScene, 6, 3))

    assert calls(done) == [WHOLE, [3, 6]]
    assert [each.position for each in done.source.settled] == [2, 7]


# -- the whole batch failed


@sources
@pytest.mark.parametrize("identifier", ["", None], ids=["empty", "null"])
def test_1_8_an_identifier_that_is_nothing_fails_the_whole_batch(source, identifier):
    assert failed_whole(run(source, listing(identifier)))


@sources
@pytest.mark.parametrize("answer", [{"foo": []}, {"batchItemFailures": [{"foo": "1"}]}])
def test_1_8_a_wrong_key_fails_the_whole_batch(source, answer):
    assert failed_whole(run(source, answer))


@sources
@pytest.mark.parametrize("beside", [(), (3,)], ids=["alone", "beside-a-good-one"])
def test_1_8_an_identifier_of_no_record_of_the_batch_fails_the_whole_batch(source, beside):
    assert failed_whole(run(source, identified(source, COUNT, *beside)))


@pytest.mark.parametrize(
    "identifier",
    [
        {"partition": "topic-1", "offset": 3},
        {"partition": "topic-0"},
        {"partition": "topic-0", "offset": "3"},
        {"partition": "topic-0", "offset": 3.0},
        {"partition": "topic-0", "offset": False},
        {"partition": "topic-0", "offset": -1},
        "topic-0-3",
        3,
    ],
    ids=str,
)
def test_1_8_kafka_an_identifier_is_an_object_of_partition_and_offset(identifier):
    assert failed_whole(run(KafkaScene, listing(identifier)))


@sources
@pytest.mark.parametrize(
    "answer",
    [b"{", b"not json", b"[1]", b"7", b"true", b'"text"', b'{"batchItemFailures":{"0":1}}'],
    ids=["cut-short", "no-json", "list", "number", "truth", "text", "no-list"],
)
def test_1_8_an_answer_that_is_no_report_fails_the_whole_batch(source, answer):
    assert failed_whole(run(source, answer))


@sources
def test_1_8_an_identifier_that_is_no_text_in_any_encoding_fails_the_whole_batch(source):
    assert failed_whole(run(source, b'{"batchItemFailures":[{"itemIdentifier":"\\ud800"}]}'))


@sources
@pytest.mark.parametrize("failure", [BAD, TIMEOUT], ids=["exception", "timeout"])
def test_1_8_an_exception_or_a_timeout_fails_the_whole_batch(source, failure):
    assert failed_whole(run(source, failure))


@sources
def test_1_8_without_the_setting_an_answer_says_nothing_about_records(source):
    assert succeeded(run(source, identified(source, 3), policy={}))


# -- and when retries run out


def exhausted(source, retries, answer):
    done = run(source, *[answer] * (retries + 1), retries=retries)
    (document,) = done.kept.documents
    assert document["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": None,
    }
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == retries + 1
    return document


def test_9_02_retry_3_and_a_partial_answer_of_a_stream_tell_of_four_invokes_and_the_rest():
    document = exhausted(Streams, 3, identified(Streams, 6))

    assert document["ListedBatchInfo"]["batchSize"] == 2
    assert document["payload"] == [6, 7]


def test_9_02_retry_3_and_a_partial_answer_of_kafka_tell_of_four_invokes_and_the_rest():
    document = exhausted(KafkaScene, 3, identified(KafkaScene, 6))

    assert document["KafkaBatchInfo"]["batchSize"] == 1
    assert KafkaScene.values(document["payload"]) == [6]


@pytest.mark.parametrize("source", [Streams, KafkaScene], ids=["streams", "kafka"])
def test_10_03_a_bad_report_that_goes_on_has_a_function_error_that_is_null(source):
    exhausted(source, 1, listing(""))


def test_9_02_messages_that_have_failed_too_often_are_put_aside_and_no_other_is():
    done = run(SqsScene, identified(SqsScene, 6, 3), retries=3, deliveries=3)

    (document,) = done.kept.documents
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 4
    assert document["SQSBatchInfo"]["messageIds"] == ["3", "6"]
    finished = [each for settled in done.source.settled for each in settled.finished]
    assert sorted(finished) == [(0, 2), (3, 3), (4, 5), (6, 6), (7, 7)]


def test_9_02_of_a_group_only_the_message_that_failed_is_put_aside_and_the_others_run_on():
    done = run(FifoScene, identified(FifoScene, 3), retries=3, deliveries=3)

    (document,) = done.kept.documents
    assert document["SQSBatchInfo"]["messageIds"] == ["3"]
    assert calls(done) == [WHOLE, [4, 5, 6, 7]]
    finished = [settled.finished for settled in done.source.settled]
    assert finished == [((0, 2),), ((3, 3),), ((4, 7),)]

"""A queue as a source, on real servers: what is received, kept, deleted, and given back."""

import itertools
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import orjson
import pytest
import uvloop

import queue_stub
from source_subjects import loop_clock
from streamfaas.flow.batch import Batch, BatchPolicy
from streamfaas.flow.errors import Gone, Refused, Unreachable
from streamfaas.flow.outcome import Failure, Fault
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import Moment, RetryPolicy
from streamfaas.sources.sqs import Sqs, SqsOptions, hand, polling
from streamfaas.telemetry.signals import DaemonStepped, SourceChanged
from streamfaas.testing.conformance import driven
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.sqs_event import RECEIPT, message_id

QUEUES = itertools.count()
BAD = Failure(Fault.FUNCTION, "KeyError", "'total'")
MOMENT = Moment(Instant(0.0), 0.0, 0.0, 0)


class Scene:
    """A queue, a source of it, and the service's own client as somebody else."""

    def __init__(self, server, client, name, url):
        self.server, self.client, self.name, self.url = server, client, name, url
        self.free = 100
        self.signals = []

    def source(self, access=None, **options):
        asked = {"visibility_seconds": 30, "wait_seconds": 1, "parallel": 4, **options}
        return Sqs(
            "shop/orders",
            SqsOptions(access or self.server.access, self.name, **asked),
            room=lambda: self.free,
            clock=loop_clock,
            emit=self.signals.append,
        )

    async def send(self, *bodies, group=None):
        for body in bodies:
            more = {} if group is None else {"MessageGroupId": group,
                                             "MessageDeduplicationId": body}  # fmt: skip
            await self.client.send_message(QueueUrl=self.url, MessageBody=body, **more)

    async def receive(self):
        """What somebody else gets."""
        answer = await self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"]
        )
        return {
            each["Body"]: int(each["Attributes"]["ApproximateReceiveCount"])
            for each in answer.get("Messages", ())
        }

    async def waiting(self):
        answer = await self.client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    @property
    def states(self):
        """Those that followed one another; a reason may change while a state lasts."""
        found = (each.state for each in self.signals if isinstance(each, SourceChanged))
        return [state for state, _ in itertools.groupby(found)]

    @property
    def told(self):
        warnings = [each.detail for each in self.signals if isinstance(each, DaemonStepped)]
        return " ".join(warnings)


@asynccontextmanager
async def scene(server, *, fifo=False, **attributes):
    name = f"source-{next(QUEUES)}" + (".fifo" if fifo else "")
    async with server.client("sqs") as client:
        more = {"FifoQueue": "true"} if fifo else {}
        url = (await client.create_queue(QueueName=name, Attributes={**attributes, **more}))[
            "QueueUrl"
        ]
        yield Scene(server, client, name, url)
        await client.delete_queue(QueueUrl=url)


def run(main):
    uvloop.run(main())


async def has_waiting(it, count):
    with anyio.fail_after(15):
        while await it.waiting() != count:  # noqa: ASYNC110 - it is another process that changes
            await anyio.sleep(0.05)


async def stands(source, state):
    await until(lambda: source.view().state == state)


async def until(condition):
    with anyio.fail_after(15):
        while not condition():  # noqa: ASYNC110 - nothing rings when it comes true
            await anyio.sleep(0.05)


def bodies(driver):
    return [each.value.decode() for each in driver.seen]


async def taking(driver, seconds):
    """Steps for so long, as an engine would that has room."""
    with anyio.move_on_after(seconds):
        while True:
            await driver.step()


async def taking_until(driver, condition):
    """Steps until it is so."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(taking, driver, 60)
        await until(condition)
        tasks.cancel_scope.cancel()


@pytest.mark.slow
def test_nothing_is_received_that_no_worker_is_free_for(aws_server):
    async def main():
        async with scene(aws_server) as it:
            await it.send(*map(str, range(20)))
            it.free = 0
            async with driven(it.source(batch=BatchPolicy(records_max=3))) as driver:
                await taking(driver, 0.5)
                assert bodies(driver) == []
                assert await it.waiting() == 20
                it.free = 2
                await driver.take(6)
                it.free = 0
                await taking(driver, 0.5)
                assert len(driver.seen) == 6
                assert await it.waiting() == 14

    run(main)


@pytest.mark.slow
def test_while_no_lane_is_to_get_anything_a_pending_receive_is_cut_off_and_nothing_is_counted(
    aws_server,
):
    async def main():
        async with scene(aws_server) as it, driven(it.source(wait_seconds=20)) as driver:
            polling_ = driver.source._polling
            await taking_until(driver, lambda: polling_.asking == 1)  # a long poll is pending
            lanes, _ = set(driver.ready), driver.ready.clear()
            driver.source.wake()
            await it.send("a")  # which that poll may bring, once
            await taking_until(driver, lambda: polling_.asking == 0)
            await taking(driver, 2.0)
            assert polling_.asking == 0
            assert bodies(driver) == []
            driver.ready |= lanes
            driver.source.wake()
            await driver.take(1)
            (run_,) = driver.taken
            assert run_.deliveries == 0
            (told,) = orjson.loads(driver.source.event(Batch((run_,))))["Records"]
            receives = int(told["attributes"]["ApproximateReceiveCount"])
            assert receives <= 2, "it was not received over and over"
            await driver.finish_all()

    run(main)


@pytest.mark.slow
def test_what_is_in_hand_stays_hidden_for_longer_than_its_timeout(aws_server):
    async def main():
        async with scene(aws_server) as it:
            await it.send("a", "b")
            async with driven(it.source(visibility_seconds=2)) as driver:
                await driver.take(2)
                it.free = 0  # or it would ask for more
                for _ in range(7):
                    await anyio.sleep(0.5)
                    assert await it.receive() == {}
                await driver.finish_all()
            assert await it.waiting() == 0
            assert it.told == ""

    run(main)


class Stammering(queue_stub.Queue):
    """Hands out what it has handed out just before, and each message twice in one answer."""

    def __init__(self):
        super().__init__(10)
        self.before, self.deleted = [], []

    def answer(self, operation, asked):
        if operation == "DeleteMessageBatch":
            self.deleted += [entry["ReceiptHandle"] for entry in asked["Entries"]]
        if operation != "ReceiveMessage":
            return super().answer(operation, asked)
        new = [self.message(), self.message()] if len(self.before) < 6 else []
        some = [*self.before[-2:], *new]
        self.before += new
        return {"Messages": [{**m, "ReceiptHandle": f"{m['MessageId']} {n}"}
                             for n in range(2) for m in some]}  # fmt: skip


@pytest.mark.slow
def test_what_comes_twice_in_one_answer_or_again_runs_once_and_the_newest_receipt_deletes_it():
    async def main():
        stub = Stammering()
        async with queue_stub.serving(stub) as url:
            it = Scene(None, None, "bench", url)
            source = it.source(AwsAccess("us-east-1", url, "test", "a-secret"))
            async with driven(source) as driver:
                await driver.take(6)
                await driver.finish_all()
                ids = {message_id(record).decode() for record in driver.seen}
                assert ids == {message["MessageId"] for message in stub.before}
                assert len(driver.seen) == 6
                assert sorted(stub.deleted) == sorted(f"{each} 1" for each in ids)

    run(main)


class Hanging(queue_stub.Queue):
    """Says nothing to so many of each operation."""

    def __init__(self):
        super().__init__(10)
        self.hanging, self.asked = Counter(), Counter()

    def answer(self, operation, asked):
        self.asked[operation] += 1
        self.hanging[operation] -= 1
        return None if self.hanging[operation] >= 0 else super().answer(operation, asked)


@pytest.mark.slow
def test_what_is_in_hand_is_seen_to_while_other_requests_hang():
    async def main():
        stub = Hanging()
        async with queue_stub.serving(stub) as url:
            it = Scene(None, None, "bench", url)
            access = AwsAccess("us-east-1", url, "test", "a-secret")
            source = it.source(access, visibility_seconds=1)
            async with driven(source) as driver:
                await driver.take(1)
                it.free = 0
                stub.hanging = Counter(GetQueueAttributes=1, ChangeMessageVisibilityBatch=2)
                source._look_at = Instant(0.0)
                before = stub.asked["GetQueueAttributes"]
                await until(lambda: stub.asked["ChangeMessageVisibilityBatch"] >= 6)
                assert stub.asked["GetQueueAttributes"] == before + 1, "it is still waited for"
                assert not it.told
                driver.taken.clear()

    run(main)


@pytest.mark.slow
def test_what_has_not_begun_is_given_back_once_nobody_reads_any_more(ministack):
    async def main():
        async with scene(ministack, fifo=True) as it:
            for group in "abcdef":
                await it.send(f"{group}1", f"{group}2", group=group)
            it.free = 1
            source = it.source(parallel=1)
            async with driven(source) as driver:
                while len(driver.seen) < 2:
                    await driver.step()
                assert len(source._gathering) > 0, "one receive brings several groups"
                await has_waiting(it, 10)  # though it is not closed yet
                assert bodies(driver) == ["a1", "a2"]
            again = await it.receive()
            assert set(again) >= {"a1", "a2"}, "what was in hand at the end is given back, too"

    run(main)


@pytest.mark.slow
def test_what_comes_again_while_it_is_in_hand_is_not_run_twice_and_the_newer_receipt_counts(
    ministack,
):
    async def main():
        async with scene(ministack) as it:
            await it.send("a")
            async with driven(it.source()) as driver:
                await driver.take(1)
                receipt = dict(driver.seen[0].headers)[RECEIPT].decode()
                await it.client.change_message_visibility(
                    QueueUrl=it.url, ReceiptHandle=receipt, VisibilityTimeout=0
                )
                await taking(driver, 1.5)
                assert bodies(driver) == ["a"]
                await driver.finish_all()
            assert await it.waiting() == 0
            assert await it.receive() == {}

    run(main)


@pytest.mark.slow
def test_what_is_lost_to_somebody_else_is_told_and_is_not_hidden_on(moto):
    async def main():
        async with scene(moto) as it:
            await it.send("a")
            async with driven(it.source(visibility_seconds=1)) as driver:
                await driver.take(1)
                it.free = 0
                receipt = dict(driver.seen[0].headers)[RECEIPT].decode()
                await it.client.delete_message(QueueUrl=it.url, ReceiptHandle=receipt)
                await until(lambda: it.told)
                assert "1 message in hand not hidden any more, which may come twice" in it.told
                await driver.finish_all()

    run(main)


@pytest.mark.slow
def test_deletes_and_receives_that_fail_are_asked_for_again(ministack_faults, monkeypatch):
    monkeypatch.setattr(polling, "BACKOFF", replace(polling.BACKOFF, backoff_seconds=0.05))

    async def main():
        async with scene(ministack_faults.server) as it:
            await it.send(*map(str, range(12)))
            throttled = {"error": {"code": "RequestThrottled", "status": 400}}
            source = it.source(ministack_faults.access, batch=BatchPolicy(records_max=3))
            async with driven(source) as driver:
                async with ministack_faults.of(
                    {"service": "sqs", "operation": "ReceiveMessage", **throttled}
                ):
                    await taking_until(driver, lambda: source.view().state == "degraded")
                    assert bodies(driver) == []
                    assert "RequestThrottled" in source.view().reason
                await driver.take(12)
                assert source.view().state == "running"
                gone = {"service": "sqs", "operation": "DeleteMessageBatch", "reset": True}
                async with ministack_faults.of(gone), anyio.create_task_group() as tasks:
                    tasks.start_soon(driver.finish_all)
                    await anyio.sleep(1)
                    await ministack_faults.of().__aenter__()  # and is mended while it is tried
                assert len(set(bodies(driver))) == 12
                assert it.states == ["running", "degraded", "running"]
            assert await it.waiting() == 0
            assert await it.receive() == {}

    run(main)


@pytest.mark.slow
def test_it_is_told_while_lanes_wait_for_their_deletes(ministack_faults, monkeypatch):
    monkeypatch.setattr(hand, "LATE_SECONDS", 0.3)

    async def main():
        async with scene(ministack_faults.server) as it:
            await it.send("a")
            gone = {"service": "sqs", "operation": "DeleteMessageBatch", "reset": True}
            source = it.source(ministack_faults.access)
            async with driven(source) as driver, anyio.create_task_group() as tasks:
                await driver.take(1)
                async with ministack_faults.of(gone):
                    tasks.start_soon(driver.finish_all)
                    await stands(source, "degraded")
                    await taking(driver, 1.5)  # what is received does not make it well
                    assert source.view().state == "degraded"
                    assert "cannot be deleted" in source.view().reason
                await stands(source, "running")
                assert it.states == ["running", "degraded", "running"]

    run(main)


@pytest.mark.slow
def test_who_may_not_delete_is_told_so_at_once(ministack_faults):
    async def main():
        async with scene(ministack_faults.server) as it:
            await it.send("a")
            denied = {"error": {"code": "AccessDeniedException", "status": 403}}
            async with driven(it.source(ministack_faults.access)) as driver:
                await driver.take(1)
                async with ministack_faults.of(
                    {"service": "sqs", "operation": "DeleteMessageBatch", **denied}
                ):
                    with pytest.raises(Refused, match="AccessDenied"):
                        await driver.finish_all()

    run(main)


@pytest.mark.slow
def test_a_queue_that_is_deleted_and_made_again_is_read_on(moto, monkeypatch):
    monkeypatch.setattr(polling, "BACKOFF", replace(polling.BACKOFF, backoff_seconds=0.05))

    async def main():
        async with scene(moto) as it:
            await it.send("a")
            source = it.source()
            async with driven(source) as driver:
                await driver.take(1)
                await it.client.delete_queue(QueueUrl=it.url)
                await driver.finish_all()  # it is gone with its queue
                await taking_until(driver, lambda: source.view().state == "degraded")
                assert "NonExistentQueue" in source.view().reason
                await it.client.create_queue(QueueName=it.name)
                await it.send("b")
                await driver.take(1)
                assert bodies(driver) == ["a", "b"]
                await driver.finish_all()
                assert source.view().state == "running"

    run(main)


@pytest.mark.slow
def test_a_queue_that_is_not_there_is_gone(moto):
    async def main():
        async with scene(moto) as it:
            source = it.source()
            source._queue.name = "no-such-queue"
            with pytest.raises(Gone):
                await source.open(lambda *_: None)
            await source.close()

    run(main)


@pytest.mark.slow
def test_those_behind_a_message_that_fails_are_not_counted_with_it(ministack):
    """Where there is a count to mind: one by one, until what failed together is done."""

    async def main():
        async with scene(ministack, fifo=True) as it:
            source = it.source(parallel=2, retries_max=9)
            await it.send(*(f"a{n}" for n in range(5)), group="a")
            async with driven(source) as driver:
                await driver.take(5)
                for _ in range(3):
                    for run_ in list(driver.taken):
                        await driver.release(run_, Instant(loop_clock() + 0.01), "it failed")
                    held = list(source.view().held.values())
                    assert [(lane.name) for lane in source.view().held] == ["a"]
                    assert held[0].reason == "it failed"
                    before = len(driver.seen)
                    await driver.take(1)
                    await taking(driver, 0.3)
                    assert bodies(driver)[before:] == ["a0"]
                await driver.finish_all()
                await driver.take(1)
                counts = [each.deliveries for each in driver.taken]
                assert bodies(driver)[-1] == "a1"
                assert counts == [1], "it was handed out once before, with all others"
                await driver.finish_all()

    run(main)


@pytest.mark.slow
def test_after_a_restart_those_behind_what_failed_are_not_tried_with_it(ministack):
    async def main():
        async with scene(ministack, fifo=True) as it:
            await it.send(*(f"a{n}" for n in range(5)), group="a")
            for _ in range(2):  # lives that end while all of it is in hand, having failed
                async with driven(it.source(parallel=2, retries_max=2)) as driver:
                    await driver.take(1)
            async with driven(it.source(parallel=2, retries_max=2)) as driver:
                for number in range(5):
                    assert bodies(driver) == [f"a{n}" for n in range(number)]
                    await driver.take(1)
                    await taking(driver, 0.1)
                    await driver.finish_all()

    run(main)


def redrive(server, dead, receives):
    arn = f"arn:aws:sqs:us-east-1:{server.account}:{dead.name}"
    return orjson.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(receives)}).decode()


@pytest.mark.slow
def test_what_came_for_the_last_time_is_told_and_is_not_waited_for_when_the_queue_has_moved_it(
    aws_server,
):
    async def main():
        async with (
            scene(aws_server) as dead,
            scene(aws_server, RedrivePolicy=redrive(aws_server, dead, 6)) as it,
        ):
            await it.send("a")
            source = it.source()
            async with driven(source) as driver:
                for receives in range(1, 7):
                    await driver.take(1)
                    (run_,) = driver.taken
                    assert it.told == ""
                    assert not source.judge(Batch((run_,)), BAD, RetryPolicy(), MOMENT).blocked
                    await driver.release(run_, Instant(loop_clock()), "it failed")
                    assert len(source.view().held) == (receives < 6)
                    assert source.view().blocked == {}
                with anyio.fail_after(15):
                    while await dead.waiting() != 1:
                        await taking(driver, 0.2)
            assert f"came 6 times: the queue moves what comes more often to {dead.name}" in it.told

    run(main)


@pytest.mark.slow
def test_the_last_time_that_the_queue_hands_a_message_out_it_goes_alone_though_it_never_ran(
    ministack,
):
    async def main():
        async with (
            scene(ministack) as dead,
            scene(ministack, RedrivePolicy=redrive(ministack, dead, 2)) as it,
        ):
            await it.send("a", "b", "c")
            async with driven(it.source()) as driver:
                await driver.take(3)
                assert {run_.lane.name for run_ in driver.taken} == {"slot-0"}
                for run_ in list(driver.taken):
                    await driver.release(run_, None)
                await driver.take(3)
                assert len({run_.lane for run_ in driver.taken}) == 3
                await driver.finish_all()

    run(main)


@pytest.mark.slow
def test_a_window_gathers_what_several_receives_bring(moto):
    async def main():
        async with scene(moto) as it:
            await it.send(*map(str, range(25)))
            policy = BatchPolicy(records_max=25, window_seconds=20.0)
            async with driven(it.source(batch=policy)) as driver:
                while len(driver.seen) < 25:
                    await driver.step()
                assert {run_.lane.name for run_ in driver.taken} == {"slot-0"}
                places = [run_.first for run_ in driver.taken]
                assert places == sorted(places)
                (told,) = orjson.loads(driver.source.event(Batch((driver.taken[0],))))["Records"]
                assert told["md5OfMessageAttributes"] is None, "as Lambda says it with a window"
                await driver.finish_all()
            assert await it.waiting() == 0

    run(main)


@pytest.mark.slow
def test_the_largest_message_comes_whole(ministack):
    """And what JSON has to write longer than it is."""

    async def main():
        async with scene(ministack) as it:
            text = '"\\\n\t' * 65_000
            await it.send(text)
            async with driven(it.source()) as driver:
                (record,) = await driver.take(1)
                (run_,) = driver.taken
                event = driver.source.event(Batch((run_,)))
                assert orjson.loads(event)["Records"][0]["body"] == text == record.value.decode()
                assert (
                    len(event) - 20 <= run_.event_bytes + len('{"Records":[]}') <= len(event) + 20
                )
                await driver.finish_all()

    run(main)


@pytest.mark.slow
def test_a_queue_that_is_not_there_is_sent_nothing_and_that_is_told_in_our_words(moto):
    async def main():
        async with scene(moto) as it:
            source = it.source()
            source._queue.name = "not-there"
            with pytest.raises(Gone):
                await source.open(lambda work, name: None)
            await source.close()
            with pytest.raises(Unreachable, match=r"^not-there is not open: streamfaas status"):
                async with source.sender(""):
                    pass

    run(main)


@pytest.mark.slow
def test_a_test_event_is_known_by_its_message_id_and_may_have_a_group(ministack):
    from streamfaas.flow.errors import CannotSend
    from streamfaas.sources import Message

    async def main():
        async with scene(ministack, fifo=True) as it, driven(it.source()) as driver:
            async with driver.source.sender("") as sender:
                assert sender.target == f"queue {it.name}"
                sent = await sender.send(Message(b"x", b"g", (("kind", b"a"),)))
                for wrong in (Message(None), Message(b"x", partition=1), Message(b"\xff")):
                    with pytest.raises(CannotSend):
                        await sender.send(wrong)
            (record,) = await driver.take(1)
            assert record.key == b"g"
            assert dict(record.headers)["kind"] == b"a"
            assert driver.source.known_by(record) == message_id(record) == sent.key
            with pytest.raises(CannotSend):
                async with driver.source.sender("a topic"):
                    pass

    run(main)

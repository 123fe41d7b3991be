import itertools

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_scene import BAD, Kept, scene
from listed import LANE
from streamfaas.flow.ledger import Checkpoint, Receipts
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.telemetry import signals


def test_a_batch_is_run_and_its_checkpoint_settled():
    async def body(s):
        s.offer(25)
        await s.run_out()

    done = scene(body, lambda values, attempt: Success(b"null"))
    assert [len(values) for _, values, _ in done.calls] == [10, 10, 5]
    assert done.source.settled[-1] == Checkpoint(LANE, 24)


def test_a_failing_batch_is_tried_again_with_growing_pauses_and_nothing_overtakes_it():
    async def body(s):
        s.offer(20)
        await s.run_out()

    done = scene(body, lambda values, attempt: BAD if attempt < 4 else Success(b""))
    assert [attempt for _, _, attempt in done.calls[:5]] == [0, 1, 2, 3, 4]
    assert all(values == list(range(10)) for _, values, _ in done.calls[:5])
    starts = [start for start, _, _ in done.calls[:5]]
    assert [b - a for a, b in itertools.pairwise(starts)] == [1.0, 2.0, 4.0, 8.0]
    assert done.checkpoint == 19


def test_without_a_destination_a_lane_blocks_in_sight_and_heals_by_itself():
    async def body(s):
        s.offer(10)
        await s.run_out()

    done = scene(body, lambda values, attempt: BAD if attempt < 20 else Success(b""))
    retrying = done.seen(signals.LaneRetrying)
    assert [signal.blocked for signal in retrying] == [False] * 4 + [True] * 16
    assert max(signal.wait_seconds for signal in retrying) == 60.0
    assert done.seen(signals.LaneHealed)
    assert done.kept.documents == []
    assert done.checkpoint == 9


def test_with_a_destination_ten_retries_then_the_batch_goes_there_before_the_checkpoint():
    settled_when_sent = []

    class Watching(Kept):
        async def send(self, letters):
            settled_when_sent.append(list(holder[0].source.settled))
            await super().send(letters)

    holder = []

    async def body(s):
        holder.append(s)
        s.offer(10)
        await s.run_out()

    done = scene(body, lambda values, attempt: BAD, retries=10, kept=Watching())
    assert len(done.calls) == 11
    assert settled_when_sent == [[]]
    (document,) = done.kept.documents
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 11
    assert document["responseContext"]["functionError"] == "Unhandled"
    assert document["ListedBatchInfo"] == {"batchSize": 10}
    assert document["payload"] == list(range(10))
    assert document["timestamp"] == "2023-11-14T22:18:23.000Z"
    assert done.checkpoint == 9


def test_a_destination_that_is_down_holds_the_lane_and_nothing_is_lost():
    async def body(s):
        s.offer(10)
        await s.run_out()

    done = scene(body, lambda values, attempt: BAD, retries=0, kept=Kept(down=3))
    assert len(done.seen(signals.DestinationFailed)) == 3
    assert len(done.kept.documents) == 1
    assert len(done.calls) == 1  # the function is not run again for the destination's sake
    assert done.checkpoint == 9


def test_throttled_and_aborted_calls_use_up_no_attempt():
    answers = [Failure(Fault.THROTTLED, "T", ""), Failure(Fault.ABORTED, "A", "")] * 20

    async def body(s):
        s.offer(10)
        await s.run_out()

    done = scene(body, lambda v, a: answers.pop() if answers else Success(b""), retries=1)
    assert all(attempt == 0 for _, _, attempt in done.calls)
    assert done.kept.documents == []


def test_what_a_worker_left_out_runs_next():
    async def body(s):
        s.offer(10)
        await s.run_out()

    def answer(values, attempt):
        return Success(b"", until=values[0] + 3 if len(values) > 3 else None)

    done = scene(body, answer)
    ran = [values for _, values, _ in done.calls]
    assert ran == [list(range(10)), list(range(3, 10)), list(range(6, 10)), [9]]
    told = [(each.first, each.last, each.records) for each in done.seen(signals.InvocationEnded)]
    assert told == [(0, 2, 3), (3, 5, 3), (6, 8, 3), (9, 9, 1)]  # not what they were given
    assert done.checkpoint == 9


def test_a_record_that_alone_is_too_large_is_put_aside_at_once():
    async def body(s):
        s.offer(5)
        await s.run_out()

    def answer(values, attempt):
        if values[0] == 2:
            until = 3 if len(values) > 1 else None
            return Failure(Fault.OVERSIZE, "MaximumPayloadSizeExceeded", "too large", until=until)
        return Success(b"", until=2 if 2 in values else None)

    done = scene(body, answer)
    (document,) = done.kept.documents
    assert document["requestContext"]["condition"] == "MaximumPayloadSizeExceeded"
    assert document["responseContext"] is None
    assert document["payload"] == [2]
    assert done.checkpoint == 4


def test_damaged_bytes_are_read_again_once_and_then_block_until_they_are_whole():
    async def body(s):
        s.source.damaged = {4: 3}
        s.source.on_rewind = lambda position: s.offer(10 - position, start=position)
        s.offer(10)
        await s.run_out()

    done = scene(body, lambda values, attempt: Success(b""), retries=1)
    assert done.source.rewound == [0, 0, 0]
    assert [signal.blocked for signal in done.seen(signals.LaneRetrying)] == [False, True, True]
    assert done.kept.documents == []  # it is not the function's failure
    assert done.checkpoint == 9
    status = done.lane.status  # no count falls: what is read again was given back
    assert (status.received, status.given_back, status.records) == (40, 30, 10)


def test_a_lane_is_as_old_as_the_oldest_record_in_hand():
    async def body(s):
        assert s.lane.age_seconds == 0
        s.put(b"a", b"a", age=50.0)
        s.put(b"a", start=2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            await anyio.sleep(10)  # it is being tried
            assert s.lane.age_seconds == 60
            await anyio.sleep(100)
            assert s.lane.age_seconds == 0
            tasks.cancel_scope.cancel()
        s.offer(1, start=3)  # a record without a time
        assert s.lane.age_seconds is None

    def answer(values, attempt):
        return BAD if anyio.current_time() < 15 else Success(b"")

    scene(body, answer, size=2)


def test_a_lane_that_closes_while_it_backs_off_settles_nothing_more():
    async def body(s):
        s.offer(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            await anyio.sleep(100)
            s.lane.close()

    done = scene(body, lambda values, attempt: BAD)
    assert done.source.settled == []
    assert done.lane.unfinished == 10


def test_a_window_gathers_and_a_full_batch_does_not_wait():
    async def body(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            s.offer(3)
            await anyio.sleep(4)
            s.offer(3, start=3)
            await anyio.sleep(10)
            s.offer(10, start=6)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()

    done = scene(body, lambda values, attempt: Success(b""), window=5.0)
    assert [(round(start, 3), len(values)) for start, values, _ in done.calls] == [
        (5.0, 6),
        (14.0, 10),
    ]


def test_a_queue_gets_back_what_failed_and_goes_on_with_the_next():
    async def body(s):
        s.offer(1)
        s.offer(1, start=1)
        await s.run_out()

    done = scene(body, lambda v, a: BAD if v == [0] else Success(b""), size=1, queue=True)
    assert done.source.settled == [
        Receipts(LANE, released=((0, 0),), at=1.0, counted=True),
        Receipts(LANE, finished=((1, 1),)),
    ]
    assert len(done.calls) == 2


@settings(max_examples=150)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.lists(st.sampled_from(["ok", "bad", "throttled", "cut", "damaged"]), max_size=25),
)
def test_whatever_happens_the_checkpoint_never_passes_unfinished_work(count, size, outcomes):
    finished, violations = set(), []

    def answer(values, attempt):
        match outcomes.pop() if outcomes else "ok":
            case "bad":
                return BAD
            case "throttled":
                return Failure(Fault.THROTTLED, "T", "")
            case "damaged":
                return Failure(Fault.CORRUPT, "C", "")
            case "cut" if len(values) > 1:
                finished.update(values[:1])
                return Success(b"", until=values[1])
        finished.update(values)
        return Success(b"")

    async def body(s):
        settle = s.source.settle

        async def watched(settlement):
            if not set(range(settlement.position + 1)) <= finished:
                violations.append(settlement)
            await settle(settlement)

        s.source.settle = watched
        s.source.on_rewind = lambda position: s.offer(count - position, start=position)
        s.offer(count)
        await s.run_out()

    done = scene(body, answer, size=size)
    assert violations == []
    assert done.checkpoint == count - 1
    positions = [settlement.position for settlement in done.source.settled]
    assert positions == sorted(set(positions))

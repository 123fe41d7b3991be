"""The contract as a lane carries it out: splits, reports, ages, filters, strands and letters."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

import anyio
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_scene import BAD, Kept, MemoryOutbox, scene
from listed import LANE, Listed
from listed import records as made
from streamfaas.engine import lane as lane_room
from streamfaas.flow.errors import StoreError, TooLarge, Unreachable
from streamfaas.flow.ledger import Checkpoint, Receipts
from streamfaas.flow.letters import Letter
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Extent, Records, run_of, run_of_records
from streamfaas.flow.verdict import Condition
from streamfaas.store.intents import INTENDED, Intent
from streamfaas.telemetry import signals

FINE = Success(b"null")


def failing_at(*poison):
    return lambda values, attempt: BAD if set(values) & set(poison) else FINE


def reported(*failed):
    """A function that reports what it failed at."""

    def answer(values, attempt):
        items = [{"itemIdentifier": str(v)} for v in values if v in failed]
        return Success(orjson.dumps({"batchItemFailures": items}))

    return answer


class Odd:
    """Wants records at odd positions."""

    def wants(self, metadata, data):
        return metadata["position"] % 2 == 1


def balanced(done):
    """Whether it is known of each record that was received what became of it."""
    status = done.lane.status
    return status.in_hand == 0 and status.received > 0


def offering(count):
    async def body(s):
        s.offer(count)
        await s.run_out()

    return body


# -- splits and reports


def test_one_bad_record_goes_to_the_destination_alone_and_its_neighbours_are_delivered():
    done = scene(offering(10), failing_at(7), retries=2, retry={"bisect": True})

    (document,) = done.kept.documents
    assert document["payload"] == [7]
    assert document["requestContext"]["condition"] == Condition.EXHAUSTED
    assert done.lane.status.records == 9
    assert done.lane.status.set_aside == 1
    assert done.checkpoint == 9
    assert balanced(done)
    assert done.seen(signals.BatchSplit)[0].records == (5, 5)
    counted = document["requestContext"]["approximateInvokeCount"]
    assert counted == sum(7 in values for _, values, _ in done.calls)


def test_a_report_of_a_stream_goes_on_from_the_lowest_and_the_rest_is_put_aside():
    policy = {"partial": True}

    done = scene(offering(10), reported(6), retries=3, policy=policy)

    (document,) = done.kept.documents
    assert document["payload"] == [6, 7, 8, 9]
    assert document["requestContext"]["approximateInvokeCount"] == 4
    assert document["responseContext"]["functionError"] is None
    assert [values for _, values, _ in done.calls] == [list(range(10)), *[[6, 7, 8, 9]] * 3]
    assert done.source.settled[0] == Checkpoint(LANE, 5)
    assert balanced(done)


def test_records_that_nobody_wants_are_no_step_forward_of_a_report():
    """Found by the simulation: one attempt too many."""
    policy = {"partial": True, "filter": Odd()}

    done = scene(offering(4), reported(1), retries=1, policy=policy)

    assert [values for _, values, _ in done.calls] == [[1, 3], [1, 3]]
    (document,) = done.kept.documents
    assert document["requestContext"]["approximateInvokeCount"] == 2


def test_only_listed_records_run_again_and_the_next_batch_waits_for_them():
    source = Listed(style=Style.LISTED)
    tries = []

    def answer(values, attempt):
        tries.append(values)
        failed = [v for v in values if v in {2, 5}] if len(tries) < 3 else []
        return Success(
            orjson.dumps({"batchItemFailures": [{"itemIdentifier": str(v)} for v in failed]})
        )

    done = scene(offering(15), answer, policy={"partial": True}, source=source)

    assert tries == [list(range(10)), [2, 5], [2, 5], list(range(10, 15))]
    # finished later ones do not move the checkpoint past one that is not
    assert [one.position for one in done.source.settled] == [1, 9, 14]
    assert balanced(done)


def test_a_report_that_names_nothing_of_the_batch_fails_all_of_it():
    answers = [Success(b'{"batchItemFailures":[{"itemIdentifier":"77"}]}'), FINE]

    done = scene(offering(5), lambda v, a: answers.pop(0), policy={"partial": True})

    assert [attempt for _, _, attempt in done.calls] == [0, 1]
    (retrying,) = done.seen(signals.LaneRetrying)
    assert "names no record of the batch" in retrying.reason


def test_without_the_setting_an_answer_is_only_an_answer():
    done = scene(offering(5), reported(1))

    assert len(done.calls) == 1
    assert done.checkpoint == 4


def test_a_queue_gets_back_what_is_listed_and_no_more():
    done = scene(
        offering(4),
        reported(1, 2),
        queue=True,
        policy={"partial": True},
        source=Listed(queue=True, style=Style.LISTED),
    )

    finished, released = done.source.settled
    assert finished == Receipts(LANE, finished=((0, 0), (3, 3)))
    assert released == Receipts(LANE, released=((1, 2),), at=released.at)
    assert balanced(done)


# -- ages


def test_old_records_go_to_the_destination_unrun_and_young_ones_are_delivered():
    async def body(s):
        s.put(b"a", b"b", age=120)
        s.put(b"c", start=2)
        await s.run_out()

    done = scene(body, lambda v, a: FINE, retry={"age_seconds_max": 60})

    assert [values for _, values, _ in done.calls] == [[2]]
    (document,) = done.kept.documents
    assert document["payload"] == [0, 1]
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"
    assert document["requestContext"]["approximateInvokeCount"] == 1
    assert "responseContext" not in document
    assert done.lane.status.expired == 2
    assert done.checkpoint == 2
    assert balanced(done)


def test_records_grow_too_old_while_they_are_tried_again():
    async def body(s):
        s.put(b"a", age=0)
        await s.run_out()

    done = scene(body, lambda v, a: BAD, retry={"age_seconds_max": 60})

    (document,) = done.kept.documents
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"
    assert document["requestContext"]["approximateInvokeCount"] == len(done.calls) > 1
    assert all(start <= 60 for start, _, _ in done.calls)


# -- filters


def test_what_nobody_wants_is_not_run_and_still_moves_the_checkpoint():
    done = scene(offering(9), lambda v, a: FINE, policy={"filter": Odd()})

    assert [v for _, values, _ in done.calls for v in values] == [1, 3, 5, 7]
    assert done.lane.status.filtered == 5
    assert done.checkpoint == 8
    assert balanced(done)


def test_a_stretch_that_nobody_wants_moves_the_checkpoint_without_a_call():
    class Nothing:
        def wants(self, metadata, data):
            return False

    done = scene(offering(300), lambda v, a: FINE, policy={"filter": Nothing()})

    assert done.calls == []
    assert done.checkpoint == 299
    assert balanced(done)


@pytest.mark.parametrize("strands", [1, 3])
def test_damage_that_is_found_on_looking_is_read_again_and_what_lies_before_it_runs(strands):
    async def body(s):
        s.source.damaged = {}
        broken = {6}

        def records(batch):
            held = Listed.records(s.source, batch)
            if bad := [r.position for r in held if r.position in broken]:
                raise lane_room.CorruptBatch(bad[0], "bad checksum")
            return held

        def again(position):
            if len(s.source.rewound) > 2:
                broken.clear()
            s.put(*[b"k%d" % n for n in range(position, 10)], start=position)

        s.source.records, s.source.on_rewind = records, again
        s.put(*[b"k%d" % n for n in range(10)])
        await s.run_out()

    policy = {"strands": strands, "filter": Odd()}
    done = scene(body, lambda v, a: FINE, size=3, policy=policy)

    assert done.source.rewound == [6, 6, 6]
    ran = [v for _, values, _ in done.calls for v in values]
    assert sorted(ran) == [1, 3, 5, 7, 9]
    assert [r.blocked for r in done.seen(signals.LaneRetrying)] == [False, True, True]
    assert done.checkpoint == 9
    assert balanced(done)


def test_damage_where_no_record_lies_does_not_stop_the_lane():
    """Found by the simulation: the lane never read again."""

    async def body(s):
        def records(batch):
            if batch.last >= 7:
                raise lane_room.CorruptBatch(7, "bad checksum")
            return Listed.records(s.source, batch)

        s.source.records = records
        held = run_of_records(made(5, start=0))
        s.lane.offer(run_of(LANE, 0, 9, held.payload))
        await s.run_out()
        await anyio.sleep(1)
        s.source.records = lambda batch: Listed.records(s.source, batch)
        assert not s.lane.full
        s.offer(5, start=10)
        await s.run_out()

    done = scene(body, lambda v, a: FINE, policy={"filter": Odd()})

    assert [values for _, values, _ in done.calls] == [[1, 3], [11, 13]]
    assert done.checkpoint == 14


def test_damage_where_no_record_lies_does_not_take_back_what_other_strands_have_in_hand():
    """Found by the simulation: a record was finished with twice."""

    class Damaged(Records):
        def between(self, first, last):
            raise lane_room.CorruptBatch(first, "bad checksum")

        def extent(self, first, last):
            return Extent(0, 0, 0, 0.0, 0.0)

    async def body(s):
        s.lane.offer(run_of(LANE, 0, 4, Damaged(())))
        s.put(b"a", b"b", b"c", b"d", start=5)
        await s.run_out()

    done = scene(body, lambda v, a: FINE, policy={"strands": 2})

    assert done.source.rewound == []
    assert sorted(v for _, values, _ in done.calls for v in values) == [5, 6, 7, 8]
    assert done.checkpoint == 8


# -- strands


def test_a_failing_key_holds_its_own_strand_and_no_other():
    keys = [b"k%d" % (n % 20) for n in range(100)]

    def answer(values, attempt):
        return BAD if any(v % 20 == 4 for v in values) and attempt < 6 else FINE

    async def body(s):
        s.put(*keys)
        await s.run_until(lambda: s.lane.status.records >= 60)
        assert s.checkpoint is None or s.checkpoint < 4
        await s.run_out()

    done = scene(body, answer, policy={"strands": 5})

    assert done.checkpoint == 99
    assert balanced(done)


def test_a_lane_whose_strands_run_far_ahead_stops_reading(monkeypatch):
    monkeypatch.setattr(lane_room, "AHEAD_MAX", 50)

    async def stuck(values):
        await anyio.sleep(1000 if 0 in values else 0.01)
        return FINE

    async def body(s):
        for start in range(0, 200, 10):
            if s.lane.full:
                break
            s.put(*[b"k%d" % n for n in range(start, start + 10)], start=start)
            await anyio.sleep(1)
        assert 50 <= start < 70
        await anyio.sleep(2000)
        assert not s.lane.full

    async def running(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            await body(s)
            tasks.cancel_scope.cancel()

    done = scene(running, lambda v, a: stuck(v), policy={"strands": 4})
    (told,) = done.seen(signals.LaneFarAhead)
    assert told.positions >= 50
    assert told.unfinished < told.positions


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([None, b"a", b"b", b"c", b"d", b"e"]), min_size=1, max_size=40),
    st.integers(1, 6),
    st.integers(1, 5),
    st.lists(st.sampled_from(["ok", "bad", "throttled", "slow", "cut"]), max_size=40),
)
def test_keys_keep_their_order_and_no_checkpoint_passes_unfinished_work(
    keys, strands, size, outcomes
):
    finished, running, order, wrong = set(), set(), {}, []

    async def answer(values, attempt):
        mine = {keys[v] for v in values}
        wrong.extend(("two in flight", key) for key in mine & running)
        running.update(mine)
        chance = outcomes.pop() if outcomes else "ok"
        await anyio.sleep(5 if chance == "slow" else 0.1)
        running.difference_update(mine)
        if chance == "bad":
            return BAD
        if chance == "throttled":
            return Failure(Fault.THROTTLED, "T", "")
        done = values[:1] if chance == "cut" and len(values) > 1 else values
        for v in done:
            wrong.extend(("reordered", v) for w in order.get(keys[v], []) if w > v)
            order.setdefault(keys[v], []).append(v)
        finished.update(done)
        return Success(b"", until=None if done is values else values[1])

    async def body(s):
        settle = s.source.settle

        async def watched(settlement):
            if not set(range(settlement.position + 1)) <= finished:
                wrong.append(("early", settlement))
            await settle(settlement)

        s.source.settle = watched
        s.put(*keys)
        await s.run_out()

    done = scene(body, answer, size=size, policy={"strands": strands})

    assert wrong == []
    assert done.checkpoint == len(keys) - 1
    assert balanced(done)


# -- letters


def test_an_answer_reaches_the_success_destination_before_the_checkpoint_moves():
    kept = Kept(down=2)

    async def body(s):
        s.lane.policy.on_success.lane = s
        s.offer(10)
        await s.run_out()

    class Watching(Kept):
        async def send(self, letters):
            assert self.lane.source.settled == []
            await super().send(letters)

    kept = Watching(down=2)
    done = scene(body, lambda v, a: Success(b'{"sum":45}'), policy={"on_success": kept})

    (document,) = kept.documents
    assert document["requestContext"]["condition"] == "Success"
    assert document["responsePayload"] == {"sum": 45}
    assert document["requestPayload"] == list(range(10))
    assert len(done.calls) == 1
    assert done.checkpoint == 9


@pytest.mark.parametrize("outcome", [FINE, BAD], ids=["answer", "failure"])
def test_what_ends_while_the_lane_closes_is_still_told(outcome):
    """Found by the simulation: a function's work was thrown away at every clean stop."""
    outbox, answers = MemoryOutbox(), Kept()

    async def answer(values, attempt):
        await anyio.sleep(5)
        return outcome

    async def body(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            s.offer(3)
            await anyio.sleep(1)
            s.lane.close()

    policy = {"on_success": answers}
    done = scene(body, answer, retries=0, outbox=outbox, policy=policy)

    assert len(answers.documents + done.kept.documents) == 1
    assert done.checkpoint == 2


def test_a_disk_that_is_full_when_a_letter_is_ticked_off_is_no_fault_of_ours():
    """Found by the simulation: it ended the daemon."""

    class Full(MemoryOutbox):
        async def settled(self, mapping, lane, upto_position):
            raise StoreError("the disk is full")

    with pytest.raises(ExceptionGroup) as caught:
        scene(offering(3), lambda v, a: BAD, retries=0, outbox=Full())

    assert caught.group_contains(Unreachable, match="the disk is full")


def test_a_letter_is_written_down_before_it_is_sent_and_ticked_off_after():
    outbox = MemoryOutbox()

    class Watching(Kept):
        async def send(self, letters):
            assert [step for step, _ in outbox.steps] == ["intend"]
            await super().send(letters)

    done = scene(offering(3), lambda v, a: BAD, retries=0, kept=Watching(), outbox=outbox)

    assert [step for step, _ in outbox.steps] == ["intend", "delivered"]
    assert done.checkpoint == 2
    assert outbox.open() == []


@pytest.mark.parametrize("kind", ["failure", "success"])
@pytest.mark.parametrize("sent", [False, True])
def test_after_a_crash_a_letter_is_sent_on_and_the_function_does_not_run_again(kind, sent):
    outbox, kept = MemoryOutbox(), Kept()

    class Crashing(Kept):
        """Takes the letter or not, and then nobody is there any more."""

        async def send(self, letters):
            if sent:
                await kept.send(letters)
            await anyio.sleep_forever()

    answer = BAD if kind == "failure" else Success(b"1")
    way = {"on_success": Crashing()} if kind == "success" else {"set_aside": Crashing()}

    async def crash(s):
        s.offer(10)
        with anyio.move_on_after(5):
            await s.run_out()

    first = scene(crash, lambda v, a: answer, retries=0, policy=way, outbox=outbox)
    assert first.source.settled == []
    assert [one.state for one in outbox.open()] == [INTENDED]

    way = {"on_success": kept} if kind == "success" else {"set_aside": kept}

    async def again(s):
        await s.lane.open()
        s.offer(12)
        await s.run_out()

    def only_new(values, attempt):
        assert not set(values) & set(range(10)), "it was done with these"
        return FINE

    kept_before = len(kept.documents)
    second = scene(again, only_new, retries=0, policy=way, outbox=outbox)

    assert second.checkpoint == 11
    assert second.lane.status.set_aside == (10 if kind == "failure" else 0)
    assert second.lane.status.records == (2 if kind == "failure" else 12)
    about_the_first = [d for d in kept.documents if d["streamfaas"]["first"] == 0]
    assert len(about_the_first) == kept_before + 1
    assert len({d["streamfaas"]["id"] for d in about_the_first}) == 1
    assert outbox.open() == []


def letter_about(*ranges):
    """An outbox in which a letter about these positions has not been sent yet."""
    outbox = MemoryOutbox()
    outbox.intents["x"] = Intent(
        id="x", mapping=LANE.source, lane=LANE.name, ranges=ranges, destination="kept",
        kind="failure", condition=Condition.EXHAUSTED, count=2,
        letters=(Letter("x", b"{}"),), event=None, made_ms=0,
    )  # fmt: skip
    return outbox


class Slow(Kept):
    async def send(self, letters):
        await anyio.sleep(1)
        await super().send(letters)


def test_a_letter_of_before_the_crash_is_sent_by_one_strand():
    """Found by the simulation: two sent it at once, and the daemon ended."""

    async def body(s):
        keys = [key for key in (b"k%d" % n for n in range(50)) if crc32(key) % 2]
        await s.lane.open()
        s.put(*keys[:5])  # all of the second strand, but for what the letter is about
        await s.run_out()

    outbox = letter_about((1, 1), (3, 3))
    done = scene(body, lambda v, a: FINE, outbox=outbox, kept=Slow(), policy={"strands": 2})

    assert done.kept.documents == [{}]
    assert [values for _, values, _ in done.calls] == [[0, 2, 4]]
    assert done.checkpoint == 4


def test_a_letter_about_several_batches_is_sent_once():
    async def apart(s):
        async with anyio.create_task_group() as tasks:
            await s.lane.open()
            tasks.start_soon(s.lane.run)
            for start in (0, 2):
                s.offer(2, start=start)
                await anyio.sleep(5)
            tasks.cancel_scope.cancel()

    done = scene(apart, lambda v, a: FINE, outbox=letter_about((0, 3)))

    assert done.kept.documents == [{}]
    assert done.calls == []
    assert done.checkpoint == 3


def test_what_a_letter_is_about_may_come_again_from_a_queue_in_any_order():
    """Each of its records is left out, whichever comes first."""
    outbox = letter_about((3, 3), (7, 8))
    outbox.intents["x"] = replace(outbox.intents["x"], lane="")

    async def body(s):
        async with anyio.create_task_group() as tasks:
            await s.lane.open()
            tasks.start_soon(s.lane.run)
            for position in (8, 9, 3, 7):
                s.offer(1, start=position)
                while s.lane.unfinished:  # noqa: ASYNC110 - simulated time costs nothing
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    done = scene(body, lambda values, attempt: FINE, queue=True, outbox=outbox)

    assert [values for _, values, _ in done.calls] == [[9]]
    assert len(done.kept.letters) == 1
    assert done.lane.status.set_aside == 3
    assert outbox.open() == []


def test_a_letter_that_was_delivered_before_the_crash_is_not_sent_twice():
    outbox, kept = MemoryOutbox(), Kept()

    class Forgetful(Listed):
        async def settle(self, settlement):
            await anyio.sleep_forever()

    async def crash(s):
        s.offer(10)
        with anyio.move_on_after(5):
            await s.run_out()

    scene(crash, lambda v, a: BAD, retries=0, kept=kept, outbox=outbox, source=Forgetful())
    assert len(kept.documents) == 1

    async def again(s):
        await s.lane.open()
        s.offer(10)
        await s.run_out()

    done = scene(again, lambda v, a: FINE, kept=kept, outbox=outbox)

    assert done.calls == []
    assert len(kept.documents) == 1
    assert done.checkpoint == 9
    assert balanced(done)


def test_a_batch_that_a_person_skips_goes_to_the_destination_and_the_lane_goes_on():
    async def skipping(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            s.offer(20)
            while not s.lane.view().blocked:  # noqa: ASYNC110 - simulated time costs nothing
                await anyio.sleep(0.5)
            ((skipped, to),) = s.lane.skip()
            assert to == "kept"
            assert (skipped.first, skipped.last) == (0, 9)
            while s.lane.unfinished:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()

    done = scene(skipping, failing_at(3))

    (document,) = done.kept.documents
    assert document["requestContext"]["condition"] == "Skipped"
    assert document["payload"] == list(range(10))
    assert done.seen(signals.LaneHealed)
    assert done.checkpoint == 19
    assert balanced(done)


def test_what_waits_for_a_destination_that_is_down_can_be_sent_elsewhere():
    outbox, elsewhere = MemoryOutbox(), Kept()
    elsewhere.name = "elsewhere"

    async def skipping(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.lane.run)
            s.offer(20)
            while not s.lane.view().blocked:  # noqa: ASYNC110 - simulated time costs nothing
                await anyio.sleep(0.5)
            ((skipped, to),) = s.lane.skip(dry_run=True)
            assert ((skipped.first, skipped.last), to) == ((0, 9), "elsewhere")
            await anyio.sleep(100)
            assert s.lane.skip() == [(skipped, to)]
            while s.lane.unfinished:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()

    down = Kept(down=12)
    policy = {"last_resort": elsewhere}
    done = scene(skipping, failing_at(3, 13), retries=0, kept=down, policy=policy, outbox=outbox)

    (document,) = elsewhere.documents
    assert document["payload"] == list(range(10))
    assert [d["payload"] for d in down.documents] == [list(range(10, 20))]
    assert done.checkpoint == 19
    assert outbox.open() == []
    assert balanced(done)


def test_a_letter_that_is_never_taken_for_its_size_is_kept_elsewhere_and_the_lane_goes_on():
    elsewhere, outbox = Kept(), MemoryOutbox()
    elsewhere.name = "elsewhere"

    class Small(Kept):
        async def send(self, letters):
            if b"3" in letters[0].document:
                raise TooLarge("a letter is over the limit")
            await super().send(letters)

    policy = {"last_resort": elsewhere, "on_success": Small()}
    done = scene(offering(10), lambda v, a: Success(b"3"), policy=policy, outbox=outbox)

    (document,) = elsewhere.documents
    assert document["responsePayload"] == 3
    assert [failed.wait_seconds for failed in done.seen(signals.DestinationFailed)] == [0.0]
    assert done.checkpoint == 9
    assert outbox.open() == []
    assert not done.lane.view().blocked


class Narrow(Kept):
    """Takes what is no larger than `bytes_max`, and is told of the rest."""

    notes = True

    def __init__(self, bytes_max, down=0):
        super().__init__(down)
        self.bytes_max = bytes_max

    async def send(self, letters):
        if any(len(letter.document) > self.bytes_max for letter in letters):
            raise TooLarge("a letter is over the limit")
        await super().send(letters)


def test_who_cannot_take_a_large_letter_is_told_where_it_is():
    elsewhere, outbox, narrow = Kept(), MemoryOutbox(), Narrow(1_000)
    elsewhere.name = "elsewhere"
    policy = {"last_resort": elsewhere, "on_success": narrow}
    large = Success(b'{"a":"%s"}' % (b"x" * 20_000))
    done = scene(offering(10), lambda v, a: large, policy=policy, outbox=outbox)

    (whole,), (note,) = elsewhere.letters, narrow.letters
    assert note.id == whole.id
    document = orjson.loads(note.document)
    where = document["streamfaas"]
    assert where["whole"] == {"place": "elsewhere", "bytes": len(whole.document)}
    assert "requestPayload" not in document
    assert document["requestContext"] == orjson.loads(whole.document)["requestContext"]
    assert done.checkpoint == 9
    assert outbox.open() == []
    assert balanced(done)


def test_who_takes_not_even_a_note_holds_nothing_up():
    elsewhere, narrow = Kept(), Narrow(10)
    policy = {"last_resort": elsewhere, "on_success": narrow}
    done = scene(offering(3), lambda v, a: Success(b"3"), policy=policy, outbox=MemoryOutbox())

    assert len(elsewhere.letters) == 1
    assert narrow.letters == []
    assert done.checkpoint == 2


@pytest.mark.parametrize(("bytes_max", "where"), [(10, "elsewhere"), (100_000, "narrow")])
def test_it_is_told_where_a_letter_is_and_not_where_it_should_have_been(bytes_max, where):
    elsewhere, narrow, outbox = Kept(), Narrow(bytes_max), MemoryOutbox()
    elsewhere.name, narrow.name = "elsewhere", "narrow"
    policy = {"last_resort": elsewhere, "set_aside": narrow}
    done = scene(offering(3), lambda v, a: BAD, policy=policy, outbox=outbox, retries=0)

    assert {each.destination for each in done.seen(signals.BatchSetAside)} == {where}
    assert {each.elsewhere for each in done.seen(signals.BatchSetAside)} == {where == "elsewhere"}
    status = done.lane.status
    assert (status.set_aside, status.elsewhere) == (3, 3 if where == "elsewhere" else 0)
    assert {each.destination for each in outbox.intents.values()} == {where}


def test_a_note_is_sent_until_it_is_there():
    class Shaky(Narrow):
        async def send(self, letters):
            if b'"whole"' in letters[0].document and not self.told:
                self.told = True
                raise Unreachable("no route")
            await super().send(letters)

        told = False

    narrow = Shaky(600)
    policy = {"last_resort": Kept(), "on_success": narrow}
    large = Success(b'{"a":"%s"}' % (b"x" * 20_000))
    done = scene(offering(3), lambda v, a: large, policy=policy, outbox=MemoryOutbox())

    assert len(narrow.letters) == 1
    assert done.checkpoint == 2


def test_there_is_nothing_to_skip_where_nothing_fails():
    async def body(s):
        s.offer(5)
        await s.run_out()
        assert s.lane.skip() == []

    scene(body, lambda v, a: FINE)

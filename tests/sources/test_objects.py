from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object_scene import NAME, all_of, opened, put, sequencer_of, source, told, until
from source_subjects import Carrier
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Busy, CannotSend, CorruptBatch, Unreachable
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.record import Instant, Lane, run_of_records
from streamfaas.flow.verdict import Done, GiveUp, Moment, Release, RetryPolicy
from streamfaas.sources import Arrived, Message, Opened
from streamfaas.sources.objects.source import MALFORMED, judge
from streamfaas.store import inbox as rows
from streamfaas.store import keyed
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.testing.conformance import driven
from streamfaas.wire.s3_event import order_of

EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5) | st.none(), st.integers(0, 2)),
    max_size=25,
)
"""Key, sequencer (some have none), and how often it comes again."""


@pytest.mark.slow
@settings(max_examples=40)
@given(events=EVENTS, pages=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_whatever_comes_runs_once_and_what_waits_goes_by_its_sequencer(events, pages):
    async def main(folder):
        async with opened(Path(folder)) as store:
            made = source(store)
            await made.open(lambda work, name: None)
            distinct = {}
            for key, number, again in events:
                sequencer = "" if number is None else f"{number:X}"
                more = {"etag": f"e{len(distinct)}"} if number is None else {}
                event = put(key, sequencer, **more)
                identity = (key, sequencer) if sequencer else event.record
                new = identity not in distinct
                distinct.setdefault(identity, event)
                assert await made.inbox.take([event] * (again + 1)) == int(new)
            async with driven(source(store)) as driver:  # as after a restart
                found = await all_of(driver, len(distinct))
                assert {r.value for r in found} == {e.record for e in distinct.values()}
                for key in "abc":
                    ranks = [
                        order_of(sequencer_of(r))
                        for r in found
                        if r.key == key.encode() and sequencer_of(r)
                    ]
                    assert ranks == sorted(ranks)
                await driver.quiet()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))


def in_a_scene(work, **options):
    """Runs `work(driver, inbox, store)` on a source with a carrier."""

    async def main(folder):
        async with opened(Path(folder)) as store, driven(source(store, **options)) as driver:
            await work(driver, driver.source.inbox, store)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))


def test_an_older_event_that_comes_late_goes_before_what_has_not_begun_and_after_what_has():
    async def work(driver, inbox, store):
        await inbox.take([put("a", "5"), put("a", "7")])
        await driver.take(1)
        await inbox.take([put("a", "6"), put("a", "1")])
        await driver.finish_all()
        later = await all_of(driver, 3)
        assert [sequencer_of(r) for r in (driver.seen[0], *later)] == ["5", "1", "6", "7"]

    in_a_scene(work)


def test_an_older_event_that_was_never_handed_out_is_overtaken_by_none():
    async def work(driver, inbox, store):
        await inbox.take([put("a", "9")])
        await inbox.take([put("a", "10"), put("a", "8")])  # 8 < 9 < 10: by number, not by text
        assert [sequencer_of(r) for r in await all_of(driver, 3)] == ["8", "9", "10"]

    in_a_scene(work)


def test_a_key_that_fails_holds_up_no_other():
    async def work(driver, inbox, store):
        await inbox.take([put("a", "1"), put("a", "2"), put("b", "1")])
        await driver.take(2)
        (bad,) = [
            run for run in driver.taken if driver.source.records(Batch((run,)))[0].key == b"a"
        ]
        await driver.release(bad, Instant(asyncio.get_running_loop().time() + 3600), "it failed")
        await driver.finish_all()
        await inbox.take([put("c", "1")])
        assert [r.key for r in await all_of(driver, 1)] == [b"c"]
        view = driver.source.view()
        assert view.held[Lane(NAME, "uploads/a")].attempt == 1
        assert view.details["pending"] == 2
        await driver.quiet()

    in_a_scene(work)


def test_what_the_trigger_does_not_want_is_taken_and_never_comes():
    async def work(driver, inbox, store):
        wanted = put("in/ä b.jpg", "1")
        others = [
            put("out/a.jpg", "1"),
            put("in/a.png", "1"),
            put("in/a.jpg", "1", name="ObjectRemoved:Delete"),
            put("in/a.jpg", "1", name="ObjectTagging:Put"),
        ]
        assert await inbox.take([*others, wanted]) == 1
        (found,) = await all_of(driver, 1)
        assert found.key == "in/ä b.jpg".encode()
        assert told(found)["s3"]["object"]["key"] == "in/%C3%A4+b.jpg"
        info = driver.source.batch_info(Batch((run_of_records((found,), 0),)))
        assert info["S3BatchInfo"] == {
            "batchSize": 1,
            "bucketName": "uploads",
            "objects": [{"key": "in/%C3%A4+b.jpg", "sequencer": "1"}],
        }

    in_a_scene(work, prefix="in/ä", suffix=".jpg", events=("s3:ObjectCreated:*",))


def test_notifications_of_other_buckets_are_told_of_once_and_left_out():
    heard = []

    async def work(driver, inbox, store):
        await inbox.take([put("a", "1", bucket="others"), put("b", "1", bucket="others")])
        await inbox.take([put("a", "1", bucket="scans")])
        assert len(await all_of(driver, 1)) == 1
        assert driver.source.view().details["of_other_buckets"] == {"others": 2}
        remarks = [s.reason for s in heard if isinstance(s, SourceChanged) and "others" in s.reason]
        assert len(remarks) == 1

    in_a_scene(work, buckets=("uploads", "scans"), told=heard)


def test_the_same_key_in_two_buckets_is_two_keys():
    async def work(driver, inbox, store):
        await inbox.take([put("a", "1"), put("a", "1", bucket="scans")])
        await driver.take(2)
        assert len(driver.taken) == 2

    in_a_scene(work, buckets=("uploads", "scans"))


def test_a_document_that_is_no_notification_is_given_up_with_its_text():
    async def work(driver, inbox, store):
        await inbox.deliver([b'{"Records":[{"eventName":7}]}', b"\xffno", b"\xffno"])
        for body in (b'{"Records":[{"eventName":7}]}', b'"\\\\xffno"'):
            batch = Batch((await arrived(driver),))
            with pytest.raises(CorruptBatch, match="malformed"):
                driver.source.shape(batch)
            with pytest.raises(CorruptBatch):
                driver.source.records(batch)
            assert driver.source.event(batch) == body
            assert driver.source.batch_info(batch)["S3BatchInfo"]["objects"] == []
            failure = Failure(Fault.CORRUPT, "CorruptBatch", "x")
            verdict = judge(batch, failure, RetryPolicy(), Moment(Instant(0.0)))
            assert verdict == GiveUp(batch, MALFORMED, failure)
            await driver.finish_all()
        assert driver.source.view().details["pending"] == 0

    async def arrived(driver):
        """A run that nobody can look into."""
        while True:
            match await driver.source.next(driver.ready):
                case Arrived(run):
                    driver.ledgers[run.lane].take(run)
                    driver.taken.append(run)
                    return run
                case Opened(lane):
                    driver.ledgers[lane] = driver.source.ledger(lane)
                    driver.ready.add(lane)

    in_a_scene(work)


def test_other_outcomes_are_judged_as_those_of_any_queue():
    async def work(driver, inbox, store):
        await inbox.take([put("a", "1")])
        await driver.take(1)
        batch = Batch((driver.taken[0],))
        moment = Moment(Instant(0.0))
        assert judge(batch, Success(b""), RetryPolicy(), moment) == Done(batch)
        failed = Failure(Fault.FUNCTION, "E", "m")
        assert isinstance(judge(batch, failed, RetryPolicy(), moment), Release)

    in_a_scene(work)


def test_what_is_full_acknowledges_nothing_until_something_is_done():
    async def work(driver, inbox, store):
        await inbox.take([put("a", "1"), put("b", "1")])
        assert inbox.full
        with pytest.raises(Busy, match="2 events wait already"):
            await inbox.take([put("c", "1")])
        assert driver.source.view().state == "degraded"
        assert "2 events wait" in driver.source.view().reason
        waiting = asyncio.ensure_future(inbox.deliver([json.dumps(document("c")).encode()]))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await all_of(driver, 1)
        async with asyncio.timeout(30):
            await waiting
        assert {r.key for r in await all_of(driver, 2)} == {b"b", b"c"}
        assert driver.source.view().state == "running"

    def document(key):
        return {"Records": [json.loads(put(key, "1").record)]}

    in_a_scene(work, pending_max=2)


class Failing(Carrier):
    """A feed whose other side is away at first."""

    name = "the failing one"

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.closed = 0
        self.trouble = None

    async def run(self, inbox) -> None:
        if self.times:
            self.times -= 1
            raise Unreachable("nobody answers")
        self.trouble = ""
        await super().run(inbox)

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.slow
def test_a_feed_that_is_away_degrades_the_source_and_holds_up_no_other(monkeypatch):
    monkeypatch.setattr("streamfaas.sources.objects.feed.AGAIN_SECONDS", (0.2,))
    failing, other = Failing(2), Carrier()
    heard: list[object] = []

    async def main(folder):
        async with (
            opened(Path(folder)) as store,
            driven(source(store, failing, other, told=heard)) as driver,
        ):
            other.put([put("a", "1")])
            assert [r.key for r in await all_of(driver, 1)] == [b"a"]
            view = driver.source.view()
            assert view.state == "degraded"
            assert "the failing one: nobody answers; tried again every" in view.reason
            failing.put([put("b", "1")])
            assert [r.key for r in await all_of(driver, 1)] == [b"b"]
            await until(lambda: driver.source.view().state == "running")
            assert failing.closed == 2
        assert failing.closed == 3
        states = [each.state for each in heard if isinstance(each, SourceChanged)]
        assert states == ["degraded", "running"]  # one line for both tries

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))


@pytest.mark.slow
def test_what_came_within_a_day_runs_once_and_after_that_again(tmp_path):
    """By the wall clock, and not only in one life of the source."""
    now = [1_000_000.0]

    async def taken(store, event):
        events = rows.InboxEvents(store, NAME, wall_clock=lambda: now[0])
        made = source(store)
        made._events = made._queue._events = made.inbox._events = events
        await made.open(lambda work, name: None)
        return await made.inbox.take([event])

    async def main():
        async with opened(tmp_path) as store:
            assert await taken(store, put("a", "1")) == 1
            now[0] += 3600
            assert await taken(store, put("a", "1")) == 0
            now[0] += 24 * 3600
            assert await taken(store, put("a", "1")) == 1

    asyncio.run(main())


def test_without_a_sequencer_all_that_is_told_makes_an_event_what_it_is():
    async def work(driver, inbox, store):
        assert await inbox.take([put("a"), put("a")]) == 1
        assert await inbox.take([put("a", etag="other"), put("a", time_ms=2)]) == 2
        assert await inbox.take([put("a", version_id="v")]) == 1
        assert await inbox.take([put("a", request_id="r")]) == 1

    in_a_scene(work)


@pytest.mark.slow
def test_a_hundred_thousand_events_wait_in_the_store_and_not_in_memory(tmp_path):
    async def main():
        async with opened(tmp_path) as store, driven(source(store, pending_max=200_000)) as driver:
            for start in range(0, 100_000, 5_000):
                some = range(start, start + 5_000)
                await driver.source.inbox.take([put(f"key {n}", "1") for n in some])
            assert driver.source.view().details["pending"] == 100_000
            await driver.take(4)
            queue = driver.source._queue
            assert len(queue._heads) <= 2 * keyed.PAGE + 4
            assert len(queue._ready) < 2 * keyed.PAGE

    asyncio.run(main())


def test_many_malformed_documents_block_no_key():
    async def work(driver, inbox, store):
        await inbox.deliver([b"no %d" % n for n in range(50)])
        await inbox.take([put("a", "1")])
        made = driver.source
        await made._refill()
        heads = set(made._queue._heads)
        assert heads == {b"", b"uploads/a"}

    in_a_scene(work)


def test_a_test_event_is_a_notification_that_no_store_has_sent():
    async def work(driver, inbox, store):
        async with driver.source.sender("") as way:
            assert "nothing is put there" in way.target
            sent = await way.send(Message(b"content"))
            assert sent.key.startswith(b"in/test-")
            assert sent.key.endswith(b".jpg")
            (found,) = await all_of(driver, 1)
            assert driver.source.known_by(found) == sent.key
            assert told(found)["s3"]["object"]["size"] == 7
            named = await way.send(Message(b"content", b"in/a b.jpg"))
            assert named.place == "uploads/in/a b.jpg"
            again = json.dumps({"Records": [told(found)]}).encode()
            with pytest.raises(CannotSend, match="come before"):
                await way.send(Message(again))
            with pytest.raises(CannotSend, match=r"ObjectCreated:Put of uploads/out/a"):
                await way.send(Message(b"", b"out/a"))
            with pytest.raises(CannotSend, match="no headers"):
                await way.send(Message(None))
            with pytest.raises(CannotSend, match="1,024 bytes"):
                await way.send(Message(b"", b"in/" + b"x" * 1030 + b".jpg"))
        with pytest.raises(CannotSend, match="buckets uploads"):
            driver.source.sender("others")

    in_a_scene(work, prefix="in/", suffix=".jpg")

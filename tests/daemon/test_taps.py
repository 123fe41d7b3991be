import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listed import LANE, Listed
from streamfaas.api.server import Request
from streamfaas.daemon import taps as tapping
from streamfaas.daemon.feeds import Feeds
from streamfaas.daemon.taps import Taps
from streamfaas.daemon.witnesses import Witnesses
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.pane import Pane, Window
from streamfaas.flow.record import Lane, Record, run_of_records
from streamfaas.sources.memory import Memory, MemoryOptions
from streamfaas.telemetry import signals

REPORT = Report("f#1", 0.0031)
OTHER = Lane("g/t", "topic-0")


class Scene:
    """Taps of a daemon that has the functions f and g; time stands still."""

    def __init__(self):
        self.ears = []
        self.now = 0.0
        triggers = {"f/t": Trigger(), "g/t": Trigger()}
        self.witnesses = Witnesses()
        self.taps = Taps(
            Feeds(self.ears, alive_seconds=0.001),
            lambda: ["f", "g"],
            lambda: triggers,
            self.witnesses,
            clock=lambda: self.now,
            wall_clock=lambda: 0.0,
        )
        self.ears.append(self.taps)
        self.source = Memory(
            "f/t", MemoryOptions("topic"), clock=lambda: 0.0, emit=lambda _signal: None
        )

    def emit(self, signal):
        for hear in self.ears:
            hear(signal)

    def run(self, lane=LANE, first=0, count=1, outcome=None, size=1, pane=None):
        """What the engine does when an attempt has ended."""
        outcome = Success(b"", report=REPORT) if outcome is None else outcome
        value = b"x" * size
        batch = Batch(
            (run_of_records(tuple(Record(lane, first + n, value) for n in range(count))),),
            pane=pane,
        )
        name = lane.source.partition("/")[0]
        ended = signals.InvocationEnded(
            f"id-{first}", name, lane, count, first, first + count - 1, 0, outcome
        )
        self.emit(ended)
        if self.witnesses:
            self.witnesses.saw(ended, self.source, batch)

    def ask(self, query):
        return self.taps.handle(Request("GET", f"/tap?{query}", b""))

    async def rows(self, feed):
        rows = [json.loads(line) for line in (await anext(feed)).splitlines() if line]
        return [row for row in rows if row.get("what") != "watching"]


class Trigger:
    """As much of a mapping as is looked at: how often it retries."""

    class policy:
        class retry:
            retries_max = 2


def scene(play):
    async def main():
        await play(Scene())

    anyio.run(main)


def test_an_attempt_is_told_whole_but_without_its_payload():
    async def play(s):
        feed = s.ask("target=f").body
        s.run(first=7, count=3)
        s.run(lane=OTHER)
        assert await s.rows(feed) == [
            {
                "what": "attempt", "time": "1970-01-01T00:00:00.000+00:00", "function": "f",
                "trigger": "t", "lane": "topic-0", "first": 7, "last": 9, "records": 3,
                "attempt": 1, "attempts_max": 3, "ok": True, "duration_ms": 3.1, "init_ms": None,
                "worker": "f#1", "request_id": "id-7",
            }
        ]  # fmt: skip
        assert not s.witnesses
        await feed.aclose()

    scene(play)


def test_what_becomes_of_a_failure_is_told_too():
    async def play(s):
        stack = ('  File "/var/task/app.py", line 6, in main\n',)
        feed = s.ask("target=f/t&errors=1").body
        s.run()
        s.run(outcome=Failure(Fault.FUNCTION, "KeyError", "'total'", stack, report=REPORT))
        s.emit(signals.LaneRetrying(LANE, 0, 0, 1, 2.0, False, "KeyError: 'total'"))
        s.emit(signals.LaneRetrying(OTHER, 0, 0, 1, 2.0, False, "KeyError: 'total'"))
        s.emit(signals.BatchSplit(LANE, 0, 3, (2, 2)))
        s.emit(signals.BatchSetAside(LANE, 0, 0, 1, "Skipped", "dead.jsonl"))
        rows = await s.rows(feed)
        await feed.aclose()
        assert [row["what"] for row in rows] == ["attempt", "retrying", "split", "set aside"]
        told = (rows[0]["error_type"], rows[0]["error_message"], rows[0]["place"])
        assert told == ("KeyError", "'total'", "app.py:6")

    scene(play)


def test_the_payload_is_what_the_source_makes_of_the_batch_and_only_for_who_asks():
    async def play(s):
        plain, whole = s.ask("").body, s.ask("payload=1").body
        assert s.witnesses
        s.run(count=2)
        (row,) = await s.rows(whole)
        batch = Batch((run_of_records(tuple(Record(LANE, n, b"x") for n in range(2))),))
        assert row["payload"] == json.loads(s.source.event(batch))
        assert "payload" not in (await s.rows(plain))[0]
        await whole.aclose()
        assert not s.witnesses
        await plain.aclose()
        assert s.ears == [s.taps]

    scene(play)


def test_of_a_large_batch_the_first_records_are_shown():
    async def play(s):
        feed = s.ask("payload=1").body
        s.run(count=1_000, size=1_000)
        (row,) = await s.rows(feed)
        await feed.aclose()
        assert row["records"] == 1_000
        assert 100 < row["payload_records"] < 300
        shown = s.source.event(
            Batch(
                (run_of_records(tuple(Record(LANE, n, b"x" * 1_000) for n in range(1_000))),)
            ).cut(row["payload_records"])[0]
        )
        assert row["payload"] == json.loads(shown)

    scene(play)


def test_the_payload_of_a_batch_in_a_window_has_its_state():
    async def play(s):
        feed = s.ask("payload=1").body
        s.run(pane=Pane(Window(0, 1000), b'{"n":7}'))
        (row,) = await s.rows(feed)
        await feed.aclose()
        assert row["payload"]["state"] == {"n": 7}
        assert row["payload"]["window"]["end"] == "1970-01-01T00:00:01Z"

    scene(play)


def test_damage_is_told_in_place_of_a_payload():
    async def play(s):
        s.source = Listed(damaged={0: 1})
        feed = s.ask("payload=1").body
        s.run()
        (row,) = await s.rows(feed)
        await feed.aclose()
        assert row["payload"] is None
        assert row["payload_error"]

    scene(play)


def test_what_a_listener_is_not_told_is_counted_and_the_source_is_not_asked():
    async def play(s):
        feed = s.ask("payload=1").body
        for first in range(1_000):
            s.run(first=first)
        rows = await s.rows(feed)
        shown = [row for row in rows if "missed" not in row]
        assert len(shown) == tapping.PAYLOADS_A_SECOND
        assert sum(row.get("missed", 0) for row in rows) == 1_000 - len(shown)
        s.now += 1.0
        s.run(first=5_000)
        assert [row["first"] for row in await s.rows(feed)] == [5_000]
        await feed.aclose()

    scene(play)


def test_a_payload_that_took_more_than_its_share_is_paid_for_by_a_pause():
    async def play(s):
        feed = s.ask("payload=1").body
        s.run(size=5 * 1024 * 1024)
        s.run(first=1)
        s.now += 1.0
        s.run(first=2)
        s.now += 5.0
        s.run(first=3)
        rows = await s.rows(feed)
        await feed.aclose()
        assert [row.get("first", row.get("missed")) for row in rows] == [0, 2, 3]
        assert rows[1] == {"missed": 2}

    scene(play)


def test_rows_have_a_bound_a_second():
    async def play(s):
        feed = s.ask("").body
        for first in range(1_000):
            s.run(first=first)
        rows = await s.rows(feed)
        await feed.aclose()
        assert len(rows) == tapping.ROWS_A_SECOND + 1
        assert rows[-1] == {"missed": 1_000 - tapping.ROWS_A_SECOND}

    scene(play)


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 200), st.booleans())
def test_the_last_ones_that_passed_are_remembered_though_nobody_listened(oks, last, errors):
    async def play(s):
        failure = Failure(Fault.FUNCTION, "E", "m", report=REPORT)
        for first, ok in enumerate(oks):
            s.run(first=first, outcome=None if ok else failure)
        answer = s.ask(f"target=f&last={last}" + ("&errors=1" if errors else ""))
        found = [row["first"] for row in json.loads(answer.body)["passed"]]
        kept = list(enumerate(oks))[-tapping.PASSED_MAX :]
        assert found == [first for first, ok in kept if not (errors and ok)][-last:]

    scene(play)


def test_a_direct_call_is_shown_with_its_event():
    async def play(s):
        feed = s.ask("target=f&payload=1").body
        ended = signals.InvocationEnded("id", "f", None, 1, 0, 0, 0, Success(b"", report=REPORT))
        s.emit(ended)
        s.taps.saw_event(ended, b'{"a": 1}')
        (row,) = await s.rows(feed)
        await feed.aclose()
        assert (row["lane"], row["payload"]) == (None, {"a": 1})

    scene(play)


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("target=ff", 404, "there is no function ff; did you mean f?"),
        ("target=f/x", 404, "there is no trigger f/x"),
        ("last=0", 400, "last"),
        ("last=x", 400, "last"),
        ("more=1", 400, "more"),
    ],
)
def test_what_cannot_be_watched_is_said(query, status, told):
    async def play(s):
        answer = s.ask(query)
        assert answer.status == status
        assert told in json.loads(answer.body)["error"]

    scene(play)


def test_asynchronous_invocations_can_be_watched_before_there_are_any():
    async def play(s):
        feed = s.ask("target=f/asynchronous").body
        s.run(lane=Lane("f/asynchronous", "slot-0"))
        assert [row["trigger"] for row in await s.rows(feed)] == ["asynchronous"]
        await feed.aclose()

    scene(play)

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import store_rows
from streamfaas.flow.errors import Busy
from streamfaas.store import Store, backlog
from streamfaas.store.backlog import PUT_OFF_SECONDS_MAX, Backlog
from streamfaas.store.invocations import ROW_BYTES, Waiting

FUNCTIONS = ("mail", "resize")
EVENTS_MAX = 12
BYTES_MAX = 10 * (ROW_BYTES + 20)


@dataclass
class Lying:
    """An event in the model; `due_ms` None: it waits for another of its key."""

    function: str
    event: Waiting
    due_ms: int | None


class Life(RuleBasedStateMachine):
    """Events of two functions beside a model of them, over restarts and with a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.lives = 0
        self.now_ms = 1_000_000
        self.model: list[Lying] = []
        self.made = 0
        self.newest = 0

    @property
    def path(self) -> Path:
        return self.folder / str(self.lives) / "streamfaas.db"

    @initialize()
    def open(self):
        self.store = self.runner.run(Store.open(self.path))
        self.backlog = Backlog(
            self.store,
            events_max=EVENTS_MAX,
            bytes_max=BYTES_MAX,
            wall_clock=lambda: self.now_ms / 1000,
        )

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def of(self, function):
        return [each for each in self.model if each.function == function]

    def may_go(self, function):
        due = [e for e in self.of(function) if e.due_ms is not None and e.due_ms <= self.now_ms]
        return sorted(due, key=lambda each: (each.due_ms, each.event.number))

    def some(self, data):
        """One that is not waiting for another."""
        free = [each for each in self.model if each.due_ms is not None]
        return data.draw(st.sampled_from(free))

    @rule(
        function=st.sampled_from(FUNCTIONS),
        order_key=st.sampled_from(["", "", "a", "b"]),
        event=st.binary(max_size=30),
        hops=st.integers(0, 2),
        context=st.binary(max_size=3),
    )
    def accept(self, function, order_key, event, hops, context):
        self.made += 1
        size = ROW_BYTES + len(event) + len(context) + len(order_key)
        lying = self.of(function)
        total = sum(each.event.size_bytes for each in lying)
        accept = self.backlog.accept(
            function,
            event,
            f"request-{self.made}",
            hops=hops,
            replays=hops // 2,
            client_context=context,
            order_key=order_key,
            trace=f"trace-{hops}",
        )
        if len(lying) >= EVENTS_MAX or total + size > BYTES_MAX:
            with pytest.raises(Busy, match=function):
                self.runner.run(accept)
            return
        number = self.runner.run(accept)
        assert number > self.newest, "a number that was given before"
        self.newest = number
        waiting = Waiting(
            number,
            f"request-{self.made}",
            event,
            self.now_ms,
            0,
            hops,
            hops // 2,
            order_key,
            context,
            f"trace-{hops}",
        )
        behind = order_key and any(each.event.order_key == order_key for each in lying)
        self.model.append(Lying(function, waiting, None if behind else self.now_ms))

    @rule(milliseconds=st.integers(1, 300))
    def time_passes(self, milliseconds):
        self.now_ms += milliseconds

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def finish(self, data):
        lying = self.some(data)
        queue = self.runner.run(self.backlog.finish(lying.function, lying.event.number))
        self.model.remove(lying)
        assert queue.events == len(self.of(lying.function))
        if lying.event.order_key:
            for each in self.of(lying.function):
                if each.event.order_key == lying.event.order_key:
                    each.due_ms = each.event.accepted_ms
                    break
        again = self.runner.run(self.backlog.finish(lying.function, lying.event.number))
        assert again == queue

    @precondition(lambda self: self.model)
    @rule(data=st.data(), wait_ms=st.integers(-10, 500), failures=st.integers(0, 3))
    def put_off(self, data, wait_ms, failures):
        lying = self.some(data)
        due_ms = self.now_ms + wait_ms
        self.runner.run(self.backlog.put_off(lying.event.number, due_ms, failures))
        lying.due_ms, lying.event = due_ms, lying.event._replace(failures=failures)

    @rule(crash=st.booleans())
    def restart(self, crash):
        before, self.lives = self.path, self.lives + 1
        self.path.parent.mkdir()
        if not crash:
            self.runner.run(self.store.close())
        for end in ("", "-wal"):
            if (left := Path(f"{before}{end}")).exists():
                shutil.copy(left, f"{self.path}{end}")
        self.runner.run(self.store.close())
        self.open()
        assert not self.store.lost

    @rule(data=st.data(), function=st.sampled_from(FUNCTIONS))
    def some_are_in_hand(self, data, function):
        expected = [each.event for each in self.may_go(function)]
        without = data.draw(st.sets(st.sampled_from([event.number for event in expected] or [0])))
        page = self.runner.run(self.backlog.due(function, without))
        assert list(page.events) == [e for e in expected if e.number not in without]

    @invariant()
    def what_may_go_is_as_in_the_model(self):
        if not hasattr(self, "store"):
            return
        for function in FUNCTIONS:
            page = self.runner.run(self.backlog.due(function, ()))
            assert list(page.events) == [each.event for each in self.may_go(function)]
            assert not page.more
            keys = [event.order_key for event in page.events if event.order_key]
            assert len(keys) == len(set(keys)), "of each key the first alone"
            later = [e.due_ms for e in self.of(function) if e.due_ms and e.due_ms > self.now_ms]
            assert page.next_due_ms == min(later, default=None)
            assert page.queue.events == len(self.of(function))
            assert page.queue.size == sum(each.event.size_bytes for each in self.of(function))


Life.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestLife = pytest.mark.slow(Life.TestCase)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "streamfaas.db"


def test_pages_are_bounded_by_count_and_bytes(path, monkeypatch):
    monkeypatch.setattr(backlog, "PAGE_EVENTS", 5)
    monkeypatch.setattr(backlog, "PAGE_BYTES", 2500)

    async def main():
        store = await Store.open(path)
        made = Backlog(store)
        for number in range(12):
            await made.accept("mail", bytes(1000 if number > 6 else 1), f"{number}")
        sizes, seen = [], set()
        while page := await made.due("mail", seen):
            sizes.append((len(page.events), page.more))
            seen |= {event.number for event in page.events}
            if not page.more:
                break
        assert sizes == [(5, True), (4, True), (2, True), (1, False)]
        await store.close()

    asyncio.run(main())


def test_an_event_that_is_put_off_for_an_age_is_not_forgotten(path):
    now = 2_000_000_000.0  # a clock that is wrong, and is set right later

    async def main():
        nonlocal now
        store = await Store.open(path)
        made = Backlog(store, wall_clock=lambda: now)
        number = await made.accept("mail", b"{}", "one")
        await made.put_off(number, 4_000_000_000_000, 1)
        page = await made.due("mail", ())
        assert page.next_due_ms == int((now + PUT_OFF_SECONDS_MAX) * 1000)
        now = 1_700_000_000.0
        assert not (await made.due("mail", ())).events
        assert (await made.open("mail")).events == 1
        (event,) = (await made.due("mail", ())).events
        assert (event.request_id, event.failures) == ("one", 1)
        await store.close()

    asyncio.run(main())


def test_a_backlog_that_is_full_refuses_and_takes_nobody_else_down(path):
    async def main():
        store = await Store.open(path)
        made = Backlog(store, events_max=30)
        tasks = [made.accept(f"f-{n % 2}", b"{}", f"{n}") for n in range(100)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [result for result in results if isinstance(result, Busy)]
        assert len(refused) == 40
        assert [queue[1::2] for queue in await made.queues()] == [("f-0", 30), ("f-1", 30)]
        await store.close()

    asyncio.run(main())


def test_bytes_are_bounded_too_and_free_again_when_an_event_is_over_with(path):
    async def main():
        store = await Store.open(path)
        made = Backlog(store, bytes_max=2 * (ROW_BYTES + 100))
        first = await made.accept("mail", bytes(100), "1")
        with pytest.raises(Busy):
            await made.accept("mail", bytes(101), "2")
        await made.accept("mail", bytes(90), "3", client_context=bytes(7), order_key="key")
        with pytest.raises(Busy):
            await made.accept("mail", b"", "4")
        await made.accept("resize", bytes(300), "5")
        await made.finish("mail", first)
        await made.accept("mail", bytes(100), "6")
        await store.close()

    asyncio.run(main())


def test_who_listens_hears_of_what_comes(path):
    heard = []

    async def main():
        store = await Store.open(path)
        made = Backlog(store)
        other = lambda _: heard.append("other")  # noqa: E731
        made.listen("mail", lambda queue: heard.append(("mail", queue.events)))
        made.listen("resize", other)
        await made.accept("mail", b"{}", "1")
        made.unlisten("mail", other)  # not the one who listens
        await made.accept("mail", b"{}", "2")
        made.unlisten("resize", other)
        await made.accept("resize", b"{}", "3")
        await store.close()

    asyncio.run(main())
    assert heard == [("mail", 1), ("mail", 2)]


@pytest.mark.slow
def test_every_event_that_was_accepted_survives_a_kill(path):
    script = f"""
import asyncio, pathlib, sys
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
async def one(backlog, first):
    for number in range(first, 10**9, 200):
        key = f"k-{{number % 50}}" if number % 2 else ""
        await backlog.accept("mail", b"%d" % number, f"r-{{number}}", order_key=key)
        sys.stdout.write(f"{{number}}\\n")
        sys.stdout.flush()
async def main():
    store = await Store.open(pathlib.Path({str(path)!r}))
    backlog = Backlog(store)
    await asyncio.gather(*(one(backlog, first) for first in range(200)))
asyncio.run(main())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(store_rows.__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [child.stdout.readline() for _ in range(3000)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.read().splitlines(keepends=True)
    child.wait()
    child.stdout.close()
    said = {int(line) for line in lines if line.endswith("\n")}
    assert len(said) >= 3000

    async def look():
        store = await Store.open(path)
        assert not store.lost
        made, found = Backlog(store), set()
        while page := await made.due("mail", ()):
            for event in page.events:
                found.add(int(event.event))
                assert event.request_id == f"r-{int(event.event)}"
            finished = (made.finish("mail", event.number) for event in page.events)
            await asyncio.gather(*finished)
            if not page.events:
                break
        assert [queue.events for queue in await made.queues()] == [0]
        await store.close()
        return found

    assert said <= asyncio.run(look())

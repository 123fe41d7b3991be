from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import store_rows
from store_rows import intent
from streamfaas.flow.letters import Attribute, Letter
from streamfaas.store import Store, outbox
from streamfaas.store.backlog import Backlog
from streamfaas.store.intents import Intent
from streamfaas.store.objects import Objects
from streamfaas.store.outbox import Outbox

documents = st.binary().map(lambda text: text.replace(b"\n", b""))
MAPPINGS = ("shop/orders", "shop/files")
LANES = ("orders-0", "orders-1", "")


def silent(signal_):
    """Nobody listens."""


def bare(one: Intent) -> Intent:
    return replace(one, letters=(), event=None)


class Life(RuleBasedStateMachine):
    """Intents of two triggers beside a model of them: what is known, and in which state."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.lives = 0
        self.model: dict[str, Intent] = {}
        self.made = 0

    @property
    def path(self) -> Path:
        return self.folder / str(self.lives) / "streamfaas.db"

    @initialize()
    def open(self):
        self.store = self.runner.run(Store.open(self.path))
        self.outbox = Outbox(self.store, emit=silent, wall_clock=lambda: 1000.0)

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def known(self, data, *states):
        ids = sorted(i for i, one in self.model.items() if not states or one.state in states)
        return data.draw(st.sampled_from(ids))

    def has(self, *states):
        return any(one.state in states for one in self.model.values())

    # -- letters

    @rule(
        mapping=st.sampled_from(MAPPINGS),
        lane=st.sampled_from(LANES),
        kind=st.sampled_from(["failure", "success"]),
        positions=st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True),
        letters=st.lists(st.tuples(st.none() | st.binary(max_size=3), documents), max_size=4),
        event=st.none() | st.binary(),
    )
    def intend(self, mapping, lane, kind, positions, letters, event):
        self.made += 1
        places, hops = sorted(positions), self.made % 3 + 1
        one = Intent(
            id=f"id-{self.made}",
            mapping=mapping,
            lane=lane,
            ranges=tuple((place, place) for place in places),
            destination="topic dead",
            kind=kind,
            condition="RetryAttemptsExhausted",
            count=len(places),
            letters=tuple(
                Letter(f"l-{n}", document, key, hops, (Attribute("a", "String", f"{n}"),))
                for n, (key, document) in enumerate(letters)
            ),
            event=event,
            made_ms=1_000_000 + self.made // 2,
            hops=hops,
        )
        self.runner.run(self.outbox.intend(one))
        self.model[one.id] = one

    @precondition(lambda self: self.has("intended", "delivered"))
    @rule(data=st.data())
    def intend_again(self, data):
        one = self.model[self.known(data, "intended", "delivered")]
        again = replace(one, state="intended", condition="another", letters=())
        self.runner.run(self.outbox.intend(again))

    @precondition(lambda self: self.has("settled"))
    @rule(data=st.data(), same=st.booleans())
    def fail_anew(self, data, same):
        old = self.model.pop(self.known(data, "settled"))
        event = old.event if same else (old.event or b"") + b"!"
        new = replace(old, event=event, state="intended", replays=0, letters=old.letters[:1])
        self.runner.run(self.outbox.intend(new))
        if event is None or event != old.event:
            (kept,) = self.listed() - self.model.keys() - {new.id}
            assert kept.startswith(f"{old.id}-")
            self.model[kept] = replace(old, id=kept)
        self.model[new.id] = new

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delivered(self, data):
        known = self.known(data)
        self.runner.run(self.outbox.delivered(known))
        if self.model[known].state == "intended":
            self.model[known] = replace(self.model[known], state="delivered")

    @rule(mapping=st.sampled_from(MAPPINGS), lane=st.sampled_from(LANES), upto=st.integers(-1, 51))
    def settled(self, mapping, lane, upto):
        self.runner.run(self.outbox.settled(mapping, lane, upto))
        for one in list(self.model.values()):
            if (one.mapping, one.lane) == (mapping, lane) and one.ranges[-1][1] <= upto:
                self.settle(one)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def settled_ids(self, data):
        ids = {self.known(data), self.known(data), "unknown"}
        self.runner.run(self.outbox.settled_ids(ids))
        for known in ids - {"unknown"}:
            self.settle(self.model[known])

    def settle(self, one):
        if one.state == "delivered" and one.kind == "success":
            del self.model[one.id]
        elif one.state == "delivered":
            self.model[one.id] = replace(one, state="settled")

    # -- the catalogue

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def redriven(self, data):
        known = self.known(data)
        assert self.runner.run(self.outbox.redriven(known))
        self.model[known] = replace(self.model[known], replays=self.model[known].replays + 1)
        assert not self.runner.run(self.outbox.redriven("unknown"))

    @precondition(lambda self: self.model)
    @rule(
        data=st.data(),
        by_id=st.booleans(),
        mapping=st.none() | st.sampled_from(MAPPINGS),
        age=st.none() | st.integers(0, 10),
        force=st.integers(0, 9).map(lambda n: n == 0),
    )
    def purge(self, data, by_id, mapping, age, force):
        ids = {self.known(data), self.known(data)} if by_id else None
        older = None if age is None else 1_000_000 + age
        if ids is None and mapping is None and older is None:
            return
        chosen = {
            one.id
            for one in self.model.values()
            if (force or one.state == "settled")
            and (ids is None or one.id in ids)
            and (mapping is None or one.mapping == mapping)
            and (older is None or one.made_ms < older)
        }
        purge = self.outbox.purge(ids=ids, mapping=mapping, older_than_ms=older, force=force)
        assert self.runner.run(purge) == len(chosen)
        for known in chosen:
            del self.model[known]

    # -- lives

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

    # -- what holds

    @invariant()
    def everything_is_as_in_the_model(self):
        if not hasattr(self, "store"):
            return
        for one in self.model.values():
            assert self.runner.run(self.outbox.show(one.id)) == one
        assert self.runner.run(self.outbox.show("unknown")) is None
        for mapping in MAPPINGS:
            for lane in LANES:
                guarding = self.runner.run(self.outbox.guarding(mapping, lane))
                assert {one.id: one for one in guarding} == {
                    one.id: one
                    for one in self.model.values()
                    if (one.mapping, one.lane) == (mapping, lane) and one.state != "settled"
                }
                lasts = [one.ranges[-1][1] for one in guarding]
                assert lasts == sorted(lasts)

    @invariant()
    def the_catalogue_lists_failures_by_age(self):
        if not hasattr(self, "store"):
            return
        for mapping in (None, *MAPPINGS):
            expected = [
                bare(one)
                for one in self.model.values()
                if one.kind == "failure" and mapping in {None, one.mapping}
            ]
            expected.sort(key=lambda one: (one.made_ms, one.id), reverse=True)
            found, before = [], None
            while page := self.runner.run(self.outbox.list(mapping, limit=2, before=before)):
                found += page
                before = (page[-1].made_ms, page[-1].id)
            assert found == expected

    def listed(self):
        return {one.id for one in self.runner.run(self.outbox.list(limit=outbox.LIST_MAX))}


Life.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestLife = pytest.mark.slow(Life.TestCase)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "streamfaas.db"


async def settled(box: Outbox, *numbers: int) -> None:
    """Failures that were sent and are over with."""
    for number in numbers:
        await box.intend(intent(number))
        await box.delivered(f"id-{number}")
    await box.settled_ids(f"id-{number}" for number in numbers)


def test_what_is_intended_resumes_after_a_restart_whole(path):
    async def main():
        store = await Store.open(path)
        await Outbox(store, emit=silent).intend(intent(3))
        await store.close()
        store = await Store.open(path)
        (found,) = await Outbox(store, emit=silent).guarding("function/trigger", "orders-0")
        assert found == intent(3)
        assert found.letters[0].key == b"key 3"
        assert found.stored_bytes == intent(3).size_bytes
        await store.close()

    asyncio.run(main())


def test_a_checkpoint_settles_only_what_lies_wholly_before_it(path):
    async def main():
        store = await Store.open(path)
        box = Outbox(store, emit=silent)
        for number in (1, 2):
            wide = replace(intent(number), ranges=((number, number), (number + 5, number + 5)))
            await box.intend(wide)
            await box.delivered(wide.id)
        await box.settled("function/trigger", "orders-0", 6)
        guarding = await box.guarding("function/trigger", "orders-0")
        assert [one.id for one in guarding] == ["id-2"]
        await store.close()

    asyncio.run(main())


def test_what_queues_finished_before_a_crash_is_settled_when_the_daemon_starts(path):
    async def main():
        store = await Store.open(path)
        box, backlog = Outbox(store, emit=silent), Backlog(store)
        objects = Objects(store, "shop/files")
        await objects.open(0)
        await objects.record([store_rows.change(0), store_rows.change(1), store_rows.change(2)])
        numbers = [await backlog.accept("mail", b"{}", f"r-{n}") for n in range(3)]
        for mapping in ("shop/files", "mail/asynchronous", "shop/elsewhere"):
            for kind in ("failure", "success"):
                for number in numbers:
                    one = replace(
                        intent(number),
                        id=f"{mapping} {kind} {number}",
                        mapping=mapping,
                        lane="",
                        kind=kind,
                        made_ms=int(time.time() * 1000),
                    )
                    await box.intend(one)
                    if number != 3:
                        await box.delivered(one.id)
        await objects.settle([1], [])  # and what is sent for number 2 is not finished with
        await backlog.finish("mail", 1)
        await box.open({"mail/asynchronous": "mail"})
        found = {}
        for mapping in ("shop/files", "mail/asynchronous", "shop/elsewhere"):
            found[mapping] = [
                getattr(await box.show(f"{mapping} {kind} {number}"), "state", None)
                for number in numbers
                for kind in ("failure", "success")
            ]
        await store.close()
        return found

    kept = ["delivered", "delivered", "intended", "intended"]
    assert asyncio.run(main()) == {
        "shop/files": ["settled", None, *kept],
        "mail/asynchronous": ["settled", None, *kept],
        "shop/elsewhere": ["delivered", "delivered", *kept],
    }


def test_the_catalogue_keeps_its_bounds_and_tells_what_it_drops(path, monkeypatch):
    size = intent(10).size_bytes
    monkeypatch.setattr(outbox, "SETTLED_BYTES_MAX", 3 * size)
    told, now = [], 10.0

    async def main():
        nonlocal now
        store = await Store.open(path)
        box = Outbox(store, emit=told.append, wall_clock=lambda: now)
        await box.trim()
        await box.intend(intent(11))  # guards, and is the oldest of all
        await settled(box, *range(12, 20))
        assert len(await box.list()) == 9, "not yet"
        now += outbox.TRIM_SECONDS
        await settled(box, 20)
        kept = [one.id for one in await box.list()]
        assert kept == ["id-20", "id-19", "id-18", "id-11"]
        now += outbox.SETTLED_DAYS_MAX * 24 * 3600
        assert await box.trim() == 3
        assert [one.id for one in await box.list()] == ["id-11"]
        assert await box.trim() == 0
        await store.close()

    asyncio.run(main())
    assert [signal_.step for signal_ in told] == ["catalogue trimmed"] * 2
    assert told[0].detail.startswith("6 entries of function/trigger are forgotten")


def test_what_is_too_old_goes_even_where_less_would_make_room_enough(path, monkeypatch):
    monkeypatch.setattr(outbox, "SETTLED_BYTES_MAX", 3 * intent(1).size_bytes)
    now = 10.0

    async def main():
        nonlocal now
        store = await Store.open(path)
        box = Outbox(store, emit=silent, wall_clock=lambda: now)
        await box.trim()
        await settled(box, 1, 2, 3, 4)
        now = outbox.SETTLED_DAYS_MAX * 24 * 3600 + 0.0035
        assert await box.trim() == 2
        assert [one.id for one in await box.list()] == ["id-4", "id-3"]
        await store.close()

    asyncio.run(main())


def test_a_catalogue_that_grows_fast_is_trimmed_at_once(path, monkeypatch):
    monkeypatch.setattr(outbox, "SETTLED_BYTES_MAX", 10 * intent(10).size_bytes)
    monkeypatch.setattr(outbox, "TRIM_BYTES", 2 * intent(10).size_bytes)

    async def main():
        store = await Store.open(path)
        box = Outbox(store, emit=silent, wall_clock=lambda: 10.0)
        for number in range(10, 40):
            await settled(box, number)
            assert len(await box.list()) <= 12
        assert (await box.list())[0].id == "id-39"
        await store.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_send_that_was_cut_off_by_a_kill_is_resumed(path):
    """A process that intends, sends, and says so; what it sent and did not settle guards."""
    script = f"""
import asyncio, pathlib
from store_rows import intent
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
from streamfaas.store.objects import Objects
from streamfaas.store.outbox import Outbox
async def one(box, first):
    for number in range(first, 1000000, 20):
        await box.intend(intent(number))
        print("intended", number, flush=True)
        await box.delivered(f"id-{{number}}")
        print("delivered", number, flush=True)
        await box.settled_ids([f"id-{{number}}"])
        print("settled", number, flush=True)
async def main():
    store = await Store.open(pathlib.Path({str(path)!r}))
    box = Outbox(store, emit=lambda signal: None, wall_clock=lambda: 0.0)
    await asyncio.gather(*(one(box, first) for first in range(20)))
asyncio.run(main())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(store_rows.__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [child.stdout.readline() for _ in range(400)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.read().splitlines(keepends=True)
    child.wait()
    child.stdout.close()
    said = {}
    for line in lines:
        if line.endswith("\n"):
            state, number = line.split()
            said[int(number)] = state

    async def look():
        store = await Store.open(path)
        box = Outbox(store, emit=silent)
        found = {n: (await box.show(f"id-{n}")).state for n in said}
        guarding = {one.id for one in await box.guarding("function/trigger", "orders-0")}
        await store.close()
        return found, guarding

    found, guarding = asyncio.run(look())
    order = ["intended", "delivered", "settled"]
    for number, state in said.items():
        assert order.index(found[number]) >= order.index(state)
        assert (f"id-{number}" in guarding) == (found[number] != "settled")

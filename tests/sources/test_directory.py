from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes

import anyio
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

import directory_reader
from directory_worlds import world
from source_subjects import loop_clock
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.ledger import QueueLedger, Receipts
from streamfaas.flow.record import Instant, Lane
from streamfaas.flow.verdict import judge_queue
from streamfaas.sources import Arrived, Held
from streamfaas.sources.directory import Directory, DirectoryOptions, inventory, tree
from streamfaas.store import Store, keyed
from streamfaas.store.objects import Change, Objects
from streamfaas.store.rows import Pending
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.testing.conformance import crashed, driven
from streamfaas.wire import inotify

NAME = "thumbs/inbox"


class Place:
    """A directory, a store, and sources over them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self.store = store
        self.signals: list[SourceChanged] = []
        self.count = itertools.count()

    def source(self, **options) -> Directory:
        chosen = {"interval_seconds": 0.05, "settle_seconds": 0.0, "parallel": 3} | options
        return Directory(
            NAME,
            DirectoryOptions(self.inbox, "inbox", **chosen),
            store=self.store,
            clock=loop_clock,
            emit=self.signals.append,
        )

    def put(self, key: str, content: bytes = b"x") -> None:
        """Moved in whole, with a time of modification of its own."""
        part = self.folder / "part"
        part.write_bytes(content)
        stamp = 1_600_000_000_000_000_000 + next(self.count)
        os.utime(part, ns=(stamp, stamp))
        (self.inbox / key).parent.mkdir(parents=True, exist_ok=True)
        part.rename(self.inbox / key)

    def said(self) -> list[str]:
        return [f"{signal.state} {signal.reason}".strip() for signal in self.signals]


@asynccontextmanager
async def place(folder: Path):
    store = await Store.open(folder / "state" / "streamfaas.db")
    made = Place(folder, store)
    made.inbox.mkdir(exist_ok=True)
    try:
        yield made
    finally:
        await store.close()


def told(record) -> tuple[str, str]:
    body = json.loads(record.value)
    return body["eventName"], unquote_to_bytes(
        body["s3"]["object"]["key"].replace("+", " ")
    ).decode()


async def until(driver, wanted: int):
    """Takes and finishes until so many records have come."""
    await driver.finish_all()
    while len(driver.seen) < wanted:
        await driver.step()
        await driver.finish_all()
    return [told(record) for record in driver.seen]


def test_files_become_s3_notifications(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("in/Happy Face.jpg", b"hello")
            before = time.time()
            async with driven(p.source()) as driver:
                (record,) = await driver.take(1)
                run = driver.taken[0]
                event = json.loads(driver.source.event(Batch((run,))))
                (told_,) = event["Records"]
                assert json.loads(record.value) == told_
                assert (
                    told_["s3"]["object"].items()
                    >= {
                        "key": "in/Happy+Face.jpg",
                        "size": 5,
                        "eTag": hashlib.md5(b"hello").hexdigest(),
                    }.items()
                )
                assert told_["s3"]["configurationId"] == "inbox"
                assert told_["s3"]["bucket"]["name"] == "inbox"
                assert told_["eventName"] == "ObjectCreated:Put"
                assert int(told_["s3"]["object"]["sequencer"], 16) == record.position
                assert record.key == b"in/Happy Face.jpg"
                assert before - 1 < record.timestamp_ms / 1000 <= time.time()
                assert run.oldest == record.timestamp_ms / 1000
                assert driver.source.batch_info(Batch((run,))) == {
                    "S3BatchInfo": {
                        "batchSize": 1,
                        "bucketName": "inbox",
                        "objects": [
                            {
                                "key": "in/Happy+Face.jpg",
                                "sequencer": told_["s3"]["object"]["sequencer"],
                            }
                        ],
                    }
                }
                assert driver.source.judge is judge_queue
                assert isinstance(driver.source.ledger(run.lane), QueueLedger)

    uvloop.run(main())


@pytest.mark.slow
def test_the_kernel_tells_where_to_look_long_before_the_next_sweep(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            (p.inbox / "there").mkdir()
            source = p.source(interval_seconds=3600, events=("*",))
            async with driven(source) as driver:
                p.put("first")
                await until(driver, 1)  # by the first sweep, or by the kernel's word
                await driver.quiet()  # so that the kernel is being listened to
                p.put("there/second")
                assert (await until(driver, 2))[-1] == ("ObjectCreated:Put", "there/second")
                p.put("new/deep/third")
                assert (await until(driver, 3))[-1] == ("ObjectCreated:Put", "new/deep/third")
                (p.inbox / "there" / "second").unlink()
                assert (await until(driver, 4))[-1] == ("ObjectRemoved:Delete", "there/second")
                shutil.rmtree(p.inbox / "new")
                assert (await until(driver, 5))[-1] == ("ObjectRemoved:Delete", "new/deep/third")

    uvloop.run(main())


def test_prefix_suffix_and_kinds_of_events_are_chosen(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            for key in ("in/a.jpg", "in/b.png", "out/c.jpg", "in/sub/d.jpg"):
                p.put(key)
            options = {"prefix": "in/", "suffix": ".jpg", "events": ("ObjectRemoved:*",)}
            async with driven(p.source(**options)) as driver:
                await driver.quiet()
                for key in ("in/b.png", "out/c.jpg", "in/sub/d.jpg"):
                    (p.inbox / key).unlink()
                assert await until(driver, 1) == [("ObjectRemoved:Delete", "in/sub/d.jpg")]
                await driver.quiet()
            async with driven(p.source(prefix="in/", suffix=".jpg")) as driver:
                p.put("in/a.jpg", b"changed")
                p.put("in/e.jpg")
                keys = sorted(key for _, key in await until(driver, 2))
                assert keys == ["in/a.jpg", "in/e.jpg"], "what was filtered is remembered"

    uvloop.run(main())


def test_an_object_that_is_replaced_while_it_is_handled_is_a_new_event_after_it(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("a", b"1")
            source = p.source(events=("*",))
            async with driven(source) as driver:
                await driver.take(1)
                p.put("a", b"22")
                p.put("b", b"1")
                (other,) = await driver.take(1)
                assert other.key == b"b", "one at a time for each key"
                while source.view().details["pending"] < 3:
                    await driver.quiet()
                (p.inbox / "a").unlink()
                while source.view().details["pending"] < 4:
                    await driver.quiet()
                names = await until(driver, 4)
                sizes = [json.loads(r.value)["s3"]["object"].get("size") for r in driver.seen]
            assert names[2:] == [("ObjectCreated:Put", "a"), ("ObjectRemoved:Delete", "a")]
            assert [sizes[0], *sizes[2:]] == [1, 2, None]

    uvloop.run(main())


@pytest.mark.slow
def test_a_key_that_fails_is_held_until_it_is_due_and_holds_nobody_else(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("bad")
            source = p.source(parallel=1)
            async with driven(source) as driver:
                await driver.take(1)
                at = Instant(loop_clock() + 0.4)
                await driver.release(driver.taken[0], at)
                p.put("bad", b"again")  # held behind it
                for number in range(5):
                    p.put(f"good{number}")
                names = await until(driver, 6)
                assert {key for _, key in names[1:]} == {f"good{number}" for number in range(5)}
                assert loop_clock() < at
                while len(driver.seen) < 7:
                    await driver.step()
                assert loop_clock() >= at
                assert driver.taken[0].deliveries == 1
                assert driver.seen[-1] == driver.seen[0]
                await driver.finish(driver.taken[0])
                await driver.take(1)
                assert json.loads(driver.seen[-1].value)["s3"]["object"]["size"] == 5

    uvloop.run(main())


@pytest.mark.slow
def test_a_key_that_fails_again_and_again_is_shown_as_blocked_by_its_name(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("bäd")
            for life in range(2):
                async with driven(p.source()) as driver:
                    for _ in range(3 - life):
                        await driver.take(1)
                        at = loop_clock()
                        await driver.release(driver.taken[0], at, "KeyError: 'total'")
                    view = driver.source.view()
                    assert view.details["pending"] == 1
                    assert sum(lane.lag for lane in view.lanes.values()) == 1
            reason = "ObjectCreated:Put has failed 5 times: KeyError: 'total'"
            assert view.blocked == {Lane(NAME, "bäd"): reason}
            assert view.held == {Lane(NAME, "bäd"): Held(5, reason, at)}
            assert view.details["blocked"] == 1

    uvloop.run(main())


@pytest.mark.slow
def test_a_directory_that_vanishes_is_told_once_and_heals_by_itself(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("a")
            source = p.source(events=("*",))
            async with driven(source) as driver:
                await until(driver, 1)
                p.inbox.rename(tmp_path / "away")
                while source.view().state != "degraded":
                    await driver.quiet()
                await driver.quiet()
                await driver.quiet()
                assert len(p.said()) == 2, p.said()
                assert "No such file" in source.view().reason
                (tmp_path / "away").rename(p.inbox)
                p.put("b")
                assert (await until(driver, 2))[-1] == ("ObjectCreated:Put", "b")
                while source.view().state != "running":
                    await driver.quiet()
                p.inbox.rename(tmp_path / "away")
                p.inbox.mkdir()
                while source.view().state != "degraded":
                    await driver.quiet()
                assert "is a volume not mounted?" in source.view().reason
                assert len(driver.seen) == 2
                p.put("a", b"anew")
                p.put("b", b"anew")
                await until(driver, 4)
                while source.view().state != "running":
                    await driver.quiet()

    uvloop.run(main())


@pytest.mark.slow
def test_a_directory_that_was_made_anew_is_watched_anew(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            source = p.source(interval_seconds=0.3)
            async with driven(source) as driver:
                p.put("a")
                await until(driver, 1)
                p.inbox.rename(tmp_path / "away")
                p.inbox.mkdir()
                while source.view().state != "degraded":
                    await driver.quiet()
                await driver.quiet()
                source._sweep_at = Instant(loop_clock() + 3600)  # only the kernel can tell
                p.put("b")
                await until(driver, 2)

    uvloop.run(main())


def test_links_and_odd_names_do_not_end_the_watching(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            (p.inbox / "up").symlink_to("..")
            Path(os.fsdecode(os.fsencode(p.inbox) + b"/\xff\xfe.dat")).touch()
            p.put("seen")
            # only the kernel can tell
            source = p.source(interval_seconds=3600, suffix="n")
            async with driven(source) as driver:
                await until(driver, 1)
                p.put("sub/n")
                await until(driver, 2)
                Path(os.fsdecode(os.fsencode(p.inbox) + b"/\xff")).touch()
                p.put("sub/sub/n")
                await until(driver, 3)
            assert source.view().details["watch"] == "on"
            assert {signal.state for signal in p.signals} == {"running"}

    uvloop.run(main())


def test_where_the_kernel_tells_nothing_the_state_says_so_until_it_does(tmp_path, monkeypatch):
    async def main():
        async with place(tmp_path) as p:
            source = p.source()
            with monkeypatch.context() as patched:
                patched.setattr(inotify, "_WANTED", 0)  # nothing to be told of: refused
                async with driven(source) as driver:
                    while source.view().state != "degraded":
                        await driver.quiet()
                    assert source.view().reason == (
                        "changes are found every 0.05 s and not at once: Invalid argument"
                    )
                    p.put("a")
                    await until(driver, 1)
                    patched.undo()
                    while source.view().state != "running":
                        await driver.quiet()

    uvloop.run(main())


def test_what_is_left_out_is_told_once(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            (p.inbox / "link").symlink_to("/etc/passwd")
            async with driven(p.source()) as driver:
                await driver.quiet()
                await driver.quiet()
            lines = [line for line in p.said() if "link" in line]
            assert lines == ["running link is left out: symbolic links are not followed"]

    uvloop.run(main())


def test_names_that_are_no_utf8_arrive_byte_for_byte(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            odd = p.inbox / os.fsdecode(b"caf\xe9\n\xff")
            odd.write_bytes(b"1")
            source = p.source()
            async with driven(source) as driver:
                (record,) = await driver.take(1)
                assert record.key == b"caf\xe9\n\xff"
                assert json.loads(record.value)["s3"]["object"]["key"] == "caf%E9%0A%FF"
                odd.write_bytes(b"22")
                odd.with_name(odd.name + "2").write_bytes(b"22")
                assert await until_keys(driver, 2)
                source.view()

    async def until_keys(driver, count):
        while len({record.key for record in driver.seen}) < count:
            await driver.finish_all()
            await driver.step()
        return True

    uvloop.run(main())


def test_after_a_loss_of_memory_what_is_there_is_an_event_even_if_ignored_at_first(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("old")
            await asyncio.sleep(0.05)  # older than the trigger
            async with driven(p.source(existing=False)) as driver:
                await driver.quiet()
                assert driver.seen == []
        (tmp_path / "state" / "streamfaas.db").write_bytes(b"damaged")
        async with place(tmp_path) as p, driven(p.source(existing=False)) as driver:
            assert await until(driver, 1) == [("ObjectCreated:Put", "old")]

    uvloop.run(main())


def test_a_store_that_fails_is_unreachable_and_nothing_is_lost(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            for number in range(3):
                p.put(f"n{number}")
            async with driven(p.source()) as driver:
                await driver.take(3)
                run = driver.taken[0]
                await p.store._writer.stop()
                with pytest.raises(Unreachable, match="closed"):
                    await driver.finish(run)
                p.put("more")
                while driver.source.view().state != "degraded":
                    with anyio.move_on_after(0.05):
                        await driver.step()
        async with place(tmp_path) as p, driven(p.source()) as driver:
            keys = {key for _, key in await until(driver, 4)}
            assert keys == {"n0", "n1", "n2", "more"}

    uvloop.run(main())


def test_a_settlement_of_what_is_not_in_hand_changes_nothing(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            p.put("a")
            async with driven(p.source()) as driver:
                await driver.take(1)
                lane = driver.taken[0].lane
                await driver.source.settle(Receipts(lane, finished=((5, 5),)))
                await driver.source.settle(Receipts(Lane(NAME, "slot-2"), finished=((5, 5),)))
                with pytest.raises(AssertionError):
                    await driver.source.rewind(lane, 0)
                await driver.source.closed(lane)  # what it had goes to another
                driver.taken.clear()
                driver.ledgers[lane] = driver.source.ledger(lane)
                (again,) = await driver.take(1)
                assert again.position == driver.seen[0].position

    uvloop.run(main())


@pytest.mark.slow
def test_a_life_that_is_cut_off_ends_at_once_and_so_does_a_close(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            for ending in (crashed, driven):
                with anyio.fail_after(60):
                    async with ending(p.source(interval_seconds=3600)) as driver:
                        p.put("x")
                        await driver.take(1)
                        await driver.quiet()  # so that the kernel is being listened to

    uvloop.run(main())


def test_a_call_that_is_cancelled_while_it_reads_the_store_forgets_nothing(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            for number in range(3):
                p.put(f"n{number}")
            async with driven(p.source()) as driver:
                await driver.take(3)
            async with driven(p.source(interval_seconds=3600)) as driver:
                for _ in range(20):
                    with anyio.move_on_after(0):
                        await driver.step()
                await driver.take(3)

    uvloop.run(main())


@pytest.mark.slow
def test_a_disk_that_hangs_is_told_and_what_lies_ready_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "STEP_SECONDS", 0.3)
    gate = threading.Event()

    async def main():
        async with place(tmp_path) as p:
            for number in range(6):
                p.put(f"n{number}")
            async with driven(p.source(parallel=1)) as driver:
                await driver.take(1)
                while driver.source.view().details["pending"] < 6:
                    await driver.quiet()
                take = tree.take
                monkeypatch.setattr(tree, "take", lambda *given: gate.wait(20) and take(*given))
                while driver.source.view().state != "degraded":
                    await driver.quiet()
                assert "has not answered within" in driver.source.view().reason
                await until(driver, 6)
                gate.set()
                p.put("more")
                await until(driver, 7)
                while driver.source.view().state != "running":
                    await driver.quiet()

    uvloop.run(main())


@pytest.mark.root
@pytest.mark.slow
def test_a_full_disk_of_the_store_is_told_and_nothing_is_lost_once_there_is_room(tmp_path):
    disk = tmp_path / "state"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")

    async def main():
        async with place(tmp_path) as p:
            p.put("first")
            async with driven(p.source()) as driver:
                await until(driver, 1)
                ballast = disk / "ballast"
                room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                with suppress(OSError):  # somebody else has had the last of it: full it is
                    ballast.write_bytes(bytes(room))
                for number in range(3000):
                    p.put(f"n{number}")
                while driver.source.view().state != "degraded":
                    with anyio.move_on_after(0.02):
                        await driver.step()
                assert "make room" in driver.source.view().reason
                ballast.unlink()
                while driver.source.view().state != "running":
                    with anyio.move_on_after(0.02):
                        await driver.step()
                assert driver.source.view().details["pending"] >= 2990

    try:
        uvloop.run(main())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_reader_that_is_killed_again_and_again_misses_nothing(tmp_path):
    chance, count = random.Random(7), itertools.count(1)
    (tmp_path / "inbox").mkdir()
    final: dict[str, int] = {}

    def change() -> None:
        key = f"k{chance.randrange(12)}"
        path = tmp_path / "inbox" / key
        if key in final and chance.random() < 0.25:
            path.unlink()
            del final[key]
        else:
            size = next(count)
            (tmp_path / "part").write_bytes(b"x" * size)
            (tmp_path / "part").rename(path)
            final[key] = size

    def lines() -> list[tuple[str, str, int]]:
        found = (tmp_path / "lines").read_text().splitlines()
        return [(key, size, int(number, 16)) for key, size, number in map(str.split, found)]

    def last_of(told) -> dict[str, int]:
        last: dict[str, tuple[int, str]] = {}
        for key, size, number in told:
            last[key] = max(last.get(key, (0, "")), (number, size))
        return {key: int(size) for key, (_, size) in last.items() if size != "-"}

    command = [sys.executable, directory_reader.__file__, str(tmp_path)]
    for life in range(9):
        with subprocess.Popen(command) as child:
            try:
                until_ = time.monotonic() + (30 if life == 8 else 0.5 + chance.random() / 2)
                while time.monotonic() < until_:
                    if life < 8:
                        change()
                        time.sleep(chance.random() / 100)
                    elif last_of(lines()) == final:
                        break
                    else:
                        time.sleep(0.02)
            finally:
                child.kill()
    told = lines()
    assert last_of(told) == final
    assert len(told) > 20
    firsts = list(dict.fromkeys(told))
    for key in {key for key, _, _ in told}:
        numbers = [number for one, _, number in firsts if one == key]
        assert numbers == sorted(numbers), "out of order"


# -- the queue of events


ACTIONS = ["arrive", "take", "take", "finish", "fail", "back", "later", "restart"]


@pytest.mark.slow
@settings(max_examples=60)
@given(data=st.data(), pages=st.integers(1, 4), bound=st.integers(1, 5))
def test_events_go_in_order_for_each_key_once_each_and_none_is_forgotten(data, pages, bound):
    page, keys_max = keyed.PAGE, keyed.KEYS_MAX
    keyed.PAGE, keyed.KEYS_MAX = pages, bound + 3

    async def main():
        async with world() as w:
            objects = Objects(w.store, NAME)
            await objects.open(0)
            events = keyed.KeyedQueue(objects)
            await events.open()
            numbers = itertools.count(1)
            waiting: dict[bytes, list[int]] = {}
            failures: dict[int, int] = {}
            in_hand: list[Pending] = []
            held: dict[int, float] = {}
            now = 0.0
            for _ in range(data.draw(st.integers(0, 60))):
                match data.draw(st.sampled_from(ACTIONS)):
                    case "arrive":
                        changes = []
                        for _ in range(data.draw(st.integers(1, 4))):
                            key, number = (
                                data.draw(st.sampled_from([b"a", b"b", b"c", b"d"])),
                                next(numbers),
                            )
                            changes.append(
                                Change(key, None, Pending(number, key, "N", 0, None, None))
                            )
                            waiting.setdefault(key, []).append(number)
                        await objects.record(changes)
                        events.arrived(len(changes))
                    case "take" if len(in_hand) < bound:
                        await events.refill()
                        event = events.take(Instant(now))
                        busy = {e.key for e in in_hand}
                        if event is None:
                            free = [
                                key for key, numbers_ in waiting.items()
                                if numbers_ and key not in busy and held.get(numbers_[0], -1) <= now
                            ]  # fmt: skip
                            assert not free
                            continue
                        assert event.key not in busy
                        assert waiting[event.key][0] == event.sequencer
                        assert held.pop(event.sequencer, -1) <= now
                        assert event.failures == failures.get(event.sequencer, 0)
                        in_hand.append(event)
                    case "finish" if in_hand:
                        event = in_hand.pop(data.draw(st.integers(0, len(in_hand) - 1)))
                        await events.finish(event)
                        waiting[event.key].remove(event.sequencer)
                    case "fail" if in_hand:
                        event = in_hand.pop(data.draw(st.integers(0, len(in_hand) - 1)))
                        at = now + data.draw(st.integers(0, 5))
                        await events.give_back(event, Instant(at))
                        failures[event.sequencer] = failures.get(event.sequencer, 0) + 1
                        held[event.sequencer] = at
                    case "back" if in_hand:
                        await events.give_back(in_hand.pop(), None)
                    case "later":
                        now += data.draw(st.integers(0, 5))
                    case "restart":
                        events = keyed.KeyedQueue(objects)
                        await events.open()
                        in_hand.clear()
                        held.clear()
                assert events.count == sum(map(len, waiting.values()))
            left = sum(map(len, waiting.values()))
            now += 100
            for event in in_hand:
                await events.give_back(event, None)
            while left:
                await events.refill()
                event = events.take(Instant(now))
                assert event is not None
                assert waiting[event.key].pop(0) == event.sequencer
                await events.finish(event)
                left -= 1
            assert events.count == 0
            assert events._heads == {}

    try:
        asyncio.run(main())
    finally:
        keyed.PAGE, keyed.KEYS_MAX = page, keys_max


def test_an_event_that_arrives_while_its_predecessor_is_finished_is_not_forgotten(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            objects = Objects(p.store, NAME)
            await objects.open(0)
            events = keyed.KeyedQueue(objects)
            await events.open()

            async def arrive(number: int) -> None:
                await objects.record(
                    [Change(b"k", None, Pending(number, b"k", "N", 0, None, None))]
                )
                events.arrived(1)
                await events.refill()

            await arrive(1)
            for number in range(2, 60):
                event = events.take(Instant(0))
                assert event.sequencer == number - 1
                await asyncio.gather(events.finish(event), arrive(number))
                await events.refill()

    asyncio.run(main())


# -- everything together

KEYS = st.sampled_from(["a", "b", "d/a", "d/b"])
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS),
    st.tuples(st.just("remove"), KEYS),
    st.tuples(st.just("take"), st.integers(1, 3)),
    st.tuples(st.just("finish")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("pause")),
    st.tuples(st.sampled_from(["restart", "crash"])),
)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(STEPS, max_size=25))
def test_every_last_state_is_reported_and_nothing_is_lost_whatever_happens(steps):
    folder = Path(tempfile.mkdtemp())
    files: dict[str, int] = {}  # sizes, no two of which are alike
    sizes = itertools.count(1)
    history: dict[str, list[tuple[int | None, int]]] = {}

    def note(driver) -> None:
        for record in driver.seen:
            size = json.loads(record.value)["s3"]["object"].get("size")
            history.setdefault(record.key.decode(), []).append((size, record.position))
        driver.seen.clear()

    async def carry_out(p, driver, steps) -> str:
        for step in steps:
            match step:
                case "put", key:
                    files[key] = next(sizes)
                    p.put(key, b"x" * files[key])
                case "remove", key if key in files:
                    (p.inbox / key).unlink()
                    del files[key]
                case "take", count:
                    for _ in range(count):
                        if driver.may_take():
                            with anyio.move_on_after(0.03):
                                await driver.step()
                case ("finish",) if driver.taken:
                    await driver.finish(driver.taken[0])
                case ("fail",) if driver.taken:
                    await driver.release(driver.taken[-1], Instant(loop_clock() + 0.01))
                case ("pause",):
                    with anyio.move_on_after(0.03):
                        await asyncio.Event().wait()
                case ("restart",) | ("crash",):
                    return step[0]
            note(driver)
        return ""

    async def main():
        async with place(folder) as p:
            left = iter(steps)
            ending = "restart"
            while ending:
                life = driven if ending == "restart" else crashed
                async with life(p.source(events=("*",), interval_seconds=0.01)) as driver:
                    ending = await carry_out(p, driver, left)
                    note(driver)
            async with driven(p.source(events=("*",), interval_seconds=0.01)) as driver:
                with anyio.fail_after(30):
                    while not settled(driver.source):
                        with anyio.move_on_after(0.03):
                            await driver.step()
                        await driver.finish_all()
                        note(driver)
            rows = await driver.source._inventory._objects.page(b"", None, 100)
            assert {row.key.decode(): row.size for row in rows} == files

    def settled(source) -> bool:
        """The last event of each key tells of its last state."""
        last = {key: events[-1][0] for key, events in history.items() if events[-1][0] is not None}
        return last == files and not source.view().details["pending"]

    try:
        uvloop.run(main())
    finally:
        shutil.rmtree(folder)
    for events in history.values():  # again and again, but never out of order
        firsts = [position for _, position in dict.fromkeys(events)]
        assert firsts == sorted(firsts)


def test_an_arrival_is_one_record(tmp_path):
    async def main():
        async with place(tmp_path) as p:
            for number in range(3):
                p.put(f"n{number}")
            async with driven(p.source(parallel=2)) as driver:
                arrivals = [await driver.step() for _ in range(4)]
                runs = [arrival.run for arrival in arrivals if isinstance(arrival, Arrived)]
                assert [run.count for run in runs] == [1, 1]
                assert {run.lane.name for run in runs} == {"slot-0", "slot-1"}

    uvloop.run(main())

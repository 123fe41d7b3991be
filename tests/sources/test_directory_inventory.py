from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directory_worlds import LONG_AGO_NS, run, world
from streamfaas.flow.errors import Gone, Refused, WorldError
from streamfaas.sources.directory import inventory, tree
from streamfaas.sources.directory.tree import Hidden, Seen, Skipped

# -- what a walk sees


def walked(root) -> list:
    return list(tree.walk(tree.open_root(root)))


def keys(looks) -> list[bytes]:
    return [look.key for look in looks if isinstance(look, Seen)]


NAMES = st.text(alphabet="ab.-/0é", min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.sets(NAMES, max_size=12))
def test_keys_come_in_the_order_of_their_bytes_and_are_all_there(names):
    root = Path(tempfile.mkdtemp())
    try:
        expected = set()
        for name in names:
            parts = [part for part in name.split("/") if part and not part.startswith(".")]
            path = root.joinpath(*parts)
            if not parts or path.exists() or any(up.is_file() for up in path.parents):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            expected.add(os.fsencode("/".join(parts)))
        found = keys(walked(root))
        assert found == sorted(expected)
        opened = tree.open_root(root)
        for key in expected:
            prefix = key.rpartition(b"/")[0]
            if prefix:
                below = [one for one in found if one.startswith(prefix + b"/")]
                assert keys(tree.walk(opened, prefix + b"/")) == below
            assert tree.look(opened, key).key == key
    finally:
        shutil.rmtree(root)


def test_only_regular_files_with_plain_names_count(tmp_path):
    (tmp_path / "plain").write_text("1")
    (tmp_path / ".hidden").write_text("1")
    (tmp_path / ".folder").mkdir()
    (tmp_path / ".folder" / "in").write_text("1")
    (tmp_path / "link").symlink_to("plain")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    looks = walked(tmp_path)
    assert keys(looks) == [b"plain"]
    assert {look.key for look in looks if isinstance(look, Skipped)} == {b"link", b"loop"}
    root = tree.open_root(tmp_path)
    for key in (b"link", b"loop/plain", b"fifo", b"socket", b"missing", b"plain/below"):
        assert tree.look(root, key) is None
        assert not tree.is_folder(root, key)


def test_names_that_are_no_utf8_are_kept_byte_for_byte(tmp_path):
    name = b"caf\xe9 \xff"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("1")
    (seen,) = walked(tmp_path)
    assert seen.key == name
    assert tree.entity_tag(tree.open_root(tmp_path), seen) == hashlib.md5(b"1").hexdigest()


def test_a_key_has_1024_bytes_at_most(tmp_path):
    deep = tmp_path
    for _ in range(4):
        deep = deep / ("d" * 250)
    deep.mkdir(parents=True)
    (deep / "fits").write_text("1")
    (deep / ("x" * 20)).write_text("1")
    (deep / ("x" * 21)).write_text("1")
    looks = walked(tmp_path)
    assert [len(key) for key in keys(looks)] == [1008, 1024]
    (skipped,) = (look for look in looks if isinstance(look, Skipped))
    assert "1024 bytes" in skipped.reason


def test_a_tag_is_the_md5_of_the_content_or_a_tag_of_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MD5_BYTES_MAX", 10)
    (tmp_path / "small").write_bytes(b"0123456789")
    (tmp_path / "large").write_bytes(b"0123456789" * 3)
    root = tree.open_root(tmp_path)
    large, small = walked(tmp_path)
    assert tree.entity_tag(root, small) == hashlib.md5(b"0123456789").hexdigest()
    tag = tree.entity_tag(root, large)
    assert tag == tree.entity_tag(root, large)
    digest, _, parts = tag.partition("-")
    assert (len(digest), parts) == (32, "3")
    os.utime(tmp_path / "large", ns=(5, 5))
    assert tree.entity_tag(root, large) is None, "it is another file by now"
    assert tree.entity_tag(root, walked(tmp_path)[0]) != tag
    (tmp_path / "small").unlink()
    assert tree.entity_tag(root, small) is None


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_folders_are_closed_with_their_last_user(tmp_path):
    for number in range(5):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "f").write_text("1")
    before = open_descriptors()
    walker = tree.walk(tree.open_root(tmp_path))
    tree.take(walker, 2)
    assert open_descriptors() > before
    del walker
    assert open_descriptors() == before


# -- the model: whatever is done between two looks, each look tells exactly what differs

KEY = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/f", "z z", "é"])
STEPS = st.one_of(
    st.tuples(st.just("put"), KEY, st.binary(max_size=3)),
    st.tuples(st.just("remove"), KEY),
    st.tuples(st.just("rename"), KEY, KEY),
    st.tuples(st.just("look")),
    st.tuples(st.just("examine"), st.sets(KEY, max_size=4)),
    st.tuples(st.just("restart")),
)


@pytest.mark.slow
@settings(max_examples=80)
@given(st.lists(STEPS, max_size=30), st.booleans())
def test_each_look_tells_exactly_what_differs_from_the_last(steps, small_pages):
    page = inventory.PAGE
    inventory.PAGE = 2 if small_pages else page

    async def main():
        async with world() as w:
            files: dict[bytes, tuple[bytes, int]] = {}  # content, and the stamp that it came with
            known: dict[bytes, tuple[bytes, int]] = {}
            expected: list[tuple[str, bytes]] = []
            tags: list[str | None] = []

            def compare(only=None):
                for key in sorted(files.keys() | known.keys()):
                    if (only is not None and key not in only) or files.get(key) == known.get(key):
                        continue
                    if key in files:
                        known[key] = files[key]
                        expected.append(("Created", key))
                        tags.append(hashlib.md5(files[key][0]).hexdigest())
                    else:
                        del known[key]
                        expected.append(("Removed", key))
                        tags.append(None)

            for step in [*steps, ("look",)]:
                match step:
                    case "put", key, content:
                        w.put(key, content)
                        files[os.fsencode(key)] = (content, w.stamp)
                    case "remove", key if os.fsencode(key) in files:
                        w.remove(key)
                        del files[os.fsencode(key)]
                    case "rename", key, to if os.fsencode(key) in files and key != to:
                        (w.inbox / to).parent.mkdir(exist_ok=True, parents=True)
                        (w.inbox / key).rename(w.inbox / to)
                        files[os.fsencode(to)] = files.pop(os.fsencode(key))
                    case ("look",):
                        await w.look()
                        compare()
                    case "examine", some if len(some) <= inventory.PAGE:
                        only = {os.fsencode(key) for key in some}
                        await w.inventory.examine(only)
                        compare(only)
                    case ("restart",):
                        await w.restart()
            assert await w.told() == expected
            events = await w.events()
            assert [event.etag for event in events] == tags
            numbers = [event.sequencer for event in events]
            assert numbers == sorted(set(numbers))
            assert w.recorded == len(events)

    try:
        run(main)
    finally:
        inventory.PAGE = page


def test_directories_that_come_and_go_are_found_by_looking_at_their_name(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            (tmp_path / "made").mkdir()
            for name in ("one", "two", "three/four"):
                (tmp_path / "made" / name).parent.mkdir(exist_ok=True)
                (tmp_path / "made" / name).write_text(name)
                os.utime(tmp_path / "made" / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
            (tmp_path / "made").rename(w.inbox / "sub")
            await w.inventory.examine([b"sub"])
            created = [("Created", b"sub/" + k) for k in (b"one", b"three/four", b"two")]
            assert await w.told() == created
            (w.inbox / "sub").rename(tmp_path / "elsewhere")
            await w.inventory.examine([b"sub", b"nothing"])
            removed = [("Removed", key) for _, key in created]
            assert await w.told() == created + removed

    run(main)


def test_a_directory_in_place_of_a_file_and_back(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            w.put("a")
            await w.look()
            w.remove("a")
            w.put("a/b")
            await w.look()
            shutil.rmtree(w.inbox / "a")
            w.put("a")
            await w.look()
            (w.inbox / "a").unlink()
            (w.inbox / "a").symlink_to("/etc/passwd")
            await w.look()
            assert await w.told() == [
                ("Created", b"a"),
                ("Removed", b"a"), ("Created", b"a/b"),
                ("Created", b"a"), ("Removed", b"a/b"),
                ("Removed", b"a"),
            ]  # fmt: skip

    run(main)


# -- files in the making


def write(path: Path, content: bytes, at: float) -> None:
    path.write_bytes(content)
    os.utime(path, (at, at))


def test_a_file_that_is_being_written_is_no_event_yet(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            for length in range(5):  # a slow writer
                write(w.inbox / "big", b"x" * length, w.wall)
                await w.look()
                assert w.inventory.due == pytest.approx(w.clock() + 1.0, abs=0.01)
                w.advance(0.5)
            assert await w.told() == []
            w.advance(0.6)
            assert w.inventory.due_keys() == {b"big"}
            await w.inventory.examine(w.inventory.due_keys())
            (event,) = await w.events()
            assert (event.key, event.size) == (b"big", 4)
            assert w.inventory.due is None

    run(main)


def test_a_file_that_is_moved_in_is_an_event_at_once(tmp_path):
    async def main():
        async with world(tmp_path, settle_seconds=3600) as w:
            w.put("moved")
            await w.look()
            assert await w.told() == [("Created", b"moved")]

    run(main)


def test_a_file_out_of_the_future_counts_once_it_was_left_alone_by_our_clock(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            write(w.inbox / "skewed", b"1", w.wall + 3600)
            await w.look()
            w.advance(0.9)
            await w.look()
            assert await w.told() == []
            write(w.inbox / "skewed", b"12", w.wall + 3600)
            w.advance(0.2)
            await w.look()
            assert await w.told() == [], "it was touched in between"
            w.advance(1.0)
            await w.inventory.examine(w.inventory.due_keys())
            assert await w.told() == [("Created", b"skewed")]

    run(main)


def test_a_file_that_went_before_it_was_whole_is_forgotten(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            write(w.inbox / "short", b"1", w.wall)
            await w.look()
            w.remove("short")
            w.advance(2)
            await w.inventory.examine(w.inventory.due_keys())
            assert w.inventory.due is None
            assert await w.told() == []

    run(main)


def test_more_files_in_the_making_than_are_watched_are_found_by_sweeps(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "UNSETTLED_MAX", 3)

    async def main():
        async with world(tmp_path) as w:
            for number in range(8):
                write(w.inbox / f"n{number}", b"1", w.wall)
            await w.look()
            w.advance(2)
            await w.inventory.examine(w.inventory.due_keys())
            assert len(await w.told()) == 3
            await w.look()
            assert len(await w.told()) == 8

    run(main)


def test_a_file_that_changes_while_its_tag_is_made_waits(tmp_path, monkeypatch):
    async def main():
        async with world(tmp_path) as w:
            w.put("racing", b"1")
            entity_tag = tree.entity_tag

            def replaced_meanwhile(root, seen):
                w.put("racing", b"22")
                return entity_tag(root, seen)

            monkeypatch.setattr(tree, "entity_tag", replaced_meanwhile)
            await w.look()
            assert await w.told() == []
            monkeypatch.setattr(tree, "entity_tag", entity_tag)
            w.advance(2)
            await w.inventory.examine(w.inventory.due_keys())
            (event,) = await w.events()
            assert event.size == 2

    run(main)


# -- what was there before


def test_objects_from_before_the_trigger_are_events_only_if_wanted(tmp_path):
    async def main():
        async with world(tmp_path, existing=False) as w:
            w.put("old")
            w.wall = time.time() + 10  # the trigger is born later
            await w.restart_as_new("other/trigger")
            await w.look()
            assert await w.told() == []
            w.wall = time.time() + 20
            w.put("old", b"changed")
            w.put("new")
            await w.look()
            assert await w.told() == [("Created", b"new"), ("Created", b"old")]
            w.remove("old")
            await w.look()
            assert (await w.told())[-1] == ("Removed", b"old")

    run(main)


def test_what_came_while_the_first_look_was_not_over_is_an_event(tmp_path):
    async def main():
        async with world(tmp_path, existing=False) as w:
            w.put("early")  # after the birth, before the first look
            await w.restart()
            await w.look()
            assert await w.told() == [("Created", b"early")]

    run(main)


# -- seen badly is not gone


def test_a_directory_that_vanishes_takes_no_object_with_it(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            for number in range(5):
                w.put(f"n{number}")
            await w.look()
            told = await w.told()
            w.inbox.rename(tmp_path / "away")
            with pytest.raises(Gone, match="inbox: No such file"):
                await w.look()
            with pytest.raises(WorldError):
                await w.inventory.examine([b"n1"])
            w.inbox.mkdir()  # another one of that name, empty
            await w.look()
            await w.inventory.examine([b"n1", b"n2"])
            assert await w.told() == told
            assert await w.inventory.elsewhere() == 5
            w.put("n1", b"other")
            w.put("fresh")
            await w.look()
            told += [("Created", b"fresh"), ("Created", b"n1")]
            assert await w.told() == told
            w.remove("fresh")
            await w.look()
            told += [("Removed", b"fresh")]
            assert await w.told() == told, "what was seen in this one can be removed from it"
            await w.restart()
            await w.look()
            assert await w.told() == told
            shutil.rmtree(w.inbox)
            (tmp_path / "away").rename(w.inbox)  # and back
            (w.inbox / "n3").unlink()
            await w.look()
            assert (await w.told())[len(told) :] == [("Created", b"n1"), ("Removed", b"n3")]
            assert await w.inventory.elsewhere() == 0

    run(main)


def test_a_directory_that_goes_away_during_a_look_takes_no_object_with_it(tmp_path, monkeypatch):
    async def main():
        async with world(tmp_path) as w:
            for number in range(5):
                w.put(f"n{number}")
            await w.look()
            told = await w.told()
            take = tree.take

            def late(walker, count):
                if w.inbox.exists():
                    shutil.rmtree(w.inbox)
                return take(walker, count)

            monkeypatch.setattr(tree, "take", late)
            with pytest.raises(Gone, match="went away"):
                await w.look()
            assert await w.told() == told

    run(main)


def test_a_name_that_a_listing_missed_is_not_gone(tmp_path, monkeypatch):
    async def main():
        async with world(tmp_path) as w:
            for name in ("a", "b", "c"):
                w.put(name)
            await w.look()
            take = tree.take
            monkeypatch.setattr(
                tree, "take", lambda *given: [one for one in take(*given) if one.key != b"b"]
            )
            await w.look()
            assert len(await w.told()) == 3
            w.remove("b")
            await w.look()
            assert (await w.told())[-1] == ("Removed", b"b")

    run(main)


@contextmanager
def small_disk(folder: Path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount")
    try:
        yield lambda: subprocess.run(["umount", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@pytest.mark.root
@pytest.mark.slow
def test_a_volume_that_is_not_mounted_takes_no_object_with_it(tmp_path):
    async def main():
        (tmp_path / "inbox").mkdir()
        with small_disk(tmp_path / "inbox") as unmount:
            async with world(tmp_path) as w:
                for number in range(5):
                    (w.inbox / f"n{number}").write_text("1")
                w.advance(5)
                await w.look()
                told = await w.told()
                assert len(told) == 5
                unmount()
                await w.look()
                await w.restart()
                await w.look()
                assert await w.told() == told
                assert await w.inventory.elsewhere() == 5
                (w.inbox / "stray").write_text("a producer that did not notice")
                w.advance(5)
                await w.look()
                assert await w.told() == [*told, ("Created", b"stray")]

    run(main)


@contextmanager
def unprivileged(folder: Path):
    """Whoever runs this may not pass by the rights of files."""
    if os.geteuid():
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder():
    """A place that other users can get at."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_what_may_not_be_looked_into_is_not_gone(open_folder):
    async def main():
        with unprivileged(open_folder):
            async with world(open_folder) as w:
                for name in ("a", "d/one", "d/two", "e"):
                    w.put(name)
                await w.look()
                told = await w.told()
                (w.inbox / "d").chmod(0)
                findings = await w.look()
                assert findings.hidden == [Hidden(b"d/", "Permission denied")]
                await w.inventory.examine([b"d/one", b"d"])
                assert await w.told() == told
                w.remove("e")
                await w.look()
                assert await w.told() == [*told, ("Removed", b"e")]
                (w.inbox / "d").chmod(stat.S_IRWXU)
                w.remove("d/two")
                await w.look()
                assert (await w.told())[-1] == ("Removed", b"d/two")
                w.put("secret", b"1")
                (w.inbox / "secret").chmod(0)
                await w.look()
                event = (await w.events())[-1]
                assert event.key == b"secret"
                assert event.etag.endswith("-2"), "the content cannot be read, the object is there"
                w.inbox.chmod(0)
                with pytest.raises(Refused, match="Permission denied"):
                    await w.look()
                w.inbox.chmod(0o300)  # may be entered, not listed: `open` fails
                with pytest.raises(Refused):
                    await w.look()
                w.inbox.chmod(stat.S_IRWXU)

    run(main)


def test_events_that_nobody_wants_are_remembered_without(tmp_path):
    async def main():
        async with world(tmp_path, wanted=lambda name, key: key.endswith(b".jpg")) as w:
            w.put("a.txt")
            w.put("b.jpg")
            await w.look()
            await w.look()
            w.remove("a.txt")
            w.remove("b.jpg")
            await w.look()
            assert await w.told() == [("Created", b"b.jpg"), ("Removed", b"b.jpg")]

    run(main)


def test_sequencers_rise_though_the_clock_goes_back(tmp_path):
    async def main():
        async with world(tmp_path) as w:
            for number in range(4):
                w.put("a", b"x" * number)
                await w.look()
                w.wall -= 1000
                await w.restart()
            numbers = [event.sequencer for event in await w.events()]
            assert numbers == sorted(set(numbers))

    run(main)


@pytest.mark.slow
def test_a_hundred_thousand_files_are_looked_at_in_seconds_and_little_memory():
    import asyncio
    import tracemalloc

    count = 100_000
    folder = Path(tempfile.mkdtemp())

    async def main():
        async with world(folder, existing=False) as w:
            for number in range(count):
                if number % 20_000 == 0:
                    (w.inbox / f"d{number}").mkdir()
                place = w.inbox / f"d{number - number % 20_000}" / f"file-{number:06}"
                os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
            w.wall = time.time() + 100
            await w.restart_as_new("fresh/trigger")
            late: list[float] = []

            async def tick():
                while True:
                    before = time.thread_time()
                    await asyncio.sleep(0.005)
                    late.append(time.thread_time() - before)

            ticking = asyncio.create_task(tick())
            seconds = []
            for _ in range(2):
                started = time.process_time()
                await w.look()
                seconds.append(time.process_time() - started)
            w.remove("d20000/file-020007")
            tracemalloc.start()
            await w.look()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            ticking.cancel()
            late.sort()
            assert await w.told() == [("Removed", b"d20000/file-020007")]
            print(
                f"{count} files: first look {seconds[0]:.2f} s, then {seconds[1]:.2f} s; "
                f"{peak / count:.0f} bytes a key; the loop was kept busy for "
                f"{late[len(late) * 99 // 100] * 1e3:.1f} ms at p99, {late[-1] * 1e3:.1f} at most"
            )
            assert max(seconds) < 20
            assert peak / count <= 200
            assert late[len(late) * 99 // 100] < 0.1

    try:
        run(main)
    finally:
        shutil.rmtree(folder)

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import parts
import store_rows
from store_rows import change, numbers
from streamfaas.flow.errors import StoreError
from streamfaas.store import Store, database
from streamfaas.store.objects import Objects
from streamfaas.telemetry.signals import DaemonStepped


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "streamfaas.db"


async def opened(path):
    store = await Store.open(path)
    objects = Objects(store, "function/trigger")
    await objects.open(0)
    return store, objects


async def held_up(store):
    """The writer is busy until the gate is opened."""
    gate, loop, begun = threading.Event(), asyncio.get_running_loop(), asyncio.Event()

    def job(connection):
        loop.call_soon_threadsafe(begun.set)
        gate.wait(10)

    slow = asyncio.ensure_future(store.write(job))
    await begun.wait()
    return gate, slow


def test_what_was_written_is_there_after_a_restart(path):
    async def main():
        store, objects = await opened(path)
        await objects.record([change(1), change(2)])
        assert await numbers(store) == [1, 2]
        await store.close()
        await store.close()
        store, _ = await opened(path)
        assert store.lost == ""
        assert await numbers(store) == [1, 2]
        await store.close()

    asyncio.run(main())
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_jobs_that_wait_together_share_a_commit(path, monkeypatch):
    commits = []

    async def main():
        store, objects = await opened(path)
        run = database._write_group
        store._writer._run = lambda connection, group: (
            commits.append(len(group)),
            run(connection, group),
        )
        await asyncio.gather(*(objects.record([change(n)]) for n in range(2000)))
        assert await numbers(store) == list(range(2000))
        await store.close()

    asyncio.run(main())
    assert len(commits) < 200
    assert max(commits) <= database.GROUP_MAX


def test_a_job_that_fails_takes_nobody_else_down(path):
    def wrong(connection):
        connection.execute("DELETE FROM objects")
        raise ValueError("ours")

    def duplicate(connection):
        connection.execute("INSERT INTO origin SELECT follows FROM nowhere")

    async def main():
        store, objects = await opened(path)
        results = await asyncio.gather(
            objects.record([change(1)]),
            store.write(wrong),
            objects.record([change(2)]),
            store.write(duplicate),
            objects.record([change(3)]),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [
            type(None), ValueError, type(None), sqlite3.OperationalError, type(None)
        ]  # fmt: skip
        assert await numbers(store) == [1, 2, 3]
        await store.close()

    asyncio.run(main())


def test_a_reader_sees_what_was_written_before_and_cannot_write(path):
    async def main():
        store, objects = await opened(path)
        for number in range(20):
            await objects.record([change(number)])
            assert await numbers(store) == list(range(number + 1))
        with pytest.raises(StoreError, match="readonly"):
            await store.read(lambda connection: connection.execute("DELETE FROM objects"))
        assert await numbers(store) == list(range(20))
        await store.close()

    asyncio.run(main())


def test_a_caller_that_waits_too_long_is_told_and_its_job_withdrawn(path):
    async def main():
        store, objects = await opened(path)
        gate, slow = await held_up(store)
        with pytest.raises(StoreError, match=r"not answered within 0\.05 s"):
            await store.write(
                lambda connection: connection.execute("DELETE FROM objects"), deadline_seconds=0.05
            )
        gate.set()
        await slow
        await objects.record([change(1)])
        assert await numbers(store) == [1]
        await store.close()

    asyncio.run(main())


def test_a_cancelled_caller_leaves_the_store_whole(path):
    async def main():
        store, objects = await opened(path)
        gate, slow = await held_up(store)
        tasks = [asyncio.ensure_future(objects.record([change(n)])) for n in range(500)]
        await asyncio.sleep(0)
        gate.set()
        await slow
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        written = set(await numbers(store))
        assert {n for n, result in enumerate(results) if result is None} <= written
        await store.close()

    asyncio.run(main())


def test_more_callers_than_may_wait_take_turns(path, monkeypatch):
    monkeypatch.setattr(database, "WAITING_MAX", 10)

    async def main():
        store, objects = await opened(path)
        await asyncio.gather(*(objects.record([change(n)]) for n in range(200)))
        assert len(await numbers(store)) == 200
        gate, slow = await held_up(store)
        held = [slow]
        held += [asyncio.ensure_future(objects.record([change(300 + n)])) for n in range(9)]
        await asyncio.sleep(0)  # each has its turn
        assert store._writer._room.locked()
        with pytest.raises(StoreError, match="not answered"):
            await store.write(lambda connection: None, deadline_seconds=0.05)
        gate.set()
        await asyncio.gather(*held)
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.read(lambda connection: None)

    asyncio.run(main())


def test_a_store_belongs_to_one_daemon(path):
    async def main():
        store, _ = await opened(path)
        with pytest.raises(StoreError, match=rf"another daemon, process {os.getpid()}") as caught:
            await Store.open(path)
        assert "stop it" in caught.value.remedy
        await store.close()
        store, _ = await opened(path)
        await store.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_process_that_leaves_without_a_word_ends_at_once_and_loses_nothing(path):
    script = f"""
import asyncio, pathlib, store_rows
from streamfaas.store import Store
from streamfaas.store.objects import Objects
async def main():
    store = await Store.open(pathlib.Path({str(path)!r}))
    objects = Objects(store, "function/trigger")
    await objects.open(0)
    await objects.record([store_rows.change(7)])
asyncio.run(main())
"""
    folder = Path(store_rows.__file__).parent
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, timeout=20, check=False)
    assert done.returncode == 0

    async def look():
        store, _ = await opened(path)
        assert await numbers(store) == [7]
        await store.close()

    asyncio.run(look())


def test_a_damaged_store_is_told_and_remembered_until_a_clean_close(path):
    told = []

    async def main():
        await store_rows.fill(path, 1, 3)
        path.write_bytes(b"")
        store = await Store.open(path, emit=told.append)
        assert "the file is empty" in store.lost
        assert await numbers(store) == []
        copy = path.parent / "crashed.db"
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        await store.close()
        store = await Store.open(copy)
        assert "the file is empty" in store.lost, "a crash does not make it good"
        await store.close()
        store = await Store.open(path)
        assert store.lost == ""
        await store.close()

    asyncio.run(main())
    (signal_,) = told
    assert isinstance(signal_, DaemonStepped)
    assert ".corrupt-" in signal_.detail


def test_without_a_listener_a_damaged_store_is_logged(path, caplog):
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"not a database")

    async def main():
        store = await Store.open(path)
        await store.close()

    asyncio.run(main())
    assert "not an SQLite database" in caplog.text


@pytest.mark.slow
def test_every_row_that_was_acknowledged_survives_a_kill(path):
    for writers in (1, 50, 400):
        child = subprocess.Popen(
            [sys.executable, store_rows.__file__, str(path), str(writers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "begun\n"
        acknowledged = [child.stdout.readline() for _ in range(300)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.read().splitlines(keepends=True)
        child.wait()
        child.stdout.close()
        said = {int(line) for line in acknowledged if line.endswith("\n")}

        async def look():
            store = await Store.open(path)
            found = await numbers(store)
            lost = store.lost
            await store.close()
            return found, lost

        found, lost = asyncio.run(look())
        assert said <= set(found)
        assert not lost
        shutil.rmtree(path.parent)


@pytest.mark.slow
def test_twenty_thousand_rows_a_second_are_written_by_many_at_once(path):
    async def main():
        store, objects = await opened(path)

        async def one(writer):
            for number in range(writer, 20_000, 1000):
                await objects.record([change(number)])

        started = time.process_time()  # the machine is shared, and so is its disk
        await asyncio.gather(*(one(writer) for writer in range(1000)))
        rows = 2 * 20_000 / (time.process_time() - started)
        await store.close()
        return rows

    rows = asyncio.run(main())
    print(f"{rows:.0f} rows/s")
    assert rows >= 20_000


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
@pytest.mark.slow
def test_a_full_disk_is_an_error_and_writes_go_on_once_there_is_room(small_disk):
    path = small_disk / "state" / "streamfaas.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600 << 10))

    async def main():
        store, objects = await opened(path)
        written = []
        with pytest.raises(StoreError, match="full") as caught:
            for number in range(10_000):
                await objects.record([change(number)])
                written.append(number)
        assert "make room" in caught.value.remedy
        for _ in range(3):
            with pytest.raises(StoreError, match="full"):
                await objects.record([change(n) for n in range(20_000, 25_000)])
        assert await numbers(store) == written, "nothing half written"
        ballast.unlink()
        await objects.record([change(30_000)])
        assert await numbers(store) == [*written, 30_000]
        await store.close()
        store, _ = await opened(path)
        assert await numbers(store) == [*written, 30_000]
        assert not store.lost
        await store.close()

    asyncio.run(main())


@pytest.mark.root
@pytest.mark.slow
def test_a_store_cannot_begin_on_a_full_disk(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((1 << 20) - 4096 * 3))

    async def main():
        path = small_disk / "state" / "streamfaas.db"
        with pytest.raises(StoreError):
            await Store.open(path)
        assert not path.exists()
        ballast.unlink()
        store, _ = await opened(path)
        assert not store.lost
        await store.close()

    asyncio.run(main())


@pytest.fixture(scope="module")
def strace():
    """Runs `strace`, where a process may be traced."""
    if shutil.which("strace") is None:
        parts.missing("strace")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode:
        parts.missing("the right to trace a process")
    return ["strace", "-f", "-qq", "-o", "/dev/null"]


def lines_of(command: list[str], enough: int) -> list[str]:
    """What a program says, until it ends or has said enough."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            return list(itertools.islice(child.stdout, enough))
        finally:
            os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fdatasync", "fsync", "pwrite64", "rename"])
@pytest.mark.parametrize("when", [1, 2, 3, 5, 9, 20])
def test_a_disk_that_fails_is_an_error_and_what_was_acknowledged_stays(path, strace, call, when):
    failing = [*strace, "-e", f"inject={call}:error=EIO:when={when}+"]
    lines = lines_of([*failing, sys.executable, store_rows.__file__, str(path), "1"], enough=200)
    numbered = {int(line) for line in lines if line.strip().isdigit()}
    if len(lines) < 200:  # else the call is not made that often
        assert lines[-1].startswith("StoreError"), lines
        assert not lines[-1].rstrip().endswith("|"), "says what helps"

    with Path(f"{path}.lock").open("a") as left:  # until the child has left it
        fcntl.flock(left, fcntl.LOCK_EX)

    async def look():
        store, _ = await opened(path)
        found, lost = await numbers(store), store.lost
        await store.close()
        return found, lost

    found, lost = asyncio.run(look())
    assert numbered <= set(found)
    assert not lost


def test_a_reader_connection_is_not_a_way_around_the_writer(path):
    async def main():
        store, _ = await opened(path)
        with pytest.raises(StoreError):
            await store.read(lambda connection: connection.execute("UPDATE origin SET follows=1"))
        await store.close()

    asyncio.run(main())
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT follows FROM origin").fetchone() == ("",)
    plain.close()

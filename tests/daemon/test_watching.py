"""Files that are watched: when something is asked for, and what."""

import os
from contextlib import asynccontextmanager

import anyio
import pytest
import uvloop

from daemon_process import write_project
from streamfaas.daemon.loading import Loaded, load
from streamfaas.daemon.reloads import Turns
from streamfaas.daemon.watching import CONFIG, Watching
from streamfaas.wire import inotify

CONFIGURED = """
version: 1
state: {path: ./state}
reload: {watch: true, settle: 100ms}
functions:
  orders: {code: orders, handler: app.main, env: {WORD: "${file:word}"}}
"""
HANDLER = "def main(event, context):\n    return %d\n"

pytestmark = pytest.mark.slow


class Watched:
    """What runs, and what was asked for; `takes` says whether it then runs."""

    def __init__(self, path, *, takes=True, sweep_seconds=3600.0):
        self.path, self.takes = path, takes
        self.asked, self.signals = [], []
        self.loaded = load(path, os.environ)
        self.turns = Turns(self.work)
        self.watching = Watching(
            lambda: self.loaded, self.turns.ask, self.signals.append, sweep_seconds=sweep_seconds
        )

    async def work(self, about):
        self.asked.append(set(about))
        found = load(self.path, os.environ)
        if self.takes and isinstance(found, Loaded):
            self.loaded = found
            self.watching.wake()

    async def until(self, count):
        with anyio.fail_after(20):
            while len(self.asked) < count:  # noqa: ASYNC110 - a look, not a wait
                await anyio.sleep(0.01)
        await anyio.sleep(0.5)  # and no more comes of it
        assert len(self.asked) == count, self.asked


@asynccontextmanager
async def watched(path, **options):
    made = Watched(path, **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.turns.serve)
        tasks.start_soon(made.watching.serve)
        await anyio.sleep(0.2)
        yield made
        await made.turns.stop()
        tasks.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "word").write_text("one")
    return write_project(tmp_path, CONFIGURED, orders=HANDLER % 1)


def run(body, *arguments, **options):
    async def main():
        async with watched(*arguments, **options) as made:
            await body(made)
        assert made.loaded.plan.config.file.exists()

    uvloop.run(main())


def test_a_file_that_is_being_written_is_taken_when_it_was_left_alone(path):
    async def body(w):
        with path.open("w") as file:
            for piece in (CONFIGURED + "# more\n").splitlines(keepends=True):
                file.write(piece)
                file.flush()
                await anyio.sleep(0.04)
        await w.until(1)
        assert w.asked == [{CONFIG}]

    run(body, path)


def test_what_is_put_into_it_and_a_link_that_leads_elsewhere_count_too(path):
    async def body(w):
        (path.parent / "word").write_text("two")
        await w.until(1)
        new = path.parent / "other" / "new.yaml"
        new.parent.mkdir()
        new.write_text(CONFIGURED + "# another\n")
        link = path.with_suffix(".link")
        link.symlink_to(new)
        link.rename(path)
        await w.until(2)
        assert w.asked == [{CONFIG}, {CONFIG}]

    run(body, path)


def test_code_is_the_function_s_own_and_caches_are_none(path):
    async def body(w):
        code = path.parent / "orders"
        (code / "__pycache__").mkdir()
        (code / "__pycache__" / "app.pyc").write_text("x")
        (code / ".app.py.swp").write_text("x")
        (code / "deep").mkdir()
        await anyio.sleep(0.3)
        (code / "deep" / "other.py").write_text("")
        await w.until(1)
        (code / "deep" / "other.py").write_text("x = 1\n")
        await w.until(2)
        assert w.asked == [{"orders"}, {"orders"}]

    run(body, path)


def test_what_is_not_taken_is_asked_for_once(path):
    async def body(w):
        path.write_text(CONFIGURED + "nonsense\n")
        await w.until(1)
        (path.parent / "something").write_text("else")
        await w.until(1)
        path.write_text(CONFIGURED)
        await anyio.sleep(0.5)
        assert w.asked == [{CONFIG}]  # it is what runs
        path.write_text(CONFIGURED + "nonsense\n")
        await w.until(2)

    run(body, path, takes=False)


def test_where_the_kernel_tells_nothing_it_is_said_and_found_all_the_same(path, monkeypatch):
    monkeypatch.setattr(inotify, "_WANTED", 0)

    async def body(w):
        path.write_text(CONFIGURED + "# more\n")
        await w.until(1)
        (told,) = w.signals
        assert "changes are seen every 0.1 s" in told.detail

    run(body, path, sweep_seconds=0.1)

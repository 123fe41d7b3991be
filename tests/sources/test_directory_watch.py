from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamfaas.sources.directory import tree
from streamfaas.sources.directory.watch import Watch

AT_MOST_SECONDS = 10


class Ear:
    """A watch over a directory, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: set[bytes] = set()
        self.lost = 0
        self.heard = asyncio.Event()
        self.watch = Watch(self._changed, self._lost)

    def _changed(self, key: bytes) -> None:
        self.told.add(key)
        self.heard.set()

    def _lost(self) -> None:
        self.lost += 1
        self.heard.set()

    def scan(self, prefix: bytes = b"") -> None:
        list(tree.walk(tree.open_root(self.folder), prefix, shown=self.watch.show))

    async def until(self, holds) -> None:
        async with asyncio.timeout(AT_MOST_SECONDS):
            while not holds():
                self.heard.clear()
                await self.heard.wait()

    async def hears(self, name: str) -> None:
        """A last change: all that came before has been told then."""
        (self.folder / name).touch()
        await self.until(lambda: name.encode() in self.told)


@contextmanager
def listening(folder: Path):
    """Scanned once."""
    folder.mkdir(exist_ok=True)
    ear = Ear(folder)
    ear.watch.open()
    ear.scan()
    try:
        yield ear
    finally:
        ear.watch.close()


def watched() -> int:
    """Directories that this process watches."""
    found = 0
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            found += path.read_text().count("inotify wd:")
        except FileNotFoundError:  # the directory that is listed here
            continue
    return found


def test_names_are_told_with_the_prefix_of_their_directory_whatever_bytes_they_are(tmp_path):
    async def main():
        (tmp_path / "in/sub").mkdir(parents=True)
        with listening(tmp_path / "in") as ear:
            odd = b"\xff\xfe.bin"
            Path(os.fsdecode(os.fsencode(ear.folder / "sub") + b"/" + odd)).touch()
            (ear.folder / "sub" / "new\nline").touch()
            await ear.hears("last")
            assert {b"sub/" + odd, b"sub/new\nline", b"last"} == ear.told
            (ear.folder / "sub" / "new\nline").unlink()
            ear.told.clear()
            await ear.hears("more")
            assert ear.told == {b"more", b"sub/new\nline"}

    asyncio.run(main())


def test_only_directories_that_a_scan_opens_are_watched(tmp_path):
    async def main():
        folder = tmp_path / "in"
        (folder / "sub").mkdir(parents=True)
        (folder / ".hidden").mkdir()
        (folder / "usr").symlink_to("/usr")
        (folder / "up").symlink_to("..")
        with listening(folder) as ear:
            assert watched() == 2
            (tmp_path / "outside").touch()
            (folder / ".hidden/x").touch()
            await ear.hears("last")
            assert ear.told == {b"last"}
        assert watched() == 0

    asyncio.run(main())


def test_a_directory_that_moves_is_told_under_its_new_name_and_one_that_leaves_is_let_go(tmp_path):
    async def main():
        folder = tmp_path / "in"
        (folder / "one/deep").mkdir(parents=True)
        (folder / "two").mkdir()
        with listening(folder) as ear:
            (folder / "one").rename(folder / "uno")
            await ear.until(lambda: b"uno" in ear.told)
            ear.scan(b"uno/")
            (folder / "two").rename(tmp_path / "away")
            await ear.hears("last")
            assert watched() == 3
            ear.told.clear()
            (folder / "uno/deep/x").touch()
            (tmp_path / "away/y").touch()
            await ear.hears("more")
            assert ear.told == {b"uno/deep/x", b"more"}

    asyncio.run(main())


def test_a_root_that_goes_away_and_more_than_the_kernel_remembers_ask_for_a_scan(tmp_path):
    async def main():
        with listening(tmp_path / "in") as ear:
            ear.folder.rename(tmp_path / "away")
            await ear.until(lambda: ear.lost)
            assert watched() == 0
        with listening(tmp_path / "full") as ear:
            most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
            for name in ("one", "two"):
                (ear.folder / name).touch()
            for _ in range(most // 2):  # two of a kind are one if nothing lies between
                os.utime(ear.folder / "one")
                os.utime(ear.folder / "two")
            await ear.until(lambda: ear.lost)

    asyncio.run(main())


FEW = """
import asyncio, sys
from pathlib import Path
from streamfaas.sandbox import identity
from streamfaas.sources.directory import tree
from streamfaas.sources.directory.watch import Watch
identity.enter_as_user()
async def main():
    for key, most in (("watches", 1), ("instances", 0), ("watches", 9)):
        Path(f"/proc/sys/user/max_inotify_{key}").write_text(str(most))
        if most == 9:
            Path("/proc/sys/user/max_inotify_instances").write_text("9")
        watch = Watch(print, print)
        watch.open()
        list(tree.walk(tree.open_root(Path(sys.argv[1])), shown=watch.show))
        print(watch.trouble)
        watch.close()
asyncio.run(main())
"""


@pytest.mark.slow
def test_it_says_which_limit_of_the_machine_is_in_the_way(tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    command = [sys.executable, "-c", FEW, str(tmp_path / "in")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "no more directories can be watched: raise fs.inotify.max_user_watches",
        "no more watchers can be had: raise fs.inotify.max_user_instances",
        "",
    ], done.stderr


def test_a_directory_that_is_shown_late_is_not_watched_any_more(tmp_path):
    async def main():
        with listening(tmp_path / "in") as ear:
            pass
        ear.scan()
        assert watched() == 0

    asyncio.run(main())

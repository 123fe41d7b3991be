"""Files that a configuration was made of, and the code of its functions, watched while it runs.

The kernel says when to look; what counts is what is seen then. A change is taken once two looks,
some time apart, see the same, so that a file half written is not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from streamfaas.daemon.loading import Loaded, files_of
from streamfaas.daemon.reloads import Turn
from streamfaas.functions import code
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit
from streamfaas.wire.inotify import IGNORED, Inotify

SWEEP_SECONDS = 10.0
"""How often everything is looked at though the kernel has told nothing: it does not know of all
file systems."""

UNSETTLED_MAX = 100
"""Looks at what is written all the time, before it is taken as it is."""

CONFIG = "configuration"
"""What is asked for where it is not the code of a function alone; no function has this name, for
there would be a slash in it."""


@dataclass(frozen=True, slots=True)
class _Seen:
    files: dict[Path, str]
    codes: dict[str, str]
    folders: frozenset[Path]


class Watching:
    """Asks for a reload where a file of the configuration is another than the one that runs, and
    for new workers where the code of a function is."""

    def __init__(
        self,
        loaded: Callable[[], Loaded],
        ask: Callable[..., Turn[Any]],
        emit: Emit,
        *,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._loaded = loaded
        self._ask = ask
        self._emit = emit
        self._sweep_seconds = sweep_seconds
        self._kernel = Inotify(self._told)
        self._watched: dict[Path, int] = {}
        self._trouble = ""
        self._woken = anyio.Event()
        self._done: _Seen | None = None  # what something was asked for already

    async def serve(self) -> None:
        """Until cancelled. Where nothing is to be watched, it waits until something is."""
        try:
            while True:
                if self._loaded().plan.config.reload.watch:
                    await self._look()
                else:
                    self._close()
                await self._wait()
        finally:
            self._close()

    def wake(self) -> None:
        """Another configuration runs, with other files."""
        self._woken.set()

    def _told(self, number: int, what: int, _name: bytes) -> None:
        if what & IGNORED:  # it is gone; another may stand in its place
            self._watched = {path: n for path, n in self._watched.items() if n != number}
        self._woken.set()

    async def _wait(self) -> None:
        watching = self._loaded().plan.config.reload.watch
        with anyio.move_on_after(self._sweep_seconds if watching else math.inf):
            await self._woken.wait()
        self._woken = anyio.Event()

    async def _look(self) -> None:
        seen = await self._settled()
        loaded = self._loaded()
        if self._done == seen:
            return
        self._done = seen
        changed = [name for name, digest in seen.codes.items() if loaded.codes.get(name) != digest]
        if seen.files != loaded.files:
            changed.append(CONFIG)
        if changed:
            await self._ask(*changed).wait()

    async def _settled(self) -> _Seen:
        """What is there, once it was left alone; at once where it is what runs."""
        seen = await self._see()
        for _ in range(UNSETTLED_MAX):
            if seen == self._done or self._runs(seen):
                break
            await anyio.sleep(self._loaded().plan.config.reload.settle)
            last, seen = seen, await self._see()
            if seen == last:
                break
        return seen

    def _runs(self, seen: _Seen) -> bool:
        loaded = self._loaded()
        return seen.files == loaded.files and seen.codes == loaded.codes

    async def _see(self) -> _Seen:
        """Looks, and is told of everything that changes after that."""
        loaded = self._loaded()
        while True:
            seen = await anyio.to_thread.run_sync(_look_at, loaded)
            if not self._watch(seen.folders):
                return seen

    def _watch(self, folders: Iterable[Path]) -> bool:
        """Whether any of them was not watched before: what was seen there may be old already."""
        if not self._kernel.is_open:
            self._kernel.open()
        wanted = set(folders)
        for path in self._watched.keys() - wanted:
            self._kernel.remove(self._watched.pop(path))
        new = [path for path in wanted if path not in self._watched]
        for path in new:
            number = self._kernel.add(os.fsencode(path))
            if number is not None:
                self._watched[path] = number
        self._tell_trouble()
        return any(path in self._watched for path in new)

    def _tell_trouble(self) -> None:
        """Once, for as long as it lasts."""
        trouble, self._kernel.trouble = self._kernel.trouble, ""
        if trouble and trouble != self._trouble:
            text = f"{trouble}; changes are seen every {self._sweep_seconds:g} s"
            self._emit(signals.DaemonStepped("warning:", text))
        self._trouble = trouble

    def _close(self) -> None:
        self._kernel.close()
        self._watched = {}


def _look_at(loaded: Loaded) -> _Seen:
    looks = {each.name: code.look(each.code) for each in loaded.plan.functions}
    folders = {path.parent for path in loaded.files}
    folders.update(folder for look in looks.values() for folder in look.folders)
    return _Seen(
        files_of(loaded.files),
        {name: look.digest for name, look in looks.items()},
        frozenset(folder for folder in folders if folder.is_dir()),
    )

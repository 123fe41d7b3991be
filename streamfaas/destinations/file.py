"""Documents appended to a local file, one JSON line each, on the disk before it is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.to_thread

from streamfaas.flow.errors import Unreachable
from streamfaas.flow.letters import Letter, Payload

SEND_SECONDS = 30.0


class File:
    """A destination of type `file`.

    Delivery: every line is whole and fsynced (and so is its directory entry) before `send` returns;
    a line that a crash or a full disk cut short is closed off before the next one is written, so
    every whole line is a document. Errors: `Unreachable` for whatever the file system answers.
    Permissions needed: to create and append to the file.
    """

    kind: ClassVar[str] = "file"
    per_record: ClassVar[bool] = False
    notes: ClassVar[bool] = False
    payload: Payload = "json"

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._turn = anyio.Lock()

    async def open(self) -> None:
        """Nothing is held open: the file may be moved away (rotated) at any time."""

    async def send(self, letters: Sequence[Letter]) -> None:
        lines = b"".join(letter.document + b"\n" for letter in letters)
        write = partial(_append, self._path, lines)
        async with self._turn:
            try:
                with anyio.fail_after(SEND_SECONDS):
                    # not abandoned: a write under way must not meet the next one
                    await anyio.to_thread.run_sync(write)
            except OSError as error:
                reason = error.strerror or str(error)
                raise Unreachable(f"cannot write {self._path}: {reason}") from error

    async def close(self) -> None:
        """Nothing is open."""


def _append(path: Path, lines: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        rest = memoryview(b"\n" + lines if torn else lines)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

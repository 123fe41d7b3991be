"""A file written into a bucket: beside its place, and moved there once it is whole."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio.to_thread

from streamfaas.flow.errors import CannotSend, Refused, Unreachable
from streamfaas.sources import Message, Sent
from streamfaas.sources.directory.tree import KEY_BYTES_MAX

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@asynccontextmanager
async def sender(path: Path, bucket: str, prefix: str, suffix: str) -> AsyncIterator[_Sender]:
    """A way into a bucket, for keys that begin and end so."""
    yield _Sender(path, bucket, prefix, suffix)


class _Sender:
    def __init__(self, path: Path, bucket: str, prefix: str, suffix: str) -> None:
        self.target = f"directory {path} (bucket {bucket})"
        self._path = path
        self._prefix = os.fsencode(prefix)
        self._suffix = os.fsencode(suffix)

    async def send(self, message: Message) -> Sent:
        if message.headers or message.partition is not None or message.value is None:
            raise CannotSend("a file has a key and a content, no headers and no partition")
        key = message.key or self._prefix + b"test-%s" % secrets.token_hex(4).encode()
        if message.key is None and not key.endswith(self._suffix):
            key += self._suffix
        self._check(key)
        try:
            await anyio.to_thread.run_sync(_put, self._path, key, message.value)
        except FileExistsError as error:
            raise CannotSend(f"{os.fsdecode(key)!r} is there: choose another key") from error
        except PermissionError as error:
            raise Refused(f"the daemon may not write below {self._path}") from error
        except OSError as error:
            told = f"cannot write {os.fsdecode(key)!r} below {self._path}: {error.strerror}"
            raise Unreachable(told) from error
        return Sent(os.fsdecode(key), key=key)

    def _check(self, key: bytes) -> None:
        """The file lies in the directory, and is one that the trigger tells of."""
        name, parts = os.fsdecode(key), key.split(b"/")
        if b"\0" in key or len(key) > KEY_BYTES_MAX or any(len(part) > 255 for part in parts):
            raise CannotSend("the key is no path of up to 1,024 bytes")
        if b"" in parts or b".." in parts or b"." in parts:
            raise CannotSend(f"{name!r} does not stay below the directory: write a/b/name")
        if any(part.startswith(b".") for part in parts):
            raise CannotSend(f"{name!r}: names that begin with a dot do not exist in a bucket")
        if not (key.startswith(self._prefix) and key.endswith(self._suffix)):
            wanted = f"{os.fsdecode(self._prefix)}…{os.fsdecode(self._suffix)}"
            raise CannotSend(f"the trigger only tells of keys like {wanted}, not of {name!r}")


def _put(root: Path, key: bytes, data: bytes) -> None:
    """Blocks. No symbolic link is followed below the root, and nothing is replaced."""
    *folders, name = key.split(b"/")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            with suppress(FileExistsError):
                os.mkdir(folder, dir_fd=at)
            below = os.open(folder, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        _write(at, name, data)
    finally:
        os.close(at)


def _write(at: int, name: bytes, data: bytes) -> None:
    if _is_there(at, name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    part = b".streamfaas-%s" % secrets.token_hex(8).encode()
    file = os.open(part, _NEW, 0o666, dir_fd=at)
    try:
        with open(file, "wb") as opened:  # noqa: PTH123 - a descriptor, beside no path
            opened.write(data)
        os.rename(part, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        os.unlink(part, dir_fd=at)
        raise


def _is_there(at: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True

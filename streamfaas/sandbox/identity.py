"""Whom workers are, seen from the host: user namespaces and their mappings of owners."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from streamfaas.sandbox import kernel

HANDLER_UID = 993  # what a handler sees as its own user, as on Lambda one that is not root

_USERS_MIN = 1024  # a range of fewer is no range to take a user from


def mapped(uid: int) -> int | None:
    """The user `uid`; where we are root of a user namespace that does not know it (a container),
    another that it knows and nobody is likely to be; None where it knows but few."""
    ranges = _ranges("uid_map")
    if any(first <= uid < first + count for first, count in ranges):
        return uid
    first, count = max(ranges, key=lambda each: each[1])
    if count < _USERS_MIN:
        return None
    return first + count - count // 8 + uid % (count // 16)


def _ranges(name: str) -> list[tuple[int, int]]:
    """First user and count of each range that this user namespace knows."""
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        lines = [line.split() for line in file]
    return [(int(first), int(count)) for first, _, count in lines]


def trial(act: Callable[[], None]) -> None:
    """Performs `act` in a throw-away child; raises its `OSError` here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
        except OSError as error:
            os.write(writer, f"{error.errno}\0{error.filename or ''}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        answer = file.read()
    os.waitpid(child, 0)
    if answer:
        code, _, where = answer.partition("\0")
        raise OSError(int(code), os.strerror(int(code)), where)


def map_within(inside: int, proc: int) -> None:
    """Maps root of the enclosing user namespace to `inside` in the one that the caller has just
    made. `proc` is a directory descriptor of a proc file system."""
    _write_file("self/uid_map", f"{inside} 0 1", proc)
    _write_file("self/gid_map", f"{inside} 0 1", proc)


def forbid_user_namespaces(proc: int) -> None:
    """Lets no further user namespace be made inside this one: each would be a way to hold
    capabilities again, and with them more of the kernel."""
    _write_file("sys/user/max_user_namespaces", "0", proc)


def enter_as_user() -> None:
    """A user namespace in which this ordinary user is root."""
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.NEW_NAMESPACE_USER)
    _write_file("self/setgroups", "deny")
    _write_file("self/uid_map", f"0 {uid} 1")
    _write_file("self/gid_map", f"0 {gid} 1")


def enter_as_root(uid: int) -> None:
    """A user namespace whose root is the ordinary user `uid` of the host: nothing in it has any
    right of the host's root. Only root itself may write such a mapping, so a child that stays
    outside does it."""
    reader, writer = os.pipe()
    me = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(writer)
        os._exit(_map_other(me, uid) if os.read(reader, 1) else 0)
    os.close(reader)
    try:
        os.setgroups([])
        kernel.unshare(kernel.NEW_NAMESPACE_USER)
        os.write(writer, b"\n")
    finally:
        os.close(writer)
        code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if code:
        raise OSError(code, os.strerror(code), "uid_map")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.stay_readable()


def owner_mapping(owner: tuple[int, int], uid: int) -> int:
    """A descriptor of a user namespace that shows files of `owner` as those of `uid`."""
    asleep, wake = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(wake)
        with contextlib.suppress(OSError):
            kernel.unshare(kernel.NEW_NAMESPACE_USER)
            os.write(tell, b"\n")
            os.read(asleep, 1)
        os._exit(0)
    os.close(asleep)
    os.close(tell)
    try:
        if not os.read(told, 1):
            raise PermissionError(1, "Operation not permitted", "unshare")
        _write_file(f"{child}/uid_map", f"{owner[0]} {uid} 1")
        _write_file(f"{child}/gid_map", f"{owner[1]} {uid} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.close(wake)
        os.waitpid(child, 0)


def _map_other(process: int, uid: int) -> int:
    try:
        _write_file(f"{process}/setgroups", "deny")
        _write_file(f"{process}/uid_map", f"0 {uid} 1")
        _write_file(f"{process}/gid_map", f"0 {uid} 1")
    except OSError as error:
        return error.errno or 1
    return 0


def _write_file(name: str, text: str, proc: int | None = None) -> None:
    path = name if proc is not None else f"/proc/{name}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)

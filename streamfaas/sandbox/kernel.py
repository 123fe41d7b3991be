"""The kernel calls that the standard library has no name for."""

from __future__ import annotations

import ctypes
import os
import platform

NEW_NAMESPACE_MOUNT = 0x00020000
NEW_NAMESPACE_UTS = 0x04000000
NEW_NAMESPACE_IPC = 0x08000000
NEW_NAMESPACE_USER = 0x10000000
NEW_NAMESPACE_PID = 0x20000000
NEW_NAMESPACE_NETWORK = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_IDMAP = 0x100000

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MNT_DETACH = 2
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_FROM_EMPTY_PATH = 0x4

# system calls since Linux 5 have one number on every architecture
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_CLOSE_RANGE = 436
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_prctl_with = _libc.prctl
_prctl_with.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_CAPABILITY_VERSION_3 = 0x20080522
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def _prctl(option: int, value: int = 0) -> int:
    result: int = _prctl_with(option, value, 0, 0, 0)
    return result


def unshare(flags: int) -> None:
    """Moves this process (for pids: its next child) into new namespaces."""
    _checked(_libc.unshare(flags), "unshare")


def enter_namespace(descriptor: int, flag: int) -> None:
    """Joins an existing namespace of the kind `flag`."""
    _checked(_libc.setns(descriptor, flag), "setns")


def mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    """The classic call, with its arguments in order."""
    arguments = [None if text is None else text.encode() for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {target}")


def pivot_into(root: str) -> None:
    """Makes the mount at `root` the root of this mount namespace and lets go of the old one."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(f"pivot_root has no known number on {platform.machine()}")
    os.chdir(root)
    _checked(_syscall(number, b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount2 of the old root")
    os.chdir("/")


def clone_tree(path: str) -> int:
    """A detached copy of the mounts from `path` down, as a descriptor."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    return _checked(_syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), flags), f"open_tree {path}")


def set_tree(tree: int, attributes: int, user_namespace: int | None = None) -> None:
    """Gives every mount of a detached tree these attributes, no propagation, and where
    `user_namespace` is given its mapping of owners."""
    wanted = _MountAttributes(set=attributes, propagation=MS_PRIVATE)
    if user_namespace is not None:
        wanted.set |= ATTR_IDMAP
        wanted.user_namespace = user_namespace
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    _checked(
        _syscall(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(wanted), size), "mount_setattr"
    )


def attach_tree(tree: int, target: str) -> None:
    """Mounts a detached tree at `target`."""
    result = _syscall(
        _MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_FROM_EMPTY_PATH
    )
    _checked(result, f"move_mount to {target}")


def close_range(first: int, last: int = 0x7FFFFFFF) -> None:
    """Closes every descriptor from `first` to `last`."""
    if first <= last:
        _checked(_syscall(_CLOSE_RANGE, first, last, 0), "close_range")


def die_with_parent(signal: int) -> None:
    """Asks for `signal` when the parent ends; any change of user or group takes this back."""
    _checked(_prctl(_PR_SET_PDEATHSIG, signal), "prctl PDEATHSIG")


def stay_readable() -> None:
    """Lets this process go on owning its files in /proc after a change of user."""
    _checked(_prctl(_PR_SET_DUMPABLE, 1), "prctl DUMPABLE")


def name_process(name: str) -> None:
    """The name that process lists show, cut to fifteen bytes."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(text))


def drop_capabilities() -> None:
    """Gives up every capability: bounding where that is allowed, ambient, and the three sets."""
    for number in range(_CAPABILITIES):
        if _prctl_with(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break  # without CAP_SETPCAP there is nothing to bound: no_new_privileges keeps it so
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(_NO_CAPABILITIES)), "capset")


def has_capabilities() -> bool:
    """Whether any capability is left in the permitted, effective or inheritable set."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(ctypes.byref(header), ctypes.byref(held)), "capget")
    return any(held)


def forbid_new_privileges() -> None:
    """Set-user-id programs and file capabilities have no effect from here on."""
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl NO_NEW_PRIVS")


def forbids_new_privileges() -> bool:
    """Whether that was asked for."""
    return _prctl(_PR_GET_NO_NEW_PRIVS) == 1


def keep_memory(threshold_bytes: int) -> None:
    """Tells malloc to reuse blocks up to this size: a payload handed back to the kernel after
    each call is faulted in page by page at the next."""
    if hasattr(_libc, "mallopt"):  # musl has none
        _libc.mallopt(_M_MMAP_THRESHOLD, threshold_bytes)
        _libc.mallopt(_M_TRIM_THRESHOLD, threshold_bytes)


def _count_capabilities() -> int:
    number = 0
    while _prctl(_PR_CAPBSET_READ, number) >= 0:
        number += 1
    return number


_CAPABILITIES = _count_capabilities()  # that this kernel knows

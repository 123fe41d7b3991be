"""How a zygote leaves the host for the namespaces and the root of its function."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct

from streamfaas.sandbox import identity, kernel, root
from streamfaas.sandbox.controls import Controls, Refused
from streamfaas.sandbox.root import Tree
from streamfaas.sandbox.spec import Spec

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_NAMESPACES = (
    ("filesystem", kernel.NEW_NAMESPACE_MOUNT),
    ("pid", kernel.NEW_NAMESPACE_PID),
    ("ipc", kernel.NEW_NAMESPACE_IPC),
    ("uts", kernel.NEW_NAMESPACE_UTS),
)


def leave_host(spec: Spec, controls: Controls) -> list[Tree]:
    """Enters the function's namespaces and gives back what its root is to be made of. The pid
    namespace begins with the caller's next child. No right of the host's root is left after."""
    uid = _other_user(spec)
    trees: list[Tree] = []
    if uid is not None:
        with controls.attempt("filesystem"):
            trees = root.collect(spec, controls, uid=uid)
    with controls.attempt("user"):
        identity.trial(lambda: _enter_user_namespace(uid))
        _enter_user_namespace(uid)
    if not controls.has("user"):
        _do_without(spec, controls, uid)
        return []
    for control, flag in _NAMESPACES:
        if not controls.states.get(control, "").startswith("missing"):
            with controls.attempt(control):
                kernel.unshare(flag)
    if spec.network == "none":
        with controls.attempt("network"):
            kernel.unshare(kernel.NEW_NAMESPACE_NETWORK)
    if uid is None and controls.has("filesystem"):
        with controls.attempt("filesystem"):
            trees = root.collect(spec, controls, uid=None)
    return trees


def settle(spec: Spec, trees: list[Tree], controls: Controls) -> None:
    """Makes the function's root this process's, and the other namespaces worth having. The
    caller is the first process of the pid namespace."""
    if controls.has("filesystem"):
        with controls.attempt("filesystem"):
            root.enter(spec, trees, controls)
    if controls.has("uts"):
        with controls.attempt("uts"):
            socket.sethostname(spec.function[:63])
    if spec.network == "none" and controls.has("network"):
        with contextlib.suppress(OSError):  # a network of none at all is what was asked for
            _raise_loopback()


def _other_user(spec: Spec) -> int | None:
    """The host's user that workers are to be, where the service is root and they cannot be it.
    Root of a user namespace that knows nobody else is an ordinary user, as seen from the host."""
    if os.getuid() != 0:
        return None
    if not spec.uid:
        raise Refused("user", "the service is root and names no other user to run workers as")
    return identity.mapped(spec.uid)


def _enter_user_namespace(uid: int | None) -> None:
    if uid is None:
        identity.enter_as_user()
    else:
        identity.enter_as_root(uid)


def _do_without(spec: Spec, controls: Controls, uid: int | None) -> None:
    """Without a user namespace there is no other; workers are then ordinary processes."""
    wanted = [control for control, _ in _NAMESPACES] + ["tmp", "proc", "processes"]
    if spec.network == "none":
        wanted.append("network")
    for control in wanted:
        controls.lacks(control, "it needs a user namespace")
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        kernel.stay_readable()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))

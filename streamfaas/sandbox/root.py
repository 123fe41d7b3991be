"""The private root of one function: what its workers can see of the host's files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from streamfaas.sandbox import identity, kernel
from streamfaas.sandbox.controls import Controls, Refused, explain
from streamfaas.sandbox.spec import Spec

TASK = "/var/task"

_READ_ONLY = kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_WRITABLE = kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_DEVICE = kernel.ATTR_NOSUID | kernel.ATTR_NOEXEC
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LIBRARY_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "alternatives", "localtime", "ssl", "pki", "ca-certificates", "mime.types")
_ETC_NETWORK = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf", "services", "protocols")
_SCAFFOLDS = ("/tmp", "/mnt", "/run", "/var")  # one of them holds the new root until it is entered
_LAYOUT = "size=4m,nr_inodes=4k,mode=755"


@dataclass(frozen=True, slots=True)
class Tree:
    """A detached copy of a part of the host's files, and where it is to appear."""

    descriptor: int
    target: str
    is_directory: bool


def collect(spec: Spec, controls: Controls, *, uid: int | None) -> list[Tree]:
    """Copies every tree that workers may see, detached: no path of the host matters any more.

    `uid` is given where the caller is the host's root: files of the function then belong, in
    the workers' eyes, to the workers, since those are other users than the files' owner.
    """
    trees = [_tree(source, target, _READ_ONLY) for source, target in _system(spec)]
    trees += [_tree(f"/dev/{name}", f"/dev/{name}", _DEVICE) for name in _DEVICES]
    trees += _own_tree("code", spec.code, TASK, _READ_ONLY, uid, controls)
    if spec.venv is not None:
        theirs = packages(spec, has_root=False)
        if theirs is None or not os.path.isdir(theirs):
            raise Refused("venv", f"there is no directory {theirs}")
        trees += _own_tree("venv", spec.venv, _venv_inside(spec.venv), _READ_ONLY, uid, controls)
    for each in spec.mounts:
        if not each.inside.startswith("/mnt/") or os.path.normpath(each.inside) != each.inside:
            raise Refused("mounts", f"{each.inside} is not a plain path below /mnt")
        attributes = _WRITABLE if each.writable else _READ_ONLY
        trees += _own_tree("mounts", each.outside, each.inside, attributes, uid, controls)
    return trees


def packages(spec: Spec, *, has_root: bool) -> str | None:
    """The directory of the function's packages, as workers see it."""
    if spec.venv is None:
        return None
    venv = _venv_inside(spec.venv) if has_root else spec.venv
    return f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def enter(spec: Spec, trees: list[Tree], controls: Controls) -> None:
    """Builds the root out of the trees and makes it this process's root."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    root = next(path for path in _SCAFFOLDS if os.path.isdir(path))
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", root, "tmpfs", flags, _LAYOUT)
    _furnish(root, spec)
    for tree in trees:
        _place(tree, root + tree.target)
        os.close(tree.descriptor)
    _hide(root, spec)
    with controls.attempt("proc"):
        mount_proc(root + "/proc")
    kernel.pivot_into(root)
    kernel.mount(None, "/", None, flags | kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)


def mount_proc(target: str = "/proc") -> None:
    """A proc file system that shows this pid namespace only."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", target, "proc", flags)


def mount_tmp(spec: Spec) -> None:
    """An own /tmp of the size that was asked for; small files are bounded by their number."""
    inodes = max(1024, spec.tmp_bytes // 8192)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    options = f"size={spec.tmp_bytes},nr_inodes={inodes},mode=1777"
    kernel.mount("tmpfs", "/tmp", "tmpfs", flags, options)


def _venv_inside(venv: str) -> str:
    """Where workers see the virtual environment: at its own path, but that /tmp is theirs."""
    return "/opt/venv" if (venv + "/").startswith("/tmp/") else venv


def _system(spec: Spec) -> Iterator[tuple[str, str]]:
    yield "/usr", "/usr"
    for name in _LIBRARY_LINKS:
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):
            yield f"/{name}", f"/{name}"
    prefix = os.path.realpath(sys.base_prefix)
    if prefix.startswith("/tmp/"):
        raise Refused("filesystem", f"the interpreter is {prefix}, and workers have an own /tmp")
    if not (prefix + "/").startswith("/usr/"):
        yield prefix, sys.base_prefix
    for name in _ETC + (_ETC_NETWORK if spec.network == "host" else ()):
        if os.path.exists(f"/etc/{name}"):
            yield os.path.realpath(f"/etc/{name}"), f"/etc/{name}"


def _own_tree(
    control: str, source: str, target: str, attributes: int, uid: int | None, controls: Controls
) -> list[Tree]:
    """A directory of the function. One that is not there is refused, whatever was asked."""
    try:
        status = os.stat(source)
        tree = _tree(source, target, attributes)
    except OSError as error:
        raise Refused(control, explain(error)) from error
    if not tree.is_directory:
        raise Refused(control, f"{source} is not a directory")
    if uid is not None and (status.st_uid, status.st_gid) != (uid, uid):
        try:
            mapping = identity.owner_mapping((status.st_uid, status.st_gid), uid)
            try:
                kernel.set_tree(tree.descriptor, 0, mapping)
            finally:
                os.close(mapping)
        except OSError:  # a file system without such mappings: plain permissions decide
            controls.is_soft(f"{control}-owner")
    return [tree]


def _tree(source: str, target: str, attributes: int) -> Tree:
    descriptor = kernel.clone_tree(source)
    kernel.set_tree(descriptor, attributes)
    return Tree(descriptor, target, os.path.isdir(source))


def _furnish(root: str, spec: Spec) -> None:
    for name in ("dev", "etc", "mnt", "proc", "tmp", "usr", "var"):
        os.mkdir(f"{root}/{name}")
    for name in _LIBRARY_LINKS:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
    os.symlink("/tmp", f"{root}/var/tmp")
    links = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, link in links.items():
        os.symlink(f"/proc/self/{link}", f"{root}/dev/{name}")
    os.symlink("/tmp", f"{root}/dev/shm")  # shared memory counts as scratch space
    user = identity.HANDLER_UID
    files = {
        "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\n"
        f"sbx_user{user}:x:{user}:{user}::/tmp:/usr/sbin/nologin\n",
        "group": f"root:x:0:\nsbx_user{user}:x:{user}:\n",
        "hostname": f"{spec.function}\n",
    }
    if spec.network == "none":
        files["hosts"] = "127.0.0.1 localhost\n::1 localhost\n"
    for name, text in files.items():
        with open(f"{root}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def _place(tree: Tree, target: str) -> None:
    if tree.is_directory:
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb"):
            pass
    kernel.attach_tree(tree.descriptor, target)


def _hide(root: str, spec: Spec) -> None:
    """Covers the packages of the service and of the interpreter that lie below what workers
    see: a handler's packages are those of its own code and virtual environment."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    service = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    places = {service, "/usr/lib/python3/dist-packages"}
    for prefix in {sys.base_prefix, os.path.realpath(sys.base_prefix), "/usr", "/usr/local"}:
        for library in ("lib", "lib64"):
            for kind in ("site-packages", "dist-packages"):
                places.add(f"{prefix}/{library}/{version}/{kind}")
    kept = root + (_venv_inside(spec.venv) if spec.venv else TASK) + "/"
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_RDONLY
    for place in {os.path.realpath(root + place) for place in places}:
        if os.path.isdir(place) and not kept.startswith(place + "/"):
            kernel.mount("tmpfs", place, "tmpfs", flags, "mode=755")

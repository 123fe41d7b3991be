"""The machine's disk: Debian with systemd and the service as it is installed from its wheel."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).parent / "inside"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamfaas-machine"

TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "chroot": "coreutils",
}
SUITE, MIRROR, PYTHON = "bookworm", "http://deb.debian.org/debian", "3.11"
PACKAGES = (
    "initramfs-tools",
    "kmod",
    "linux-image-cloud-amd64",
    "python3",
    "python3-venv",
    "systemd",
    "systemd-sysv",
)
UNNEEDED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
DISK_BYTES = 2 << 30
BUILD_SECONDS = 1200.0


class NoMachine(Exception):
    """There can be none here, for this reason."""


def check() -> None:
    """That all is there which it takes."""
    if os.geteuid() != 0:
        raise NoMachine("only root can build its disk")
    if lacking := sorted({TOOLS[name] for name in TOOLS if shutil.which(name) is None}):
        raise NoMachine(f"needs Debian's packages: apt-get install {' '.join(lacking)}")


class Image:
    """`disk`, `kernel` and `initrd` in a folder; what does not change is kept in the cache."""

    def __init__(self, folder: Path, cache: Path = CACHE) -> None:
        self.folder, self.cache = folder, cache
        self.disk, self.kernel, self.initrd = (folder / n for n in ("disk", "kernel", "initrd"))

    def build(self) -> None:
        check()
        self.cache.mkdir(parents=True, exist_ok=True)
        base, root = self._base(), self.folder / "root"
        root.mkdir()
        try:
            _run("tar", "-x", "--numeric-owner", "-f", base, "-C", root)
            self._install(root)
            _run("cp", "-R", f"{INSIDE}/.", root / "srv")
            _run("cp", "-R", CHECKOUT / "deploy/systemd", root / "srv/shipped")
            (root / "etc/fstab").write_text("")
            (root / "etc/hostname").write_text("machine\n")
            units = root / "etc/systemd/system"
            shutil.copy(INSIDE / "probe.service", units)
            (units / "multi-user.target.wants").mkdir(exist_ok=True)
            (units / "multi-user.target.wants/probe.service").symlink_to("../probe.service")
            shutil.copy(next((root / "boot").glob("vmlinuz-*")), self.kernel)
            shutil.copy(next((root / "boot").glob("initrd.img-*")), self.initrd)
            _run("mke2fs", "-q", "-t", "ext4", "-d", root, self.disk, f"{DISK_BYTES >> 10}k")
        finally:
            shutil.rmtree(root)

    def _base(self) -> Path:
        """Debian, without anything of ours."""
        base = self.cache / f"base-{_digest(SUITE, *PACKAGES, *UNNEEDED)}.tar"
        if not base.exists():
            print("machine: fetching Debian, once", flush=True)
            made = base.with_suffix(".part.tar")
            _run(
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                *(f"--dpkgopt=path-exclude={each}" for each in UNNEEDED),
                SUITE,
                made,
                MIRROR,
            )
            made.rename(base)
        return base

    def _install(self, root: Path) -> None:
        """The wheel of the checkout and what it needs, in an environment of its own, by the pip of
        the machine and without a network."""
        carried = root / "wheels"
        shutil.copytree(self._wheels(), carried)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", carried]
        _run(*build, cwd=CHECKOUT)
        _run("chroot", root, "python3", "-m", "venv", "/opt/streamfaas")
        pip = ["chroot", root, "/opt/streamfaas/bin/pip", "install", "--quiet", "--no-index"]
        _run(*pip, "--find-links=/wheels", "streamfaas")
        shutil.rmtree(carried)

    def _wheels(self) -> Path:
        """What the wheel depends on."""
        constraints, project = CHECKOUT / "tests/constraints.txt", CHECKOUT / "pyproject.toml"
        key = _digest(PYTHON, constraints.read_text(), project.read_text())
        wheels = self.cache / f"wheels-{key}"
        if not wheels.exists():
            print("machine: fetching the wheels, once", flush=True)
            made = self.folder / "wheels"
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", made]
            download += ["--only-binary=:all:", f"--python-version={PYTHON}", "-c", constraints]
            ours = self.folder / "ours"
            _run(
                sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", ours, cwd=CHECKOUT
            )
            (wheel,) = ours.glob("*.whl")
            _run(*download, wheel)
            (made / wheel.name).unlink()
            shutil.copytree(made, wheels)
        return wheels


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _run(*command: object, cwd: Path | None = None) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise NoMachine(f"{command[0]} failed: {said}")
    raise NoMachine(f"{command[0]} took longer than {BUILD_SECONDS:.0f} s")

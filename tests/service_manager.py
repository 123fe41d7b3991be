"""A systemd of its own, first process of namespaces of its own: no machine is booted, and nothing of
this one is changed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from parts import missing

SYSTEMD = Path("/lib/systemd/systemd")
JOURNALD = Path("/lib/systemd/systemd-journald")
TARGETS = ("test", "sysinit", "basic", "shutdown", "sockets", "network-online", "multi-user")

NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")

# the namespace of groups begins with the group that it is made in
ENTER = """
echo $$ > "$1/cgroup.procs"
shift
exec unshare "$@"
"""

# Whatever is written goes to memory, but into the one folder: no machine id or other trace is left.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/folder /run/upper /run/work
mount --bind "$1" /run/folder
mount -t overlay -o lowerdir=/tmp,upperdir=/run/upper,workdir=/run/work overlay /tmp
mount --bind /run/folder "$1"
mount -o remount,bind,ro /
for place in /var/lib /var/tmp; do mount -t tmpfs tmpfs "$place"; done
mount -t proc proc /proc
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH="$1/units" SYSTEMD_LOG_TARGET=console \\
  SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent \\
  "$2" --system --unit=test.target
"""


# it reads nothing of the kernel's, and all that it keeps is in memory
JOURNAL = f"""
[Unit]
DefaultDependencies=no

[Service]
Type=notify
ExecStartPre=/bin/sh -c 'mkdir -p /run/systemd/journald.conf.d && \\
  printf "[Journal]\\nReadKMsg=no\\nAudit=no\\nStorage=volatile\\n" >/run/systemd/journald.conf.d/test.conf'
ExecStart={JOURNALD}
StandardOutput=null
"""


class ServiceManager:
    """Its units are files in `folder/units`. A context manager: with it ends whatever it started."""

    def __init__(self, folder):
        if os.geteuid() != 0:
            pytest.skip("only root can start a systemd")
        if not SYSTEMD.exists() or shutil.which("systemctl") is None:
            missing("systemd (Debian's package)")
        probe = ["unshare", *NAMESPACES, "mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]
        probed = subprocess.run(probe, capture_output=True, text=True, timeout=20, check=False)
        if probed.returncode != 0:
            missing(f"a machine where a systemd can be started: {probed.stderr.strip()}")
        self.folder, self.units = folder, folder / "units"
        self.units.mkdir()
        for name in TARGETS:
            text = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
            (self.units / f"{name}.target").write_text(text)
        self.group = _cgroups() / f"streamfaas-test-{os.getpid()}"

    def __enter__(self):
        self.group.mkdir()
        self._log = (self.folder / "systemd.log").open("wb")
        boot = ["sh", "-c", BOOT, "boot", self.folder, SYSTEMD]
        self._process = subprocess.Popen(
            ["sh", "-c", ENTER, "enter", self.group, *NAMESPACES, *boot],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self.wait_for(lambda: self.control("is-active", "test.target") == "active")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self._process.kill()
        self._process.wait(10)
        self._log.close()
        deadline = time.monotonic() + 5
        while self.group.exists() and time.monotonic() < deadline:
            for below, _, _ in os.walk(self.group, topdown=False):
                with contextlib.suppress(OSError):  # its processes are on their way out
                    Path(below).rmdir()
            time.sleep(0.01)

    def control(self, *arguments):
        """What `systemctl` says."""
        return self._inside("systemctl", *arguments)

    def start_journal(self):
        """Starts a journald, which keeps what it is told in memory."""
        if not JOURNALD.exists():
            missing("journald (Debian's package systemd)")
        (self.units / "systemd-journald.service").write_text(JOURNAL)
        assert self.control("start", "systemd-journald.service") == ""

    def journal(self, *matches):
        """The entries that match, the oldest first."""
        said = self._inside("journalctl", "-o", "json", "--all", "--no-pager", "-q", *matches)
        return [json.loads(line) for line in said.splitlines()]

    def _inside(self, *command):
        children = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        inside = Path(children).read_text().split()
        if not inside:
            return "there is no systemd"
        done = subprocess.run(
            ["nsenter", "-t", inside[0], "--mount", "--pid", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def shown(self, unit, name):
        return self.control("show", unit, "--value", "-p", name)

    def signal(self, unit, number):
        """To its main process."""
        self.control("kill", "--kill-who=main", f"--signal={signal.Signals(number).name}", unit)

    def wait_for(self, condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return found

    @property
    def log(self):
        return (self.folder / "systemd.log").read_text(errors="replace")


def _cgroups():
    """Where groups are made, of the one hierarchy that systemd needs."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    pytest.skip("no cgroup2 is mounted, and systemd needs one")

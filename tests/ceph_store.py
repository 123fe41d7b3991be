"""A real Ceph object gateway for tests, with its own monitor and one store in memory, on loopback:
Debian's packages, unpacked into a folder of ours and not installed: no service, no user, no root.

`STREAMFAAS_TEST_CACHE` names where they are kept. `python tests/ceph_store.py --resolve` fetches
them ahead of the tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import parts
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

_HERE = Path(__file__).resolve().parent
_FETCH_SECONDS = 300
_START_SECONDS = 120
_PACKAGES = [
    "radosgw",
    "ceph-mon",
    "ceph-osd",
    "ceph-common",
    "ceph-base",
    "librados2",
    "librbd1",
    "libradosstriper1",
    "libcephfs2",
    "libfmt9",
    "libboost-thread1.74.0",
    "libboost-context1.74.0",
    "libtcmalloc-minimal4",
    "libgoogle-perftools4",
    "liblua5.3-0",
    "liboath0",
    "librabbitmq4",
    "libsnappy1v5",
    "libleveldb1d",
    "librgw2",
    "libfuse2",
    "libnvme1",
    "liblvm2cmd2.03",
    "libdevmapper-event1.02.1",
]
"""Of Debian 12, without what every machine has."""

_CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}
crash dir = {folder}
admin socket =
log file =
mon cluster log file =
log to stderr = false
err to stderr = true
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 1
mon allow pool size one = true
mon max pg per osd = 1000
mon tick interval = 1
paxos propose interval = 0.02
paxos min wait = 0.01
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd max object name len = 256
osd max object namespace len = 64
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pgp num = 2
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd mon report interval = 1
osd class dir = {libraries}/rados-classes
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw dynamic resharding = false
"""


class Unavailable(Exception):
    """There is no Ceph to be had on this machine; the text says why."""


def unpacked() -> Path:
    """The folder of the programs, fetched where it is not there yet."""
    cache = Path(os.environ.get("STREAMFAAS_TEST_CACHE") or _HERE.parent / ".cache")
    folder = cache / "ceph"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "ceph.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if not folder.exists():
                _fetch(folder)
    looked = _run(folder, ["radosgw", "--version"])
    if looked.returncode:
        raise Unavailable(f"Debian's radosgw does not run here: {looked.stderr[-300:]}")
    return folder


def _fetch(folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("no Ceph, and no apt-get to fetch Debian's packages of it")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fetch = ["apt-get", "-qq", "download", *_PACKAGES]
        done = _done(fetch, scratch)
        if done.returncode and os.geteuid() == 0:  # the lists may not be there yet
            _done(["apt-get", "-qq", "update"], scratch)
            done = _done(fetch, scratch)
        if done.returncode:
            raise Unavailable(f"apt-get cannot fetch Ceph: {(done.stdout + done.stderr)[-300:]}")
        for package in Path(scratch).glob("*.deb"):
            _done(["dpkg-deb", "-x", str(package), "unpacked"], scratch)
        (Path(scratch) / "unpacked").rename(folder)


def _done(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FETCH_SECONDS,
        check=False,
    )


def _environment(programs: Path, folder: Path | None = None) -> Mapping[str, str]:
    libraries = programs / "usr" / "lib" / "x86_64-linux-gnu"
    paths = (libraries, libraries / "ceph", programs / "lib" / "x86_64-linux-gnu")
    known = {"CEPH_CONF": str(folder / "ceph.conf")} if folder is not None else {}
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, paths)), **known}


def _run(
    programs: Path, command: list[str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(programs / "usr" / "bin" / command[0]), *command[1:]],
        env=_environment(programs, folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Ceph:
    """A gateway that runs: S3 and, for topics, SNS at one address."""

    url: str
    region: str = "default"

    @property
    def access(self) -> AwsAccess:
        return AwsAccess(self.region, self.url, "test", "a-secret")

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """The SDK's own client of a service."""
        async with AsyncExitStack() as life:
            yield await aws.client(service, self.access, life)

    async def notify(self, bucket: str, endpoint: str, *events: str) -> None:
        """From now on the gateway posts what happens in a bucket, while whoever does it waits."""
        async with self.client("sns") as topics, self.client("s3") as store:
            pushed = {"push-endpoint": endpoint}
            topic = await topics.create_topic(Name=f"to-{bucket}", Attributes=pushed)
            wanted = {"Id": "all", "TopicArn": topic["TopicArn"], "Events": list(events)}
            await store.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"TopicConfigurations": [wanted]}
            )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Ceph]:
    """A gateway with nothing in it, whose files are in a folder that is there and empty."""
    programs, gateway, fsid = unpacked(), _port(), str(uuid.uuid4())
    monitor = _port()
    libraries = programs / "usr" / "lib" / "x86_64-linux-gnu"
    told = _CONFIG.format(
        fsid=fsid, folder=folder, libraries=libraries, monitor=monitor, gateway=gateway
    )
    (folder / "ceph.conf").write_text(told)
    for part in ("mon", "osd", "rgw"):
        (folder / part).mkdir()

    def run(*command: str | Path) -> None:
        done = _run(programs, list(map(str, command)), folder)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    _made(run, folder, fsid, monitor)
    with contextlib.ExitStack() as life:

        def start(*command: str) -> None:
            life.enter_context(_started(programs, folder, list(command)))

        start("ceph-mon", "-f", "-i", "a")
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
        start("ceph-osd", "-f", "-i", "0")
        start("radosgw", "-f", "-n", "client.rgw")
        _wait_answering(f"http://127.0.0.1:{gateway}", folder)
        who = ("--uid=test", "--display-name=test", "--access-key=test", "--secret-key=a-secret")
        run("radosgw-admin", "-n", "client.rgw", "user", "create", *who)
        yield Ceph(f"http://127.0.0.1:{gateway}")


def _made(run: Any, folder: Path, fsid: str, monitor: int) -> None:
    """Keys, maps and the monitor's own store, so that no command line of Ceph's is needed later."""
    keyring = folder / "keyring"
    run("ceph-authtool", "--create-keyring", keyring)
    for name in ("mon.", "client.admin", "osd.0", "client.rgw"):
        caps = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
        run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
    place = f"[v2:127.0.0.1:{monitor}]"
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", place, folder / "monmap")
    run("osdmaptool", "--createsimple", "1", folder / "osdmap")
    maps = ("--monmap", folder / "monmap", "--osdmap", folder / "osdmap")
    run("ceph-mon", "--mkfs", "-i", "a", *maps, "--keyring", keyring)


@contextlib.contextmanager
def _started(programs: Path, folder: Path, command: list[str]) -> Iterator[None]:
    """Dies with us, however we do."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", str(programs / "usr" / "bin" / command[0]),
             *command[1:]],
            env=_environment(programs, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _wait_answering(url: str, folder: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            logs = {path.name: path.read_text()[-500:] for path in folder.glob("*.log")}
            assert time.monotonic() < until, f"{url} does not answer: {logs}"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    try:
        unpacked()
    except Unavailable as error:
        parts.missing(str(error))
    with running(tmp_path_factory.mktemp("ceph")) as store:
        yield store


if __name__ == "__main__":
    if sys.argv[1:] != ["--resolve"]:
        sys.exit("usage: ceph_store.py --resolve")
    try:
        print(unpacked())
    except Unavailable as error:
        sys.exit(f"tests/ceph_store.py: {error}")

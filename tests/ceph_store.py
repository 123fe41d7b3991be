"""A real Ceph object gateway for tests, with its own monitor and one store in memory, on loopback:
Debian's packages, unpacked into a folder of ours and not installed: no service, no user, no root.
`python tests/ceph_store.py --resolve` fetches them ahead of the tests.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import parts
from aws_servers import client_of
from server_process import free_port, wait_answering
from streamfaas.wire.aws import AwsAccess

_HERE = Path(__file__).resolve().parent
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


def unpacked() -> Path:
    """The folder of the programs, fetched where it is not there yet."""
    folder = parts.unpacked("ceph", *_PACKAGES)
    looked = _run(folder, ["radosgw", "--version"])
    if looked.returncode:
        raise parts.Unavailable(f"Debian's radosgw does not run here: {looked.stderr[-300:]}")
    return folder


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

    def client(self, service: str) -> AbstractAsyncContextManager[Any]:
        """The SDK's own client of a service."""
        return client_of(service, self.access)

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
    programs, gateway, fsid = unpacked(), free_port(), str(uuid.uuid4())
    monitor = free_port()
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

        def start(*command: str) -> subprocess.Popen[bytes]:
            return life.enter_context(_started(programs, folder, list(command)))

        def said() -> dict[str, str]:
            return {path.name: path.read_text()[-500:] for path in folder.glob("*.log")}

        start("ceph-mon", "-f", "-i", "a")
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
        start("ceph-osd", "-f", "-i", "0")
        process = start("radosgw", "-f", "-n", "client.rgw")
        url = f"http://127.0.0.1:{gateway}"
        wait_answering(url, process, seconds=_START_SECONDS, said=said)
        who = ("--uid=test", "--display-name=test", "--access-key=test", "--secret-key=a-secret")
        run("radosgw-admin", "-n", "client.rgw", "user", "create", *who)
        yield Ceph(url)


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
def _started(programs: Path, folder: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
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
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    parts.promised(unpacked)
    with running(tmp_path_factory.mktemp("ceph")) as store:
        yield store


if __name__ == "__main__":
    parts.resolve(unpacked)

"""A real Apache Kafka for tests: one KRaft node from Maven Central, on loopback, in a temporary
directory.

`STREAMFAAS_TEST_KAFKA=host:port` names a broker that already runs instead,
`STREAMFAAS_TEST_KAFKA_VERSION` another version.
`python tests/kafka_broker.py --resolve [version]` fetches the jars ahead of the tests, and keeps
what a broker loads in a form that halves the time of the next starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

import parts
from kafka_client import Kafka, administering
from parts import Unavailable, missing

VERSION = "4.2.0"
VERSIONS = ("4.2.0", "4.1.0", "3.9.1")
"""Tried with JDK 17; the first is the default."""

SHARED: set[Broker] = set()
"""Brokers of fixtures wider than a test. A test may kill one and start it anew: the process is
another one then, and not left behind."""

ADDRESS = os.environ.get("STREAMFAAS_TEST_KAFKA", "")

_HERE = Path(__file__).resolve().parent
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
_JAVA_MIN = 17
_START_SECONDS = 60
_STOP_SECONDS = 20


# -- jars and java


def version() -> str:
    return os.environ.get("STREAMFAAS_TEST_KAFKA_VERSION") or VERSION


def jars(wanted: str) -> Path:
    """The folder with the jars of a version, resolved by Maven where they are not there yet."""
    project = _HERE / "kafka" / "pom.xml"

    def fetch(folder: Path) -> None:
        parts.jars(project, folder, f"-Dkafka.version={wanted}")
        if not list(folder.glob("kafka_2.13-*.jar")):
            raise Unavailable(f"mvn has fetched no Kafka {wanted}")

    return parts.fetched(f"kafka-{wanted}", fetch)


def java() -> str:
    """A java that is new enough: the one of JAVA_HOME, else the first on the PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise Unavailable(
            f"no java in JAVA_HOME or on the PATH; JDK {_JAVA_MIN} or later is needed"
        )
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    number = re.search(r'version "(\d+)', said)
    if number is None or int(number[1]) < _JAVA_MIN:
        raise Unavailable(f"{found} is too old; JDK {_JAVA_MIN} or later is needed")
    return found


# -- the process


def classes(wanted: str) -> Path:
    """Where Java's image of the classes that a broker loads is kept. Without it, or with one of
    another Java, brokers start all the same."""
    return jars(wanted) / "classes.jsa"


def keep_classes(wanted: str) -> None:
    if not (image := classes(wanted)).exists():
        half = image.with_suffix(f".{os.getpid()}")
        broker = Broker(java_option=f"-XX:ArchiveClassesAtExit={half}")
        try:
            asyncio.run(broker.start())
            process = broker._process
            broker.stop()
            if process.returncode >= 0:  # ended by itself, and so has written all of it
                half.replace(image)
        finally:
            broker.close()
            half.unlink(missing_ok=True)


@dataclass(slots=True, eq=False)
class Broker:
    """One broker, its ports and its data. It may be stopped, killed, frozen and started again on
    the same ports and data; `close` ends it and removes everything.

    `listeners` adds to the plain one: name → security protocol (`{"LOGIN": "SASL_PLAINTEXT"}`).
    `scram` are users made at formatting: name → password, both SCRAM mechanisms.
    """

    listeners: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    scram: Mapping[str, str] = field(default_factory=dict)
    java_option: str = ""
    _folder: Path | None = None
    _ports: dict[str, int] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """host:port of the plain listener."""
        return self.address("PLAINTEXT")

    @property
    def pid(self) -> int | None:
        """The process, None while it is stopped."""
        return self._process.pid if self._process else None

    def address(self, listener: str) -> str:
        return f"127.0.0.1:{self._ports[listener]}"

    @property
    def ended(self) -> int | None:
        """With what, if it ended by itself; the next `start` may come."""
        ended = self._process.poll() if self._process else None
        if ended is not None:
            self._process = None
        return ended

    async def start(self) -> None:
        """Up and ready: a group has committed. The first time it is formatted before."""
        if self._folder is None:
            self._format()
        self._launch()
        try:
            with anyio.fail_after(_START_SECONDS):
                await self._wait_until_ready()
        except TimeoutError as late:
            said = self._log_tail()
            self.kill()
            raise Unavailable(f"Kafka was not ready in {_START_SECONDS} s: {said}") from late

    def stop(self) -> None:
        """In peace: SIGTERM, and SIGKILL where that takes too long."""
        self.thaw()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL)

    async def restart(self) -> None:
        self.stop()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _format(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="streamfaas-kafka-"))
        names = {"PLAINTEXT": "PLAINTEXT", **self.listeners}
        ports = free_ports(len(names) + 1)
        self._ports = dict(zip([*names, "CONTROLLER"], ports, strict=True))
        text = (
            (_HERE / "kafka" / "server.properties")
            .read_text()
            .format(
                controller_port=self._ports["CONTROLLER"],
                listeners=",".join(f"{name}://{self.address(name)}" for name in names),
                protocols=",".join(f"{name}:{protocol}" for name, protocol in names.items()),
                data=self._folder / "data",
                properties="\n".join(f"{name}={value}" for name, value in self.properties.items()),
            )
        )
        (self._folder / "server.properties").write_text(text)
        users = [
            f"--add-scram={mechanism}=[name={name},password={password}]"
            for name, password in self.scram.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        config = str(self._folder / "server.properties")
        done = subprocess.run(
            self._java(
                "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", config, *users
            ),
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            check=False,
        )
        if done.returncode:
            self.close()
            raise Unavailable(f"Kafka would not format its storage: {done.stdout}{done.stderr}")

    def _launch(self) -> None:
        assert self._folder is not None
        assert self._process is None, "already running"
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._folder / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; they end the broker
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - a plain C call, safe after fork
            )

    def _java(self, *arguments: str) -> list[str]:
        return [
            *(java(), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            self.java_option or f"-XX:SharedArchiveFile={classes(version())}",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", f"{jars(version())}/*", *arguments),
        ]

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        while self._process.poll() is None:
            # the port answers a moment before the group coordinator does
            with contextlib.suppress(KafkaError, OSError):
                await _knock(self._ports["PLAINTEXT"])
                await _commit_once(self.bootstrap)
                return
            await asyncio.sleep(0.05)
        said = self._log_tail()
        self._process = None
        raise Unavailable(f"Kafka ended at start: {said}")

    def _log_tail(self) -> str:
        assert self._folder is not None
        lines = (self._folder / "broker.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-30:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _die_with_parent() -> None:
    """A test run that is killed leaves no broker behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free now. Taken from below the range out of which the kernel
    gives ports to connections: a client that keeps knocking while the broker is down could
    otherwise be given that very port, and be connected to itself."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            taken = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
                ports.append(taken.getsockname()[1])
        return ports


async def _knock(port: int) -> None:
    """Raises where nobody listens, and quietly: the client would log every try."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


async def _commit_once(bootstrap: str) -> None:
    async with administering(bootstrap) as admin:
        await admin.create_topics([NewTopic("streamfaas-ready", 1, 1)])
    place = TopicPartition("streamfaas-ready", 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id="streamfaas-ready", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([place])
        await consumer.commit({place: 0})
    finally:
        await consumer.stop()


# -- a broker to test with


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Kafka]:
    """A broker of one's own, made as `Broker` is; skips (under CI: fails) where none can be had."""
    broker = Broker(**options)
    SHARED.add(broker)
    try:
        try:
            asyncio.run(broker.start())
        except Unavailable as reason:
            missing(f"no Kafka to test with: {reason}")
        yield Kafka(broker.bootstrap, broker)
    finally:
        broker.close()
        SHARED.remove(broker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A broker that others share is there again, whatever a test before has done to it."""
    for broker in SHARED:
        if (ended := broker.ended) is not None:
            sys.stderr.write(f"the broker at {broker.bootstrap} had ended with {ended}\n")
            asyncio.run(broker.start())


@pytest.fixture(autouse=True, scope="session")
def first_loop() -> None:
    """The first loop of libuv makes a pipe for signals that the process keeps."""
    uvloop.run(asyncio.sleep(0))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """The one real broker of a test run. Topics have a name of their own in every test."""
    if ADDRESS:
        yield Kafka(ADDRESS)
        return
    with running() as made:
        yield made


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["--resolve"]:
            wanted = version()
        case ["--resolve", wanted]:
            os.environ["STREAMFAAS_TEST_KAFKA_VERSION"] = wanted
        case _:
            print("usage: kafka_broker.py --resolve [version]", file=sys.stderr)
            return 2
    try:
        java()
        print(jars(wanted), flush=True)
        keep_classes(wanted)
    except Unavailable as reason:
        print(f"kafka_broker: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

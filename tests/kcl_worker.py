"""A real worker of the Kinesis Client Library, from Maven Central, as a process of its own; the judge
of what is written to a table of leases.

`python tests/kcl_worker.py --resolve` fetches the library ahead of the tests, into the cache folder
that `STREAMFAAS_TEST_CACHE` names, and compiles `tests/kcl/Worker.java` there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kafka_broker
from aws_servers import Aws
from kinesis_servers import Kinesis

VERSION = "2.6.0"
_HERE = Path(__file__).resolve().parent
_RESOLVE_SECONDS = 240
_STOP_SECONDS = 30


class Unavailable(Exception):
    """It cannot be had on this machine; the text says why."""


def classes() -> Path:
    """The folder with its jars, resolved by Maven where they are not there yet, and in `worker` what
    we have compiled against them."""
    source, project = _HERE / "kcl" / "Worker.java", _HERE / "kcl" / "pom.xml"
    digest = hashlib.sha256(source.read_bytes() + project.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("STREAMFAAS_TEST_CACHE") or _HERE.parent / ".cache")
    folder = cache / f"kcl-{digest}"
    if (folder / "complete").exists():
        return folder
    maven, compiler = shutil.which("mvn"), shutil.which("javac")
    if maven is None or compiler is None:
        raise Unavailable("no mvn and javac to have the Kinesis Client Library with")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kcl.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            copy = ("dependency:copy-dependencies", "-DincludeScope=runtime")
            _run([maven, "-q", "-B", "-f", str(project), *copy, f"-DoutputDirectory={folder}"])
            out = str(folder / "worker")
            _run([compiler, "-cp", f"{folder}/*", "-d", out, str(source)])
            (folder / "complete").touch()
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_RESOLVE_SECONDS, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise Unavailable(f"no Kinesis Client Library: {command[0]} said {said[-300:]}")


class Worker:
    """What it has told so far, each a dictionary with `what` and `shard`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def of(self, what: str) -> list[dict[str, Any]]:
        return [each for each in list(self.told) if each["what"] == what]

    def numbers(self) -> list[int]:
        """The data of all records, in the order in which they came."""
        return [int(each["data"]) for each in self.of("record")]

    def stop(self) -> None:
        """It lets go of what it has, and does not say so in the table."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(_STOP_SECONDS) == 0
        self._reader.join()
        assert self.told[-1]["what"] == "stopped"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def working(
    kinesis: Kinesis, table: Aws, stream: str, leases: str, name: str, **asked: object
) -> Iterator[Worker]:
    """A worker that shares the stream by the table. `asked`: see Worker.java."""
    folder = classes()
    options = {
        "kinesis": kinesis.url,
        "dynamodb": table.url,
        "stream": stream,
        "table": leases,
        "name": name,
        **asked,
    }
    process = subprocess.Popen(
        [
            *(kafka_broker.java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-Daws.cborEnabled=false", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
            *("-cp", f"{folder}/worker:{folder}/*", "Worker"),
            *(f"{key}={value}" for key, value in options.items()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = Worker(process)
    try:
        yield worker
    finally:
        worker.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


if __name__ == "__main__":
    if sys.argv[1:] != ["--resolve"]:
        sys.exit("usage: kcl_worker.py --resolve")
    try:
        print(classes())
    except Unavailable as error:
        sys.exit(f"tests/kcl_worker.py: {error}")

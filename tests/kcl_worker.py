"""A real worker of the Kinesis Client Library, from Maven Central, as a process of its own; the judge
of what is written to a table of leases.

`python tests/kcl_worker.py --resolve` fetches the library ahead of the tests, and compiles
`tests/kcl/Worker.java` beside it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kafka_broker
import parts
from aws_servers import Aws
from kinesis_servers import Kinesis

VERSION = "2.6.0"
_HERE = Path(__file__).resolve().parent
_STOP_SECONDS = 30


def classes() -> Path:
    """The folder with its jars, resolved by Maven where they are not there yet, and in `worker` what
    we have compiled against them."""
    source, project = _HERE / "kcl" / "Worker.java", _HERE / "kcl" / "pom.xml"

    def fetch(folder: Path) -> None:
        compiler = shutil.which("javac")
        if compiler is None:
            raise parts.Unavailable("no javac to compile a worker of the library with")
        parts.jars(project, folder)
        parts.carry_out(compiler, "-cp", f"{folder}/*", "-d", str(folder / "worker"), str(source))

    digest = hashlib.sha256(source.read_bytes() + project.read_bytes()).hexdigest()[:12]
    return parts.fetched(f"kcl-{digest}", fetch)


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
    parts.resolve(classes)

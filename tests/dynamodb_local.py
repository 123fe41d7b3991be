"""DynamoDB Local, AWS' own: it binds every interface, and so lives in a network namespace of its own
with whatever talks to it.

`python tests/dynamodb_local.py --resolve` fetches it ahead of the tests. With `--scene` it is what
runs within.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import uvloop

import dynamodb_tables
import kafka_broker
import parts
from aws_servers import Aws
from server_process import wait_answering
from source_subjects import silent
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions, dynamodb
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.testing.conformance import driven

VERSION = "2.6.1"
PORT = 8000
ITEMS = 20
_HERE = Path(__file__).resolve().parent
_SCENE_SECONDS = 120
_APART = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")


def jars() -> Path:
    """The folder with its jars, resolved by Maven where they are not there yet."""
    project = _HERE / "dynamodb" / "pom.xml"
    return parts.fetched(f"dynamodb-local-{VERSION}", partial(parts.jars, project))


def told(folder: Path) -> dict[str, list[int]]:
    """What the scene saw: the numbers of changes, by the life of the trigger that they came in."""
    java = kafka_broker.java()
    for need in ("unshare", "ip"):
        if shutil.which(need) is None:
            raise parts.Unavailable(f"no {need}: DynamoDB Local binds every interface")
    if subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode:
        raise parts.Unavailable(
            "no network namespace for DynamoDB Local, which binds every interface"
        )
    done = subprocess.run(
        [*_APART, sys.executable, __file__, "--scene", java, str(jars()), str(folder)],
        capture_output=True,
        text=True,
        timeout=_SCENE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


# -- within


@contextmanager
def running(java: str, libraries: str, folder: str):
    """A server; its process ends with the namespace, if not before."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    command = (
        *(java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *(f"-Djava.library.path={libraries}", "-cp", f"{libraries}/*"),
        *("com.amazonaws.services.dynamodbv2.local.main.ServerRunner", "-inMemory"),
        *("-disableTelemetry", "-port", str(PORT)),
    )
    # it writes where it stands
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_answering(f"http://127.0.0.1:{PORT}", process)
        yield Aws("moto", f"http://127.0.0.1:{PORT}")
    finally:
        process.kill()
        process.wait()


async def scene(server: Aws, folder: Path) -> dict[str, list[int]]:
    """Two triggers on one table, each with two lives: one from the earliest change on, one from the
    latest, whose first life sees nothing."""
    numbers = itertools.count()
    store = await Store.open(folder / "streamfaas.db")
    seen: dict[str, list[int]] = {}

    async def changed(count: int) -> None:
        some = list(itertools.islice(numbers, count))
        await dynamodb_tables.put(server, "stock", [(f"item {n % ITEMS}", str(n)) for n in some])

    async def life(name: str, start: str, count: int) -> None:
        log = LogOptions(start, records_max=40, commit_seconds=0.02)
        options = DynamoDbOptions(server.access, log, table="stock")
        source = dynamodb(name.partition("-")[0], options, store=store, emit=silent)
        async with driven(source) as driver:
            with anyio.move_on_after(30 if count else 1.5):
                await driver.take(max(1, count))
                await driver.finish_all()
            seen[name] = [
                int(json.loads(each.value)["NewImage"]["value"]["S"]) for each in driver.seen
            ]

    try:
        await dynamodb_tables.create(server, "stock")
        await changed(100)
        await life("earliest-1", "trim_horizon", 100)
        await life("latest-1", "latest", 0)
        await changed(50)
        await life("earliest-2", "trim_horizon", 50)
        await life("latest-2", "latest", 150)  # all are younger than the margin
    finally:
        await store.close()
    return seen


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--scene", java_path, libraries, place]:
            with running(java_path, libraries, place) as made:
                print(json.dumps(uvloop.run(scene(made, Path(place)))))
        case _:
            parts.resolve(jars)

"""DynamoDB Local, AWS' own: it binds every interface, and so lives in a network namespace of its own
with whatever talks to it.

`python tests/dynamodb_local.py --resolve` fetches it ahead of the tests, into the cache folder that
`STREAMFAAS_TEST_CACHE` names. With `--scene` it is what runs within.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import uvloop

import dynamodb_tables
import kafka_broker
from aws_servers import Aws
from source_subjects import silent
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions, dynamodb
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.testing.conformance import driven

VERSION = "2.6.1"
PORT = 8000
ITEMS = 20
_HERE = Path(__file__).resolve().parent
_RESOLVE_SECONDS = 240
_SCENE_SECONDS = 120
_APART = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")


class Unavailable(Exception):
    """It cannot be had, or not be run apart, on this machine; the text says why."""


def jars() -> Path:
    """The folder with its jars, resolved by Maven where they are not there yet."""
    cache = Path(os.environ.get("STREAMFAAS_TEST_CACHE") or _HERE.parent / ".cache")
    folder = cache / f"dynamodb-local-{VERSION}"
    if (folder / "complete").exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("no mvn to fetch DynamoDB Local with")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "dynamodb-local.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            command = [
                *(maven, "-q", "-B", "-f", str(_HERE / "dynamodb" / "pom.xml")),
                *("dependency:copy-dependencies", "-DincludeScope=runtime"),
                f"-DoutputDirectory={folder}",
            ]
            done = subprocess.run(
                command, capture_output=True, timeout=_RESOLVE_SECONDS, check=False
            )
            if done.returncode:
                raise Unavailable("mvn could not fetch DynamoDB Local")
            (folder / "complete").touch()
    return folder


def told(folder: Path) -> dict[str, list[int]]:
    """What the scene saw: the numbers of changes, by the life of the trigger that they came in."""
    try:
        java = kafka_broker.java()
    except kafka_broker.Unavailable as error:
        raise Unavailable(str(error)) from error
    for need in ("unshare", "ip"):
        if shutil.which(need) is None:
            raise Unavailable(f"no {need}: DynamoDB Local binds every interface")
    if subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode:
        raise Unavailable("no network namespace for DynamoDB Local, which binds every interface")
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
    process = subprocess.Popen(
        [
            *(java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *(f"-Djava.library.path={libraries}", "-cp", f"{libraries}/*"),
            *("com.amazonaws.services.dynamodbv2.local.main.ServerRunner", "-inMemory"),
            *("-disableTelemetry", "-port", str(PORT)),
        ],
        cwd=folder,  # it writes where it stands
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", PORT), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, "it does not answer"
                time.sleep(0.1)
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
        case ["--resolve"]:
            try:
                print(jars())
            except Unavailable as error:
                sys.exit(f"tests/dynamodb_local.py: {error}")
        case ["--scene", java_path, libraries, place]:
            with running(java_path, libraries, place) as made:
                print(json.dumps(uvloop.run(scene(made, Path(place)))))
        case _:
            sys.exit("usage: dynamodb_local.py --resolve")

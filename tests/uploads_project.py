"""An example of `configs/` on a bucket of a real store, whose function writes down what it had."""

from __future__ import annotations

import asyncio
import json
import shutil
import textwrap
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import quote, urlsplit

from parts import CHECKOUT

CONNECTIONS = 8
LEDGER = """
    import json, os
    import app

    def handler(event, context):
        told = app.handler(event, context)
        (record,) = event["Records"]
        line = json.dumps({**told, "name": record["eventName"]})
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(line + "\\n")
        return told
"""


def project(folder: Path, example: str, bucket: str, *changes: tuple[str, str]) -> Path:
    """The example as it stands, but for the bucket's name and what a test changes, with a function
    around its own that writes down what that answers."""
    shutil.copytree(CHECKOUT / "configs" / "functions", folder / "functions")
    (folder / "functions" / "uploads" / "ledger.py").write_text(textwrap.dedent(LEDGER))
    (folder / "out").mkdir()
    out = "{type: object-store, via: directory, path: out, bucket: out, prefix: no/, write: true}"
    text = (CHECKOUT / "configs" / example).read_text()
    for old, new in (
        ("bucket: uploads", f"bucket: {bucket}"),
        ("handler: app.handler", "handler: ledger.handler\n    env: {LEDGER: /mnt/out/ledger}"),
        ("    triggers:\n", f"    triggers:\n      out: {out}\n"),
        *changes,
    ):
        assert old in text, old
        text = text.replace(old, new)
    config = folder / example
    config.write_text(text)
    return config


def had(folder: Path) -> list[tuple[str, str]]:
    """Name and key of each event that the function has had."""
    ledger = folder / "out" / "ledger"
    lines = ledger.read_text().split("\n")[:-1] if ledger.exists() else []
    found = map(json.loads, lines)
    return [(each["name"], each["key"]) for each in found]


def have_run(folder: Path, count: int) -> bool:
    """Whether so many objects have. Looked at often: of few lines nothing is read but their
    number."""
    ledger = folder / "out" / "ledger"
    lines = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
    return lines >= count and len(set(had(folder))) >= count


def keys(folder: Path) -> list[str]:
    """The keys alone."""
    return [key for _, key in had(folder)]


async def put_quickly(
    url: str, bucket: str, some: Iterable[str], told: Callable[[str], None] = lambda _: None
) -> None:
    """Objects of one byte into a bucket that everybody may write to: the SDK needs ten times as
    long for each. `told` is called with each key that is there now."""
    left = iter(some)
    host = urlsplit(url)

    async def carry() -> None:
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        for key in left:
            path = f"/{bucket}/{quote(key)}"
            head = f"PUT {path} HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Length: 1\r\n\r\nx"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            told(key)
        writer.close()

    carriers: list[Awaitable[None]] = [carry() for _ in range(CONNECTIONS)]
    await asyncio.gather(*carriers)

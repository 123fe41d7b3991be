"""What a key costs in memory: `python tests/bench/objects.py [KEYS]`.

A bucket that is polled (its pages come from a server of prepared ones) and a directory, each with a
thousand keys and with many: what the process holds more, by key, once all have become events and all
has been listed three times more. Nothing takes the events: they wait in the store.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import machine, rss_mb

FEW = 10_000
ROUNDS = 4
PAGE = 1_000


def key(number: int) -> str:
    return f"some/folder-{number % 97:02}/a-key-of-usual-length-{number:08}.jpg"


# -- a server of prepared pages


async def serve(count: int) -> tuple[asyncio.Server, str, list[int]]:
    keys = sorted(key(number) for number in range(count))
    listings = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                query = parse_qs(urlsplit(head.split(b" ")[1].decode()).query)
                start = int(query.get("continuation-token", ["0"])[0])
                body = _page(keys, start)
                listings[0] += start + PAGE >= count
                writer.write(
                    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                )
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, f"http://127.0.0.1:{port}", listings


def _page(keys: list[str], start: int) -> bytes:
    some = "".join(
        f"<Contents><Key>{each}</Key><LastModified>2025-12-31T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{hash(each) & (1 << 128) - 1:032x}&quot;</ETag><Size>12345</Size></Contents>"
        for each in keys[start : start + PAGE]
    )
    more = start + PAGE < len(keys)
    token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{some}"
        "</ListBucketResult>"
    ).encode()


# -- one process for each figure


async def polled(count: int) -> None:
    """Served by a process of its own, so that what it holds is not counted."""
    from streamfaas.sources.objects import Objects, ObjectsOptions
    from streamfaas.sources.objects.polling import Polling, PollingOptions
    from streamfaas.store import Store
    from streamfaas.wire.aws import AwsAccess

    url = os.environ["BENCH_URL"]
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder) / "state" / "streamfaas.db")
        access = AwsAccess("us-east-1", url, "id", "secret")
        asked = PollingOptions(access, "bucket", interval_seconds=0.01)
        options = ObjectsOptions(
            ("bucket",), (lambda means: Polling(asked, means),), listed=True, pending_max=1 << 20
        )
        source = Objects("f/t", options, store=store, clock=time.monotonic, emit=_silent)
        await _held(source, count, lambda: ROUNDS)
        await store.close()


async def watched(count: int) -> None:
    from streamfaas.sources.directory import Directory, DirectoryOptions
    from streamfaas.store import Store

    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder) / "inbox"
        for number in range(count):
            place = inbox / key(number)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"")
        store = await Store.open(Path(folder) / "state" / "streamfaas.db")
        options = DirectoryOptions(inbox, "bucket", interval_seconds=0.5, settle_seconds=0.0)
        source = Directory("f/t", options, store=store, clock=time.monotonic, emit=_silent)
        await _held(source, count, lambda: ROUNDS)
        await store.close()


def _silent(signal: object) -> None:
    """Nobody listens."""


async def _held(source, count, rounds) -> None:
    began = time.monotonic()
    tasks = []
    await source.open(lambda work, name: tasks.append(asyncio.create_task(work(), name=name)))
    while source.view().details["pending"] < count:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.1)
    first = time.monotonic() - began
    await asyncio.sleep(2 + (rounds() - 1) * first / 2)  # what is unchanged takes less
    gc.collect()
    print(f"{rss_mb(os.getpid())} {first}", flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await source.close()


def figure(kind: str, count: int) -> tuple[float, float]:
    """Megabytes that are held, and seconds until all were events."""

    async def main() -> tuple[float, float]:
        server, url, listings = await serve(count if kind == "polled" else 0)
        asked = [sys.executable, __file__, f"--{kind}", str(count)]
        process = await asyncio.create_subprocess_exec(
            *asked, stdout=subprocess.PIPE, env={**os.environ, "BENCH_URL": url}
        )
        told, _ = await process.communicate()
        server.close()
        assert process.returncode == 0
        if kind == "polled":
            assert listings[0] > 1, "it was not listed again"
        megabytes, seconds = told.split()
        return float(megabytes), float(seconds)

    return asyncio.run(main())


def main() -> None:
    if sys.argv[1:2] in (["--polled"], ["--watched"]):
        work = polled if sys.argv[1] == "--polled" else watched
        asyncio.run(work(int(sys.argv[2])))
        return
    many = int(sys.argv[1]) if sys.argv[1:] else 100_000
    print(machine())
    for kind in ("polled", "watched"):
        few_mb, _ = figure(kind, FEW)
        many_mb, seconds = figure(kind, many)
        each = (many_mb - few_mb) * 1024 * 1024 / (many - FEW)
        print(
            f"{kind}: {few_mb:.1f} MB with {FEW:,} keys, {many_mb:.1f} MB with {many:,}: "
            f"{each:.0f} bytes a key; {many / seconds:,.0f} keys/s until they are events"
        )


if __name__ == "__main__":
    main()

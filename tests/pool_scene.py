"""A real pool with real launchers and real worker processes, for a test's body."""

from __future__ import annotations

import asyncio
import os

import orjson
import uvloop

from daemon_process import descendants, wait_gone
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.functions import Function, Isolation
from streamfaas.workers.pool import WorkerPool

SOURCE = """
import ctypes, json, mmap, os, subprocess, sys, threading, time

def main(event, context):
    match event["do"]:
        case "echo": return event
        case "pid": return os.getpid()
        case "sleep": time.sleep(event["seconds"])
        case "fail": raise KeyError("total")
        case "exit": sys.exit(event["status"])
        case "crash": ctypes.string_at(0)
        case "large": return "x" * (7 << 20)
        case "unserialisable": return {1, 2}
        case "print": print(event["text"])
        case "flood":
            for _ in range(event["lines"]): print("y" * 1000)
        case "reserve": return len(mmap.mmap(-1, event["megabytes"] << 20, mmap.MAP_PRIVATE))
        case "allocate": return len(bytearray(event["megabytes"] << 20))
        case "threads":
            stop = threading.Event()
            for _ in range(event["count"]): threading.Thread(target=stop.wait).start()
            stop.set()
            return threading.active_count()
        case "signal": os.kill(os.getpid(), event["number"]); time.sleep(5)
        case "abort": os.abort()
        case "shut": os.closerange(3, 4096)
        case "garbage":
            for fd in range(3, 4096):
                try: os.write(fd, b"\\xff" * 64)
                except OSError: pass
            time.sleep(1)
        case "daemonise":
            subprocess.Popen(["sleep", "120"], start_new_session=True)
            time.sleep(60)
        case "count":
            with open("/mnt/shared/calls", "ab", buffering=0) as file: file.write(b"x")
            time.sleep(event["seconds"])
"""


class Pool:
    """A pool of one or more functions, and what it said."""

    def __init__(self, folder, *functions, concurrency=100):
        self._others = set(descendants(os.getpid()))  # servers that other tests share
        self.signals, self.folder = [], folder
        self.pool = WorkerPool(
            functions,
            concurrency=concurrency,
            memory_bytes=8 << 30,
            emit=self.signals.append,
            clock=asyncio.get_running_loop().time,
        )

    async def call(self, do, function="f", **more):
        body = orjson.dumps({"do": do, **more})
        request = Invocation(f"request-{do}", function, Event(Encoding.JSON, (body,)))
        return await self.pool.call(request)

    def below(self):
        """The processes of this pool: whoever kills one at random kills no other."""
        return [pid for pid in descendants(os.getpid()) if pid not in self._others]

    def lines(self):
        return [signal.line for signal in self.signals if type(signal).__name__ == "LogWritten"]


def function(folder, name="f", source=SOURCE, **options):
    code = folder / name
    code.mkdir(exist_ok=True)
    (code / "app.py").write_text(source)
    folder.chmod(0o755)
    given = {"isolation": Isolation(enforce=False), **options}
    return Function(name, code, "app.main", **given)


def pool(folder, body, *functions, **options):
    """Runs `body(scene)`; afterwards no process is left."""

    async def main():
        scene = Pool(folder, *(functions or [function(folder)]), **options)
        await scene.pool.open()
        try:
            await body(scene)
        finally:
            below = scene.below()
            await scene.pool.close(1.0)
            assert wait_gone(below) == []
        return scene

    return uvloop.run(main())

"""Lines of functions, as the daemon's own socket tells of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlencode

import anyio
import pytest

from streamfaas.api.server import Request
from streamfaas.config.spec import Logs
from streamfaas.daemon.feeds import Feeds
from streamfaas.daemon.lines import Lines
from streamfaas.functions import Function
from streamfaas.telemetry.signals import LogWritten

ID, OTHER = "8f14e45f-ceea-467f-a8c1-000000000001", "8f14e45f-ceea-467f-a8c1-000000000002"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
AT = 1_764_100_000_000_000_000
MILLISECOND = 1_000_000


class Scene:
    """Two functions, and who listens to them."""

    def __init__(self, **logs):
        self.ears = []
        self.feeds = Feeds(self.ears)
        functions = [Function(name, Path(name), "app.main") for name in ("orders", "thumbs")]
        self.lines = Lines(self.feeds, self.ears, Logs().model_copy(update=logs), lambda: functions)
        self.count = 0

    def emit(self, signal):
        for ear in list(self.ears):
            ear(signal)

    def write(self, text, function="orders", request_id=ID, platform=False, trace=""):
        self.count += 1
        at = AT + self.count * MILLISECOND
        self.emit(LogWritten(function, f"{function}#1", request_id, text, platform, at, trace))

    async def ask(self, **asked):
        return await self.lines.handle(Request("GET", f"/logs?{urlencode(asked)}", b""))

    async def texts(self, **asked):
        answer = await self.ask(**asked)
        assert answer.status == 200, answer.body
        return [row["line"] for row in json.loads(answer.body)["lines"]]


def written(scene):
    scene.write("START RequestId: 1", platform=True)
    scene.write("[INFO]\tpaid", trace=TRACE)
    scene.write("[ERROR]\tno total", request_id=OTHER)
    scene.write("REPORT RequestId: 1\tStatus: error", platform=True, request_id=OTHER)
    scene.write("small", function="thumbs", request_id="")


def test_the_last_lines_are_told_and_may_be_chosen():
    async def main():
        scene = Scene()
        written(scene)
        assert len(await scene.texts()) == 5
        assert await scene.texts(limit=2) == ["REPORT RequestId: 1\tStatus: error", "small"]
        assert await scene.texts(function="thumbs") == ["small"]
        assert await scene.texts(request_id=OTHER, platform=0) == ["[ERROR]\tno total"]
        assert await scene.texts(request_id="01", platform=0) == ["[INFO]\tpaid"]
        assert await scene.texts(trace=TRACE[:6]) == ["[INFO]\tpaid"]
        assert len(await scene.texts(errors=1)) == 2
        assert await scene.texts(after=AT + 4 * MILLISECOND) == ["small"]
        assert await scene.texts(limit=0) == []

    asyncio.run(main())


def test_a_row_has_what_there_is_to_know():
    async def main():
        scene = Scene()
        scene.write("[ERROR]\tno\ntotal", trace=TRACE)
        answer = await scene.ask()
        assert json.loads(answer.body)["lines"] == [
            {
                "time": "2025-11-25T19:46:40.001Z",
                "time_ns": AT + MILLISECOND,
                "function": "orders",
                "worker": "orders#1",
                "request_id": ID,
                "trace_id": TRACE,
                "platform": False,
                "level": "ERROR",
                "line": "[ERROR]\tno\ntotal",
            }
        ]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"function": "order"}, 404, "there is no function order; did you mean orders?"),
        ({"limit": 10_001}, 400, "limit: "),
        ({"colour": 1}, 400, "colour: "),
    ],
)
def test_what_is_asked_wrongly_is_told(asked, status, told):
    answer = asyncio.run(Scene().ask(**asked))
    assert answer.status == status
    assert json.loads(answer.body)["error"].startswith(told)


def test_who_follows_is_told_of_what_was_and_of_what_comes_and_nothing_twice():
    async def main():
        scene = Scene()
        scene.write("before")
        assert not scene.lines.platform_wanted("orders")
        answer = await scene.ask(follow=1, function="orders")
        assert scene.lines.platform_wanted("orders")
        scene.write("after")
        scene.write("another's", function="thumbs")
        first = await anext(answer.body)
        then = await anext(answer.body)
        assert [json.loads(line)["line"] for line in (first + then).splitlines()] == [
            "before", "after",
        ]  # fmt: skip
        await answer.body.aclose()
        await answer.body.aclose()
        assert not scene.lines.platform_wanted("orders")
        assert len(scene.ears) == 1

    anyio.run(main)


def test_lines_are_wanted_by_who_keeps_them_or_listens():
    scene = Scene(recent=0)
    assert not scene.lines.wanted("orders")
    scene.lines.hear()
    assert scene.lines.wanted("orders")
    scene.lines.unhear()
    assert not scene.lines.wanted("orders")
    assert Scene().lines.wanted("orders")
    assert not Scene().lines.platform_wanted("orders")


def test_lines_of_one_millisecond_are_neither_lost_nor_told_twice(tmp_path):
    async def main():
        scene = Scene(recent=1_000, directory=tmp_path / "logs")
        with scene.lines.written(scene.emit):
            for number in range(20):
                at = AT + number * 1_000
                scene.emit(LogWritten("orders", "orders#1", ID, f"number {number}", False, at))
        assert await scene.texts() == [f"number {number}" for number in range(20)]

    asyncio.run(main())


def test_what_memory_does_not_hold_any_more_is_read_from_the_files(tmp_path):
    async def main():
        scene = Scene(recent=1_000, directory=tmp_path / "logs")
        with scene.lines.written(scene.emit):
            for number in range(50):
                scene.write(f"number {number}")
                scene.write(f"small {number}", function="thumbs")
        assert len(await scene.texts(function="orders", limit=10_000)) == 50
        everything = await scene.texts(limit=70)
        assert everything == [
            f"{name} {number}" for number in range(15, 50) for name in ("number", "small")
        ]
        assert await scene.texts(after=AT + 98 * MILLISECOND) == ["number 49", "small 49"]
        assert len(await scene.texts(limit=5)) == 5

    asyncio.run(main())

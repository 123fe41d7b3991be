"""What happens, told line by line to whoever listens; who reads slowly misses some, and is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TypeAlias

import anyio
import orjson

from streamfaas.telemetry.signals import Emit, Signal

LINES_MAX = 2_000
BYTES_MAX = 1024 * 1024
"""What is held for one listener who does not read."""

ALIVE_SECONDS = 15.0
"""After so long without anything to tell, an empty line is."""

TELL_SECONDS = 1.0
"""How long a gap may go untold where nothing follows it."""

ENDED = "the daemon has ended"

Choose: TypeAlias = Callable[[Signal], object]
"""What is told of a signal: a value for JSON, or None for nothing. Must not raise."""


class Feeds:
    """Lets listeners in to what is emitted, by way of a list of those that hear it: while there is
    no listener, nothing is done for any."""

    def __init__(self, ears: list[Emit], *, alive_seconds: float = ALIVE_SECONDS) -> None:
        self._ears = ears
        self._alive_seconds = alive_seconds
        self._feeds: list[Feed] = []
        self._ended = False

    def subscribe(
        self,
        choose: Choose,
        *,
        lines_max: int = LINES_MAX,
        bytes_max: int = BYTES_MAX,
        left: Callable[[], None] = lambda: None,
    ) -> Feed:
        """Everything from now on. It must be closed, when `left` is called; as the body of an
        answer, it is."""

        def leave(feed: Feed) -> None:
            if feed in self._feeds:
                self._feeds.remove(feed)
                self._ears.remove(feed)
                left()

        feed = Feed(choose, leave, self._alive_seconds, (lines_max, bytes_max))
        self._ears.append(feed)
        self._feeds.append(feed)
        if self._ended:
            feed.end(ENDED)
        return feed

    def end(self) -> None:
        """Each is told that this was all, and ends once that has been read."""
        self._ended = True
        for feed in self._feeds:
            feed.end(ENDED)


class Feed:
    """JSON lines for one listener. What does not fit is left out: `{"missed": n}` stands where n
    lines should. Where the daemon ends, `{"ended": why}` is the last line."""

    def __init__(
        self,
        choose: Choose,
        left: Callable[[Feed], None],
        alive_seconds: float,
        bounds: tuple[int, int],
    ) -> None:
        self._choose = choose
        self._left = left
        self._alive_seconds = alive_seconds
        self._lines_max, self._bytes_max = bounds
        self._lines: list[bytes] = []
        self._held_bytes = 0
        self._missed = 0
        self._last: bytes | None = None
        self._stirred = asyncio.Event()

    def __call__(self, signal: Signal) -> None:
        chosen = self._choose(signal)
        if chosen is not None:
            self.put(chosen)

    def put(self, value: object) -> None:
        """One line more; never waits."""
        if self._last is not None:
            return
        if len(self._lines) >= self._lines_max or self._held_bytes >= self._bytes_max:
            self._missed += 1  # and spare the work
            return
        line = self._gap() + _line(value)
        if self._held_bytes + len(line) > self._bytes_max:
            self._missed += 1
            return
        self._lines.append(line)
        self._held_bytes += len(line)
        self._missed = 0
        self._stirred.set()

    def miss(self) -> None:
        """Something is not to be told, but counted; which is told before what comes next, or a
        little later."""
        self._missed += 1

    def end(self, reason: str) -> None:
        """Nothing follows what is held."""
        if self._last is None:
            self._last = _line({"ended": reason})
            self._stirred.set()

    @property
    def ended(self) -> bool:
        return self._last is not None

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> bytes:
        if not self._lines:
            await self._wait()
        told = b"".join(self._lines) + self._gap()
        self._lines, self._held_bytes, self._missed = [], 0, 0
        if told:
            return told
        if self._last is None:
            return b"\n"
        if not self._last:
            raise StopAsyncIteration
        last, self._last = self._last, b""
        return last

    async def _wait(self) -> None:
        """Until there is something to tell, or it is time to show that we live."""
        left = self._alive_seconds
        while not self._lines and self._last is None and left > 0:
            self._stirred.clear()
            with anyio.move_on_after(min(left, TELL_SECONDS)):
                await self._stirred.wait()
            left = 0 if self._missed else left - TELL_SECONDS

    def _gap(self) -> bytes:
        return _line({"missed": self._missed}) if self._missed else b""

    async def aclose(self) -> None:
        self._left(self)


def _line(value: object) -> bytes:
    try:
        return orjson.dumps(value) + b"\n"
    except orjson.JSONEncodeError:  # half a surrogate pair, of what a function said
        return json.dumps(value, default=str).encode() + b"\n"

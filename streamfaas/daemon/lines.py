"""Lines of functions: whether anybody wants them, where they are kept, and who asks for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

import anyio.to_thread
import orjson
from pydantic import BaseModel, Field, ValidationError

from streamfaas.api.server import LINES, Request, Response
from streamfaas.config.keys import nearest
from streamfaas.config.spec import Logs
from streamfaas.daemon.feeds import Feed, Feeds
from streamfaas.functions import Function
from streamfaas.telemetry import log_files
from streamfaas.telemetry.log_files import LogFiles
from streamfaas.telemetry.log_lines import stamp
from streamfaas.telemetry.recent import Recent
from streamfaas.telemetry.severity import level_of
from streamfaas.telemetry.signals import Emit, LogsDropped, LogWritten, Signal

HISTORY_MAX = 10_000
HISTORY_BYTES_MAX = 16 * 1024 * 1024
"""What is told at once of lines that were written before."""


APART_NS = 5_000_000_000
"""How far apart the times of one line may be, as a function and as the daemon has them."""


class Lines:
    """Route: `GET /logs?function=&request_id=&trace=&after=&limit=&errors=&platform=&follow=`."""

    def __init__(
        self,
        feeds: Feeds,
        ears: list[Emit],
        logs: Logs,
        functions: Callable[[], Iterable[Function]],
    ) -> None:
        """`ears` are who hears the daemon's signals."""
        self._feeds = feeds
        self._ears = ears
        self._logs = logs
        self._functions = functions
        self._listeners = 0
        self._of_functions = 0
        self._recent = Recent(logs.recent)
        if logs.recent:
            ears.append(self._recent)

    # -- whether lines are made

    def hear(self) -> None:
        """Somebody wants every line from now on."""
        self._listeners += 1

    def hear_functions(self) -> None:
        """Somebody wants them but for those of the platform about what goes well."""
        self._of_functions += 1

    def unhear(self) -> None:
        """One of those does not any more."""
        self._listeners -= 1

    def wanted(self, _function: str) -> bool:
        """Whether a function's own lines are."""
        return self._listeners > 0 or self._of_functions > 0 or self._logs.recent > 0

    def platform_wanted(self, _function: str) -> bool:
        """Whether those of the platform are, about what goes well: nobody keeps them for later."""
        return self._listeners > 0

    @contextlib.contextmanager
    def written(self, emit: Emit) -> Iterator[None]:
        """Writes lines to files meanwhile, where there are to be any."""
        if self._logs.directory is None:
            yield
            return
        files = LogFiles(
            self._logs.directory,
            max_bytes=self._logs.max_size,
            keep=self._logs.keep,
            as_json=self._is_json,
            tell=from_thread(emit),
        )
        self._ears.append(files)
        self.hear()
        try:
            yield
        finally:
            self.unhear()
            self._ears.remove(files)
            files.close()

    def _is_json(self, function: str) -> bool:
        return any(each.log_format == "json" for each in self._functions() if each.name == function)

    # -- who asks

    async def handle(self, request: Request) -> Response:
        """The last lines; and, with `follow`, those that come after them."""
        path, _, query = request.path.partition("?")
        if request.method != "GET":
            return Response.json(405, {"error": f"{request.method} is not for {path}"})
        try:
            wanted = _Wanted.model_validate(dict(parse_qsl(query, keep_blank_values=True)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            return Response.json(400, {"error": told})
        known = [each.name for each in self._functions()]
        if wanted.function and wanted.function not in known:
            near = nearest(wanted.function, known)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(known) or 'none'}"
            told = f"there is no function {wanted.function}; {hint}"
            return Response.json(404, {"error": told})
        if not wanted.follow:
            held = self._held(wanted, known)
            rows = await self._with_older(wanted, known, held)
            return Response.json(200, {"lines": [orjson.Fragment(row) for row in rows]})
        feed = self._feeds.subscribe(wanted.chosen)  # from here on; what was before is in `held`
        try:
            rows = await self._with_older(wanted, known, self._held(wanted, known))
        except BaseException:
            await feed.aclose()
            raise
        self.hear()
        return Response(200, _Following(rows, feed, self.unhear), LINES)

    def _held(self, wanted: _Wanted, known: Collection[str]) -> _History:
        history = _History(wanted, known)
        history.take(self._recent.newest_first(wanted.function or None))
        return history

    async def _with_older(
        self, wanted: _Wanted, known: Collection[str], history: _History
    ) -> list[bytes]:
        """And what only the files have."""
        directory = self._logs.directory
        if directory is not None and not history.full:
            names = [wanted.function] if wanted.function else list(known)

            def read() -> None:
                for name in names:
                    history.take_older(name, log_files.newest_first(directory, name))

            await anyio.to_thread.run_sync(read)
        return history.rows()


def in_files(
    directory: Path, functions: Collection[str], asked: Mapping[str, object]
) -> list[bytes]:
    """The same for who asks while no daemon runs: objects of JSON, the oldest first."""
    wanted = _Wanted.model_validate(asked)
    history = _History(wanted, functions)
    for name in functions:
        if wanted.function in {"", name}:
            history.take_older(name, log_files.newest_first(directory, name))
    return history.rows()


class _History:
    """Lines from before, the newest first, until there are enough."""

    def __init__(self, wanted: _Wanted, known: Collection[str]) -> None:
        self._wanted = wanted
        self._known = known  # functions that there are no more are not asked for
        self._found: list[LogWritten] = []
        self._oldest: dict[str, LogWritten] = {}  # of each function, of those looked at
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self._found) >= self._wanted.limit or self._bytes >= HISTORY_BYTES_MAX

    def take(self, newest_first: Iterable[LogWritten]) -> None:
        for line in newest_first:
            self._oldest[line.function] = line
            if self.full or line.time_ns <= self._wanted.after:
                return
            self._add(line)

    def take_older(self, function: str, newest_first: Iterable[LogWritten]) -> None:
        """Only what was not taken yet; of each function as much as there is of all."""
        count = len(self._found)
        for line in _before(self._oldest.get(function), newest_first):
            if len(self._found) - count >= self._wanted.limit or self._bytes >= HISTORY_BYTES_MAX:
                return
            if line.time_ns <= self._wanted.after:
                return
            self._add(line)

    def rows(self) -> list[bytes]:
        """As JSON, the oldest first."""
        found = list(reversed(self._found))
        found.sort(key=lambda line: line.time_ns)
        return [_encoded(_row(line)) for line in found[-self._wanted.limit :]]

    def _add(self, line: LogWritten) -> None:
        if line.function in self._known and self._wanted.has(line):
            self._found.append(line)
            self._bytes += len(line.line)


def _before(held: LogWritten | None, newest_first: Iterable[LogWritten]) -> Iterator[LogWritten]:
    """What a file has before a line that memory has. The same line is known by its words: its time
    in the file is of milliseconds, or was told by the function itself."""
    reached = held is None
    for line in newest_first:
        if reached:
            yield line
        elif held is not None:
            same = (line.request_id, line.line) == (held.request_id, held.line)
            reached = same or line.time_ns < held.time_ns - APART_NS  # it is not in the file
            if reached and not same:
                yield line


class _Following:
    """A stream of what was and what comes."""

    def __init__(self, rows: list[bytes], feed: Feed, left: Callable[[], None]) -> None:
        self._first = b"".join(row + b"\n" for row in rows)
        self._feed = feed
        self._left: Callable[[], None] | None = left

    def __aiter__(self) -> _Following:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._feed.__anext__()

    async def aclose(self) -> None:
        if self._left is not None:
            self._left()
            self._left = None
        await self._feed.aclose()


class _Wanted(BaseModel, extra="forbid"):
    """What somebody asks for. Ids may be given by their beginning or their end; `after` is in
    nanoseconds since the epoch."""

    function: str = ""
    request_id: str = ""
    trace: str = ""
    after: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=0, le=HISTORY_MAX)] = 100
    errors: bool = False
    platform: bool = True
    follow: bool = False

    def has(self, line: LogWritten) -> bool:
        if self.function and line.function != self.function:
            return False
        if line.platform and not self.platform:
            return False
        if not (_is_of(line.request_id, self.request_id) and _is_of(line.trace_id, self.trace)):
            return False
        return not self.errors or _is_error(line)

    def chosen(self, signal: Signal) -> object:
        """What is told of a signal."""
        if type(signal) is LogWritten and self.has(signal):
            return _row(signal)
        return None


def _is_of(whole: str, asked: str) -> bool:
    return not asked or whole.startswith(asked) or (whole.endswith(asked))


def _is_error(line: LogWritten) -> bool:
    level = level_of(line.line, platform=line.platform)
    return level in {"ERROR", "FATAL"} or (line.platform and level == "WARN")


def _row(line: LogWritten) -> dict[str, Any]:
    return {
        "time": stamp(line.time_ns),
        "time_ns": line.time_ns,
        "function": line.function,
        "worker": line.worker,
        "request_id": line.request_id,
        "trace_id": line.trace_id,
        "platform": line.platform,
        "level": level_of(line.line, platform=line.platform),
        "line": line.line,
    }


def _encoded(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row)


def from_thread(emit: Emit) -> Callable[[LogsDropped], None]:
    """A way for threads to emit, for as long as the loop runs."""
    loop = asyncio.get_running_loop()

    def tell(signal: LogsDropped) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(emit, signal)

    return tell

"""The memory of a directory kept in step with it: what differs becomes events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from streamfaas.flow.errors import Gone, Refused, Unreachable, WorldError
from streamfaas.flow.record import Instant
from streamfaas.sources.directory import tree
from streamfaas.sources.directory.tree import Folder, Hidden, Look, Seen, Skipped
from streamfaas.store.objects import Change, Objects
from streamfaas.store.rows import Bucket, Pending, Remembered, Root
from streamfaas.wire.s3_event import CREATED, REMOVED

T = TypeVar("T")

PAGE = 1000
"""Keys that are looked at, compared and written down at a time."""

STEP_SECONDS = 60.0
"""How long one look at the disk may take; a network file system that hangs takes for ever."""

TAG_BYTES = 32 * 1024 * 1024
"""Content that is read in one go for entity tags."""

TAG_FILES = 250

UNSETTLED_MAX = 10_000
"""Files in the making that are watched one by one; more than that wait for the next sweep."""

SKIPPED_MAX = 1000
"""What was passed over, and is told of, in one sweep."""

BORN_SLACK_NS = 20_000_000
"""The clock of file times ticks coarsely: what came so shortly before the birth of a trigger may
have come after it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wants of it. `existing`: objects that are there at first are events too.
    `wanted` says whether a name of an event and a key are."""

    path: Path
    settle_seconds: float
    existing: bool
    wanted: Callable[[str, bytes], bool]


class Findings(NamedTuple):
    """What a sweep could not see, and what it passed over."""

    hidden: list[Hidden]
    skipped: list[Skipped]


class _Waiting(NamedTuple):
    """A file in the making, and when to look again."""

    seen: Seen
    since: Instant
    due: Instant


Pair: TypeAlias = tuple[Seen | None, Remembered | None]
"""What is at a key, and what is remembered of it: one at least."""


class Inventory:
    """Compares the directory with what is remembered of it, and writes down what differs, each
    object in one transaction with its event. One sweep or examination at a time.

    A file counts once it has been left alone for a while: its modification time is that old, or
    (where clocks disagree) it was seen unchanged for so long. Nothing is ever taken for removed
    because it could not be seen: not in a directory that may not be listed, not while the name of
    the whole leads nowhere or elsewhere. What was last seen in another directory of that name (a
    volume that is not mounted, a directory made anew) stays remembered, and is no event.
    """

    def __init__(
        self,
        rules: Rules,
        objects: Objects,
        *,
        clock: Callable[[], Instant],
        wall_clock: Callable[[], float],
        recorded: Callable[[int], None],
        shown: tree.Show | None = None,
    ) -> None:
        """`recorded` is told how many events were written down; each directory is `shown` before
        it is listed, in a thread."""
        self._rules = rules
        self._objects = objects
        self._clock = clock
        self._wall_clock = wall_clock
        self._recorded = recorded
        self._shown = shown
        self._thread = CapacityLimiter(1)  # a look that hangs holds one thread, not all of them
        self._waiting: dict[bytes, _Waiting] = {}
        self._bucket: Bucket | None = None
        self._sequencer = 0
        self._root = 0
        self._strangers: int | None = None
        self.identity: Root | None = None
        """Which directory was last looked at."""

    @property
    def due(self) -> Instant | None:
        """When a file in the making is to be looked at again (`examine(due_keys())`)."""
        return min((waiting.due for waiting in self._waiting.values()), default=None)

    def due_keys(self) -> set[bytes]:
        """A page of them at most."""
        now = self._clock()
        due = (key for key, waiting in self._waiting.items() if waiting.due <= now)
        return set(islice(due, PAGE))

    async def open(self) -> None:
        """`WorldError` where there is no such directory."""
        bucket = await self._objects.open(self._wall_ns())
        self._bucket, self._sequencer = bucket, bucket.sequencer
        await self._open_root()

    async def sweep(self, prefix: bytes = b"") -> Findings:
        """Looks at everything below a prefix (empty, or ending in a slash)."""
        root = await self._open_root()
        findings = Findings([], [])
        walker, after = tree.walk(root, prefix, shown=self._shown), prefix
        while looks := await self._step(tree.take, walker, PAGE):
            seen = [look for look in looks if isinstance(look, Seen)]
            findings.hidden.extend(look for look in looks if isinstance(look, Hidden))
            skipped = (look for look in looks if isinstance(look, Skipped))
            findings.skipped.extend(islice(skipped, SKIPPED_MAX - len(findings.skipped)))
            if seen:
                await self._compare(root, seen, after, seen[-1].key)
                after = seen[-1].key
        end = prefix[:-1] + b"0" if prefix else None  # "0" is what comes after the slash
        await self._compare(root, [], after, end)
        if not prefix:
            await self._swept()
        return findings

    async def examine(self, keys: Collection[bytes]) -> None:
        """Looks at single keys, which may also be (or have been) directories."""
        assert len(keys) <= PAGE
        root = await self._open_root()
        wanted = sorted(keys)
        looks = await self._step(_look_at, root, wanted)
        known = {row.key: row for row in await self._objects.some(wanted)}
        pairs: list[Pair] = []
        for key, look in zip(wanted, looks, strict=True):
            if not isinstance(look, Seen):
                self._waiting.pop(key, None)
            if not isinstance(look, Hidden | Skipped):
                pairs.append((look, known.get(key)))
        await self._apply(root, pairs)
        maybe = [key for key, look in zip(wanted, looks, strict=True) if look is None]
        folders = set(await self._step(_folders_of, root, maybe))
        folders |= await self._objects.folders(maybe)
        for folder in sorted(folders):
            await self.sweep(folder + b"/")

    # -- comparing

    async def _compare(
        self, root: Folder, seen: Sequence[Seen], after: bytes, upto: bytes | None
    ) -> None:
        """Files and memory with `after` < key (≤ `upto`), in pages of what is remembered."""
        place = 0
        while True:
            rows = await self._objects.page(after, upto, PAGE)
            full = len(rows) == PAGE
            bound = rows[-1].key if full else upto
            stop = place
            while stop < len(seen) and (bound is None or seen[stop].key <= bound):
                stop += 1
            await self._apply(root, _merged(seen[place:stop], rows))
            if not full:
                return
            after, place = rows[-1].key, stop

    async def _apply(self, root: Folder, pairs: Iterable[Pair]) -> None:
        """Writes down what differs, with its events."""
        changed = [pair for pair in pairs if self._is_news(*pair)]
        if missing := [row.key for seen, row in changed if seen is None and row is not None]:
            gone = await self._confirm(root, missing)
            changed = [
                (seen, row)
                for seen, row in changed
                if seen is not None or (row is not None and row.key in gone)
            ]
        if changed:
            await self._write_down(root, changed)

    def _is_news(self, seen: Seen | None, row: Remembered | None) -> bool:
        if seen is None:
            return row is not None and row.root == self._root
        if _is_unchanged(seen, row):
            self._waiting.pop(seen.key, None)
            return row is not None and row.root != self._root
        return self._was_there_before(seen, row) or self._is_settled(seen)

    async def _confirm(self, root: Folder, keys: Sequence[bytes]) -> set[bytes]:
        """The keys that are gone for certain. A listing shows nothing of what may not be looked
        into, may miss a name that is put in place of another at that moment, and misses all names
        of a directory that is going away itself."""
        looks = await self._step(_look_at, root, keys)
        if not await self._step(tree.is_still, self._rules.path, root):
            raise Gone(f"{self._rules.path} went away while it was looked at")
        return {key for key, look in zip(keys, looks, strict=True) if look is None}

    async def _write_down(self, root: Folder, pairs: Sequence[Pair]) -> None:
        told = [seen for seen, row in pairs if seen is not None and self._is_event(seen, row)]
        tags = await self._entity_tags(root, told)
        changes = []
        for seen, row in pairs:
            if seen is None:
                assert row is not None
                changes.append(self._removal(row))
            elif seen.key not in tags:
                changes.append(self._silence(seen, row))
            elif tag := tags[seen.key]:
                changes.append(self._creation(seen, tag))
            else:  # it has changed once more
                self._wait_for(seen, self._clock(), max(self._rules.settle_seconds, 0.1))
        if not changes:
            return
        await self._objects.record(changes)
        for change in changes:
            self._waiting.pop(change.key, None)
        if events := sum(change.event is not None for change in changes):
            self._recorded(events)

    async def _entity_tags(self, root: Folder, files: Sequence[Seen]) -> dict[bytes, str | None]:
        """By key; None for a file that is another by now."""
        tags: dict[bytes, str | None] = {}
        for group in _by_size(files):
            found = await self._step(_tags_of, root, group)
            tags |= {seen.key: tag for seen, tag in zip(group, found, strict=True)}
        return tags

    def _is_event(self, seen: Seen, row: Remembered | None) -> bool:
        if _is_unchanged(seen, row) or self._was_there_before(seen, row):
            return False
        return self._rules.wanted(CREATED, seen.key)

    def _was_there_before(self, seen: Seen, row: Remembered | None) -> bool:
        """Whether it was there when the trigger was born, and that is no event."""
        bucket = self._bucket
        assert bucket is not None
        if row is not None or bucket.scanned or self._rules.existing:
            return False
        return seen.ctime_ns < bucket.born_ns - BORN_SLACK_NS

    def _creation(self, seen: Seen, tag: str) -> Change:
        number = self._next_sequencer()
        state = Remembered(seen.key, seen.size, seen.mtime_ns, seen.inode, tag, number, self._root)
        event = Pending(number, seen.key, CREATED, self._wall_ns() // 1_000_000, seen.size, tag)
        return Change(seen.key, state, event)

    def _silence(self, seen: Seen, row: Remembered | None) -> Change:
        """Remembered, and nobody is told."""
        tag, number = ("", 0) if row is None else (row.etag, row.sequencer)
        state = Remembered(seen.key, seen.size, seen.mtime_ns, seen.inode, tag, number, self._root)
        return Change(seen.key, state, None)

    def _removal(self, row: Remembered) -> Change:
        if not self._rules.wanted(REMOVED, row.key):
            return Change(row.key, None, None)
        number, time_ms = self._next_sequencer(), self._wall_ns() // 1_000_000
        return Change(row.key, None, Pending(number, row.key, REMOVED, time_ms, None, None))

    def _next_sequencer(self) -> int:
        """Rises for ever, even if all memory was lost: it is not behind the clock."""
        self._sequencer = max(self._sequencer + 1, self._wall_ns())
        return self._sequencer

    # -- files in the making

    def _is_settled(self, seen: Seen) -> bool:
        now, settle = self._clock(), self._rules.settle_seconds
        age = (self._wall_ns() - seen.mtime_ns) / 1e9
        waiting = self._waiting.get(seen.key)
        since = waiting.since if waiting is not None and waiting.seen == seen else now
        left = since + settle - now
        if age >= 0:  # else the clock of the files is not ours
            left = min(left, settle - age)
        if left > 0:
            self._wait_for(seen, since, left)
        return left <= 0

    def _wait_for(self, seen: Seen, since: Instant, seconds: float) -> None:
        if seen.key in self._waiting or len(self._waiting) < UNSETTLED_MAX:
            due = Instant(self._clock() + seconds)
            self._waiting[seen.key] = _Waiting(seen, since, due)

    # -- the directory

    async def elsewhere(self) -> int:
        """How many objects were last seen in another directory of that name."""
        if self._strangers != 0:
            self._strangers = await self._objects.elsewhere(self._root)
        return self._strangers

    async def _swept(self) -> None:
        assert self._bucket is not None
        if not self._bucket.scanned:
            await self._objects.scanned()
            self._bucket = self._bucket._replace(scanned=True)

    async def _open_root(self) -> Folder:
        """The directory as it is named now, recognised."""
        try:
            root = await self._step(tree.open_root, self._rules.path)
            found = await self._step(tree.identity, root)
        except OSError as error:
            raise _world_error(self._rules.path, error) from error
        if found != self.identity:
            self._root = await self._objects.root(found)
            self.identity, self._strangers = found, None
        return root

    async def _step(self, work: Callable[..., T], *arguments: object) -> T:
        """Off the loop, one at a time, with a deadline."""
        try:
            with anyio.fail_after(STEP_SECONDS):
                return await to_thread.run_sync(
                    partial(work, *arguments), abandon_on_cancel=True, limiter=self._thread
                )
        except TimeoutError as error:
            raise Unreachable(
                f"{self._rules.path} has not answered within {STEP_SECONDS:.0f} s"
            ) from error

    def _wall_ns(self) -> int:
        return int(self._wall_clock() * 1e9)


def _merged(seen: Sequence[Seen], rows: Sequence[Remembered]) -> Iterator[Pair]:
    """Both in the order of their keys, side by side."""
    files, memory = iter(seen), iter(rows)
    file, row = next(files, None), next(memory, None)
    while file is not None or row is not None:
        if row is None or (file is not None and file.key < row.key):
            yield file, None
            file = next(files, None)
        elif file is None or row.key < file.key:
            yield None, row
            row = next(memory, None)
        else:
            yield file, row
            file, row = next(files, None), next(memory, None)


def _is_unchanged(seen: Seen, row: Remembered | None) -> bool:
    return row is not None and (
        (seen.size, seen.mtime_ns, seen.inode) == (row.size, row.mtime_ns, row.inode)
    )


def _by_size(files: Iterable[Seen]) -> Iterator[list[Seen]]:
    """Groups that are read in one go."""
    group: list[Seen] = []
    size = 0
    for seen in files:
        group.append(seen)
        size += seen.size if seen.size <= tree.MD5_BYTES_MAX else 0
        if size >= TAG_BYTES or len(group) == TAG_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _tags_of(root: Folder, files: Iterable[Seen]) -> list[str | None]:
    return [tree.entity_tag(root, seen) for seen in files]


def _look_at(root: Folder, keys: Iterable[bytes]) -> list[Look | None]:
    return [tree.look(root, key) for key in keys]


def _folders_of(root: Folder, keys: Iterable[bytes]) -> list[bytes]:
    return [key for key in keys if tree.is_folder(root, key)]


def _world_error(path: Path, error: OSError) -> WorldError:
    reason = f"{path}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Gone(reason)
    return Refused(reason) if isinstance(error, PermissionError) else Unreachable(reason)
